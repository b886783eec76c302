// @ts-check
/** Row and column through a pixel, and the profile along a drawn line. */
import { outlined } from '../navigate.js';
import { el, latest, rested, shownOf, unitOf } from './dom.js';
import { Plot } from './plot.js';

/** @param {import('../app.js').App} app */
export function cuts(app) {
  const row = el('div', { 'data-testid': 'cut-row' });
  const col = el('div', { 'data-testid': 'cut-col' });
  const line = el('div', { 'data-testid': 'cut-line' });
  const words = el('p', { class: 'soft', 'data-testid': 'cut-words' }, 'Click a pixel for its row and column.');
  const draw = el('button', { type: 'button', 'aria-pressed': 'false', 'data-testid': 'line-tool', title: 'Draw a line across the image (n)', onclick: () => arm(!armed) }, 'Profile along a line');
  const panel = app.panel('cuts', 'Cuts', el('div', {}, words, row, col, draw, line));
  const choose = (/** @type {string} */ axis) => (/** @type {number} */ x) => {
    if (at) void cut({ ...at, [axis]: Math.round(x) });
  };
  const plots = { row: new Plot(row, { x: 'column', chosen: choose('col') }), col: new Plot(col, { x: 'row', chosen: choose('row') }), line: new Plot(line, { x: 'distance [pixel]' }) };
  const ask = latest();
  const askLine = latest();
  /** @type {{frame: number, row: number, col: number}|null} */
  let at = null;
  /** @type {{frame: number, from: [number, number], to: [number, number]}|null} */
  let drawn = null;
  let armed = false;

  /** @param {boolean} on */
  function arm(on) {
    armed = on;
    draw.setAttribute('aria-pressed', String(on));
    if (on) panel.open = true;
  }

  /** @param {{frame: number, row: number, col: number}} place */
  async function cut(place) {
    const frame = app.frame(place.frame);
    const meta = frame && app.meta(frame);
    if (!frame || !meta || place.row < 0 || place.col < 0 || place.row >= meta.shape[0] || place.col >= meta.shape[1]) return;
    at = place;
    app.draw();
    const shown = shownOf(app, frame);
    try {
      const found = await ask(Promise.all([app.api.image(meta.id, 'cut', { ...shown, row: place.row }), app.api.image(meta.id, 'cut', { ...shown, col: place.col })]));
      if (!found) return;
      words.textContent = `Row ${place.row} and column ${place.col} of ${meta.name}`;
      const unit = unitOf(app, frame) || 'value';
      const index = (/** @type {any} */ one) => one.values.map((/** @type {any} */ _, /** @type {number} */ n) => n);
      await plots.row.show(unit, [{ label: `row ${place.row}`, x: index(found[0]), y: found[0].values }], `Values along row ${place.row}`);
      await plots.col.show(unit, [{ label: `column ${place.col}`, x: index(found[1]), y: found[1].values }], `Values along column ${place.col}`);
      panel.dataset.shown = `${place.row},${place.col}`;
    } catch (reason) {
      words.textContent = /** @type {Error} */ (reason).message;
    }
  }

  const profile = rested(async () => {
    const frame = drawn && app.frame(drawn.frame);
    const meta = frame && app.meta(frame);
    if (!drawn || !frame || !meta) return;
    const whole = (/** @type {[number, number]} */ [r, c]) => [Math.min(meta.shape[0] - 1, Math.max(0, r)), Math.min(meta.shape[1] - 1, Math.max(0, c))].map((x) => x.toFixed(2)).join(',');
    try {
      const found = await askLine(app.api.image(meta.id, 'line', { ...shownOf(app, frame), from: whole(drawn.from), to: whole(drawn.to) }));
      if (found) await plots.line.show(unitOf(app, frame) || 'value', [{ label: 'profile', x: found.distances ?? found.distance, y: found.values }], 'Values along the line');
    } catch (reason) {
      words.textContent = /** @type {Error} */ (reason).message;
    }
  }, 60);

  app.grab(({ kind, frame, row: r, col: c, event }) => {
    if (kind === 'down') {
      if (!armed || event.button !== 0) return false;
      drawn = { frame: frame.number, from: [r, c], to: [r, c] };
    } else if (drawn) {
      drawn.to = [r, c];
      if (kind === 'up') arm(false);
      profile();
    }
    app.draw();
    return true;
  });
  app.overlay((context, frame, toScreen, camera) => {
    context.lineWidth = 1;
    if (at?.frame === frame.number && panel.open) {
      const { x, y, w, h } = camera.cell;
      const [px, py] = toScreen(at.row, at.col);
      outlined(context, () => {
        context.moveTo(x, py);
        context.lineTo(x + w, py);
        context.moveTo(px, y);
        context.lineTo(px, y + h);
      }, 'rgba(122, 184, 255, 0.75)');
    }
    if (drawn?.frame === frame.number && panel.open) {
      context.lineWidth = 2;
      const [from, to] = [toScreen(...drawn.from), toScreen(...drawn.to)];
      outlined(context, () => {
        context.moveTo(...from);
        context.lineTo(...to);
      }, '#7ee787');
    }
  });
  const click = (/** @type {any} */ place) => panel.open && void cut({ frame: place.frame.number ?? place.frame, row: Math.round(place.row), col: Math.round(place.col) });
  app.on('click', click);
  app.on('change', ({ patch }) => {
    if (at && panel.open && ['plane', 'read', 'image'].some((name) => name in patch)) void cut(at);
  });
  app.key('x', 'Cuts along the row and column of the chosen pixel', () => {
    panel.open = !panel.open;
    const view = app.frame() && app.stage?.view(/** @type {any} */ (app.frame()));
    if (panel.open && view) void cut(at ?? { frame: app.state.current, row: Math.round(view.row), col: Math.round(view.col) });
    app.draw();
  });
  app.key('n', 'Draw a line, for the profile along it', () => arm(!armed));
}
