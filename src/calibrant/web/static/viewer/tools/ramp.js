// @ts-check
/** Cubes: a slider over the reads, and the ramp of the chosen pixel. */
import { el, latest } from './dom.js';
import { Plot } from './plot.js';

/** @param {import('../app.js').App} app */
export function ramp(app) {
  const slider = el('input', { type: 'range', min: 0, max: 0, step: 1, value: 0, 'data-testid': 'read', 'aria-label': 'Read', oninput: () => app.set({ read: Number(slider.value) }) });
  const count = el('output', { 'data-testid': 'read-words' });
  const words = el('p', { class: 'soft', 'data-testid': 'ramp-words' }, 'Click a pixel for its ramp.');
  const body = el('div', { 'data-testid': 'ramp' });
  const panel = app.panel('ramp', 'Reads', el('div', {}, el('label', { class: 'wide' }, 'Read ', slider, ' ', count), words, body));
  const plot = new Plot(body, { x: 'read', chosen: (x) => app.set({ read: Math.round(x) }) });
  const ask = latest();
  panel.hidden = true;

  function show() {
    const frame = app.frame();
    const meta = frame && app.meta(frame);
    if (!frame || !meta) return;
    panel.hidden = meta.reads < 2;
    if (!panel.hidden && !panel.dataset.met) {
      panel.dataset.met = '1';
      panel.open = true;
    }
    slider.max = String(meta.reads - 1);
    slider.value = String(Math.min(frame.read, meta.reads - 1));
    const axes = /** @type {any} */ (meta).axes ?? [];
    const inner = axes.at(-1) ?? meta.reads;
    const integration = axes.length > 1 ? `integration ${Math.floor(Number(slider.value) / inner)}, ` : '';
    count.textContent = `${integration}${Number(slider.value) % inner} of ${inner - 1}`;
  }

  /** @param {any} place */
  async function click(place) {
    const frame = app.frame(place.frame.number ?? place.frame);
    const meta = frame && app.meta(frame);
    const [row, col] = [Math.round(place.row), Math.round(place.col)];
    if (!frame || !meta || meta.reads < 2 || !panel.open || row < 0 || col < 0 || row >= meta.shape[0] || col >= meta.shape[1]) return;
    try {
      const found = await ask(app.api.image(meta.id, 'ramp', { row, col }));
      if (!found) return;
      const x = found.values.map((/** @type {any} */ _, /** @type {number} */ n) => n);
      const curves = [{ label: 'ramp', x, y: found.values, points: true }];
      const flagged = (found.read_dq ?? []).map((/** @type {number} */ flag, /** @type {number} */ n) => (flag ? found.values[n] : null));
      if (flagged.some((/** @type {any} */ value) => value !== null)) curves.push({ label: 'flagged', x, y: flagged, points: true });
      await plot.show(found.unit || 'value', curves, `Ramp of row ${row}, column ${col}`);
      const times = found.times ? `, ${found.times.at(-1)} s` : '';
      words.textContent = `Row ${row}, column ${col}: ${found.values.length} reads${times}. ${flagged.length && curves.length > 1 ? 'Flagged reads in the second colour. ' : ''}A click on the plot goes to that read.`;
      panel.dataset.shown = `${row},${col}`;
    } catch (reason) {
      words.textContent = /** @type {Error} */ (reason).message;
    }
  }

  app.on('change', show);
  app.on('image', show);
  app.on('click', click);
  const step = (/** @type {number} */ by) => app.set({ read: Math.min(Number(slider.max), Math.max(0, (app.frame()?.read ?? 0) + by)) });
  app.key(']', 'Next read', () => step(1));
  app.key('[', 'Previous read', () => step(-1));
}
