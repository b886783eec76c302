// @ts-check
/** Keys and what they do, in one table that `?` shows. */

/** @typedef {{key: string, words: string, fn: (event: KeyboardEvent) => void}} Key */

/** How a key is called on the list. @type {Record<string, string>} */
const CAPS = { ArrowLeft: '←', ArrowRight: '→', ArrowUp: '↑', ArrowDown: '↓', ' ': 'Space', Escape: 'Esc' };

/** @param {string} key */
export const cap = (key) => (key === '+' ? key : key.split('+').map((part) => CAPS[part] ?? part).join(' '));

/** The name of what was pressed: letters as typed, `Shift+` before named keys only. @param {KeyboardEvent} event */
function pressed(event) {
  const shift = event.shiftKey && event.key.length > 1 ? 'Shift+' : '';
  return `${event.altKey ? 'Alt+' : ''}${shift}${event.key}`;
}

/** Where keys belong to what is typed in. @param {EventTarget|null} target */
function typing(target) {
  if (!(target instanceof HTMLElement)) return false;
  if (target instanceof HTMLInputElement) return !['checkbox', 'radio', 'button'].includes(target.type);
  return target instanceof HTMLSelectElement || target instanceof HTMLTextAreaElement || target.isContentEditable;
}

export class Keys {
  constructor() {
    /** @type {Map<string, Key>} */
    this.table = new Map();
  }

  /** @param {string} key @param {string} words @param {(event: KeyboardEvent) => void} fn */
  add(key, words, fn) {
    if (this.table.has(key)) throw new Error(`The key ${key} is taken: ${this.table.get(key)?.words}`);
    this.table.set(key, { key, words, fn });
  }

  /** @param {HTMLElement|Document} where */
  listen(where) {
    where.addEventListener('keydown', (given) => {
      const event = /** @type {KeyboardEvent} */ (given);
      if (event.ctrlKey || event.metaKey || event.defaultPrevented || document.querySelector('dialog[open]')) return;
      const known = this.table.get(pressed(event));
      if (!known || (typing(event.target) && event.key !== 'Escape')) return;
      // Space and the arrows belong to a button, a slider or a list that has the focus.
      if (event.target instanceof HTMLElement && event.target.closest('[data-own-keys], button, summary, a, dialog') && [' ', 'Enter'].includes(event.key)) return;
      if (event.target instanceof HTMLElement && event.target.closest('[data-own-keys]') && event.key.startsWith('Arrow')) return;
      event.preventDefault();
      known.fn(event);
    });
  }
}
