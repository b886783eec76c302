// @ts-check
/** Histogram of the image or of the last box, with the limits of the colours; a click sets the nearer limit. */
import { el, latest, rested, shownOf, unitOf } from './dom.js';
import { Plot } from './plot.js';

/** @param {import('../app.js').App} app */
export function histogram(app) {
  const body = el('div', { 'data-testid': 'histogram' });
  const words = el('p', { class: 'soft', 'data-testid': 'histogram-words' });
  const wide = el('input', { type: 'checkbox', 'data-testid': 'histogram-all', onchange: () => ask() });
  const panel = app.panel('histogram', 'Histogram', el('div', {}, body, words, el('label', {}, wide, ' all values, not only those between the limits')));
  const plot = new Plot(body, { x: 'value', log: true, chosen: (x) => limit(x) });
  const wait = latest();
  /** @type {any} */
  let box = null;

  /** @param {number} x */
  function limit(x) {
    const frame = app.frame();
    if (!frame) return;
    const [low, high] = app.limits(frame);
    app.set({ limits: { mode: 'typed', ...(Math.abs(x - low) < Math.abs(x - high) ? { low: x, high } : { low, high: x }) } });
  }

  const ask = rested(async () => {
    const frame = app.frame();
    const meta = frame && app.meta(frame);
    if (!frame || !meta || !panel.open) return;
    const [low, high] = app.limits(frame);
    const room = (high - low) * 0.25;
    const within = wide.checked || !Number.isFinite(room) || room <= 0 ? {} : { low: low - room, high: high + room };
    const boxed = box?.frame === frame.number ? { rows: box.rows.join(','), cols: box.cols.join(',') } : {};
    try {
      const found = await wait(app.api.image(meta.id, 'histogram', { ...shownOf(app, frame), bins: 200, ...within, ...boxed }));
      if (!found) return;
      const edges = found.edges;
      const counts = found.counts.map((/** @type {number} */ n) => n || null);
      await plot.show('pixels', [{ label: 'pixels', x: edges.slice(0, -1), y: counts, steps: true }], `Histogram of ${meta.name}`);
      const unit = unitOf(app, frame);
      words.textContent = `${'rows' in boxed ? 'The box' : meta.name}${unit ? `, in ${unit}` : ''}. A click moves the nearer limit there.`;
    } catch (reason) {
      words.textContent = /** @type {Error} */ (reason).message;
    }
  }, 120);

  app.on('box', (drawn) => {
    box = { ...drawn, frame: drawn.frame.number ?? drawn.frame };
    ask();
  });
  app.on('change', ask);
  app.on('image', ask);
  panel.addEventListener('toggle', ask);
  app.key('j', 'Histogram', () => {
    panel.open = !panel.open;
  });
}
