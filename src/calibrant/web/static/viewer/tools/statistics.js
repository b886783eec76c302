// @ts-check
/** Numbers of a drawn box, or of the whole image: counts, mean, scatter, clipped and robust, extremes. */
import { el, facts, latest, shownOf, told, unitOf } from './dom.js';

/** Numbers of pixels, which have no unit. */
const COUNTS = new Set(['pixels', 'not_finite', 'clipped n']);

/** @param {import('../app.js').App} app */
export function statistics(app) {
  const body = el('div', { 'data-testid': 'statistics', 'aria-live': 'polite' }, 'Draw a box: Shift and drag, or region and “Numbers”.');
  const whole = el('button', { type: 'button', 'data-testid': 'statistics-whole', onclick: () => ask(null) }, 'Whole image');
  const panel = app.panel('statistics', 'Statistics', el('div', {}, body, whole));
  const wait = latest();
  /** @type {any} */
  let box = null;

  /** @param {any} given */
  async function ask(given) {
    const frame = given ? app.frame(given.frame) : app.frame();
    const meta = frame && app.meta(frame);
    if (!frame || !meta) return void (body.textContent = (frame && app.trouble(frame)) ?? 'There is no image.');
    box = given;
    const [rows, cols] = given ? [given.rows, given.cols] : [[0, meta.shape[0]], [0, meta.shape[1]]];
    const slow = setTimeout(() => (body.textContent = 'Counting …'), 400);
    try {
      const found = await wait(app.api.image(meta.id, 'statistics', { ...shownOf(app, frame), rows: rows.join(','), cols: cols.join(',') }));
      if (found) body.replaceChildren(facts([['image', `${frame.number} ${meta.name}`], ...lines(found, rows, cols, unitOf(app, frame))]));
    } catch (reason) {
      body.textContent = /** @type {Error} */ (reason).message;
    } finally {
      clearTimeout(slow);
    }
  }

  app.on('box', (drawn) => {
    panel.open = true;
    void ask({ ...drawn, frame: drawn.frame.number ?? drawn.frame });
  });
  app.on('change', ({ patch }) => {
    if (box && panel.open && ['plane', 'read', 'image'].some((name) => name in patch)) void ask(box);
  });
  app.key('u', 'Numbers of the whole image', () => {
    panel.open = true;
    void ask(null);
  });
}

/** @param {any} found @param {number[]} rows @param {number[]} cols @param {string} unit @returns {[string, any][]} */
function lines(found, rows, cols, unit) {
  const { plane, read, unit: _, step, rows: __, cols: ___, n, ...numbers } = found;
  const place = /** @type {[string, any]} */ (['rows, columns', `${rows[0]} to ${rows[1] - 1}, ${cols[0]} to ${cols[1] - 1}`]);
  // Numbers of a kind, such as those after clipping, come together.
  const flat = Object.entries(numbers).flatMap(([name, value]) => (value && typeof value === 'object' && !Array.isArray(value) ? Object.entries(value).map(([inner, one]) => [`${name} ${inner}`, one]) : [[name, value]]));
  const values = flat.map(([name, value]) => {
    const words = name.replaceAll('_', ' ');
    if (Array.isArray(value)) return [words, value.join(', ')];
    if (typeof value !== 'number') return [words, value];
    return [words, COUNTS.has(name) || !unit ? told(value, 8) : `${told(value, 8)} ${unit}`];
  });
  const sampled = step > 1 ? [['sample', `every ${step}th row and column`]] : [];
  return [place, ...(/** @type {[string, any][]} */ (values)), ...(/** @type {[string, any][]} */ (sampled))];
}
