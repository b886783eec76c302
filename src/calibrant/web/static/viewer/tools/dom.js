// @ts-check
/** Small parts of pages that the tools share. */

/**
 * An element with attributes and children; `on…` are listeners.
 * @param {string} name @param {Record<string, any>} [given] @param {...(Node|string)} children @returns {any}
 */
export function el(name, given = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(given)) {
    if (key.startsWith('on')) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, '');
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, String(value));
  }
  made.append(...children);
  return made;
}

/** A table of names and values; what has no value is left out. @param {[string, any][]} rows */
export function facts(rows) {
  const told = rows.filter(([, value]) => value !== null && value !== undefined && value !== '');
  return el('table', { class: 'facts' }, el('tbody', {}, ...told.map(([name, value]) => el('tr', {}, el('th', { scope: 'row' }, name), el('td', {}, value instanceof Node ? value : String(value))))));
}

/** @param {number|null|undefined} value @param {number} [digits] */
export function told(value, digits = 6) {
  if (value === null || value === undefined || !Number.isFinite(value)) return '–';
  return String(Number(value.toPrecision(digits))).replace('-', '−');
}

/** Only the last answer of a kind counts: those overtaken by a later question are dropped. */
export function latest() {
  let asked = 0;
  /** @template T @param {Promise<T>} answer @returns {Promise<T|null>} */
  return async (answer) => {
    const mine = ++asked;
    const found = await answer;
    return mine === asked ? found : null;
  };
}

/** Wait until calls have stopped for a while. @param {() => void} fn @param {number} pause milliseconds */
export function rested(fn, pause) {
  /** @type {ReturnType<typeof setTimeout>|undefined} */
  let timer;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(fn, pause);
  };
}

/** The unit of the plane on show. @param {import('../app.js').App} app @param {import('../state.js').Frame} frame */
export const unitOf = (app, frame) => app.meta(frame)?.planes.find(({ name }) => name === app.planeOf(frame))?.unit ?? '';

/** What is asked of the server about the plane and read on show. @param {import('../app.js').App} app @param {import('../state.js').Frame} frame */
export function shownOf(app, frame) {
  const reads = app.meta(frame)?.reads ?? 1;
  return { plane: app.planeOf(frame), read: Math.min(frame.read, Math.max(0, reads - 1)) };
}
