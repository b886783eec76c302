// @ts-check
/** Focal planes: names of detectors over the picture; a double click, or Enter, opens the detector under it. */
import { open } from '../frames.js';
import { outlined } from '../navigate.js';
import { el } from './dom.js';

/** @param {any} spans @param {number} row @param {number} col */
const holds = ({ rows, cols }, row, col) => row >= rows[0] && row < rows[1] && col >= cols[0] && col < cols[1];

/** @param {import('../app.js').App} app */
export function pieces(app) {
  const list = el('ul', { class: 'pieces', 'data-testid': 'pieces' });
  const names = el('input', { type: 'checkbox', 'data-testid': 'piece-names', onchange: () => app.draw() });
  names.checked = true;
  const panel = app.panel('pieces', 'Focal plane', el('div', {}, el('p', { class: 'soft' }, 'Double-click a detector to open it, or choose it here.'), list, el('label', {}, names, ' names and borders'), el('p', { class: 'soft' }, 'The list “Plane” colours amplifiers by a quantity where products state one.')));
  panel.hidden = true;

  /** @param {any} frame @returns {any[]} */
  const of = (frame) => /** @type {any} */ (app.meta(frame))?.pieces ?? [];

  /** The detector that holds a pixel, opened with that pixel in the middle. @param {any} frame @param {number} row @param {number} col */
  function enter(frame, row, col) {
    const piece = of(frame).find((one) => holds(one, row + 0.5, col + 0.5));
    if (!piece) return;
    open(app, piece.image);
    const zoom = 2 * (app.stage?.view(frame)?.zoom ?? 1);
    const { w, h } = app.stage?.shown[0]?.cell ?? { w: 0, h: 0 };
    const whole = Math.min(w / (piece.cols[1] - piece.cols[0]), h / (piece.rows[1] - piece.rows[0]));
    if (zoom > whole) app.set({ view: { row: row - piece.rows[0], col: col - piece.cols[0], zoom, fit: false } });
  }

  function show() {
    const frame = app.frame();
    const some = frame ? of(frame) : [];
    panel.hidden = !some.length;
    const key = `${frame?.image}${some.length}`;
    if (list.dataset.key === key) return;
    list.dataset.key = key;
    if (some.length) panel.open = true;
    list.replaceChildren(...some.map((one) => el('li', {}, el('button', { type: 'button', 'data-testid': `piece-${one.name}`, onclick: () => open(app, one.image) }, one.name))));
  }

  const choice = /** @type {HTMLSelectElement} */ (document.getElementById('focal'));
  choice.addEventListener('change', () => {
    if (choice.value) open(app, choice.value);
    choice.value = '';
  });
  app.on('change', show);
  app.on('image', show);
  app.overlay((context, frame, toScreen) => {
    const some = of(frame);
    if (!some.length || !names.checked) return;
    context.font = '12px system-ui, sans-serif';
    context.lineWidth = 1;
    for (const { name, rows, cols } of some) {
      const [x0, y0] = toScreen(rows[1] - 0.5, cols[0] - 0.5);
      const [x1, y1] = toScreen(rows[0] - 0.5, cols[1] - 0.5);
      outlined(context, () => context.rect(x0, y0, x1 - x0, y1 - y0), 'rgba(200, 210, 225, 0.8)');
      context.fillStyle = 'rgba(16, 18, 22, 0.7)';
      context.fillRect(x0 + 3, y0 + 3, context.measureText(name).width + 8, 18);
      context.fillStyle = '#f2f4f8';
      context.fillText(name, x0 + 7, y0 + 16);
    }
  });
  document.getElementById('overlay')?.addEventListener('dblclick', (event) => {
    const { left, top } = /** @type {HTMLElement} */ (event.currentTarget).getBoundingClientRect();
    const at = app.stage?.at(event.clientX - left, event.clientY - top);
    if (at) enter(at.frame, Math.round(at.row), Math.round(at.col));
  });
  app.key('e', 'Enter the detector in the middle of the view', () => {
    const frame = app.frame();
    const view = frame && app.stage?.view(frame);
    if (frame && view) enter(frame, Math.round(view.row), Math.round(view.col));
  });
}
