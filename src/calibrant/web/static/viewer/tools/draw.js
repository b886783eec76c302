// @ts-check
/** Regions on the picture: drawn by dragging, read and written as files of DS9. */
import { outlined } from '../navigate.js';
import { el } from './dom.js';
import { corners, covered, parsed, written } from './regions.js';

/** @typedef {import('./regions.js').Region} Region */

/** Screen pixels within which a corner is the one before. */
const NEAR = 4;
const SHAPES = /** @type {const} */ (['box', 'circle', 'polygon']);

/** @param {Region} one */
const words = (one) => {
  const n = (/** @type {number|undefined} */ x) => Number((x ?? 0).toFixed(1));
  if (one.shape === 'polygon') return `polygon of ${one.points?.length} corners`;
  const size = one.shape === 'circle' ? `radius ${n(one.radius)}` : `${n(one.height)} × ${n(one.width)}${one.angle ? `, ${n(one.angle)}°` : ''}`;
  return `${one.shape} at ${n(one.row)}, ${n(one.col)}: ${size}`;
};

/** What is being drawn, from where it began to where the pointer is. @param {string} shape @param {[number, number]} from @param {[number, number]} to @returns {Region} */
function between(shape, from, to) {
  const [high, wide] = [Math.abs(to[0] - from[0]), Math.abs(to[1] - from[1])];
  if (shape === 'circle') return { shape, row: fine(from[0]), col: fine(from[1]), radius: fine(Math.max(0.5, Math.hypot(high, wide))), colour: 'green' };
  const [row, col] = [fine((from[0] + to[0]) / 2), fine((from[1] + to[1]) / 2)];
  return { shape: 'box', row, col, height: fine(Math.max(1, high)), width: fine(Math.max(1, wide)), angle: 0, colour: 'green' };
}

/** Hundredths of a pixel: nobody points more finely. @param {number} x */
const fine = (x) => Math.round(x * 100) / 100;

/** @param {import('../app.js').App} app */
export function draw(app) {
  const list = el('ul', { class: 'regions', 'data-testid': 'regions' });
  const file = el('input', { type: 'file', accept: '.reg,text/plain', hidden: true, 'data-testid': 'regions-file', onchange: () => void read() });
  const tools = SHAPES.map((shape) => el('button', { type: 'button', 'aria-pressed': 'false', 'data-testid': `draw-${shape}`, title: `Draw a ${shape} (r goes through the shapes)`, onclick: () => arm(armed === shape ? null : shape) }, shape));
  const hint = el('p', { class: 'soft', role: 'status', 'data-testid': 'regions-hint' });
  const panel = app.panel('regions', 'Regions', el('div', {},
    el('div', { class: 'row' }, ...tools), hint, list,
    el('div', { class: 'row' }, el('button', { type: 'button', 'data-testid': 'regions-read', onclick: () => file.click() }, 'Read …'),
      el('button', { type: 'button', 'data-testid': 'regions-write', onclick: () => write() }, 'Save'),
      el('button', { type: 'button', 'data-testid': 'regions-clear', onclick: () => app.set({ regions: [] }) }, 'Clear')), file));
  /** @type {string|null} */
  let armed = null;
  /** @type {{frame: number, from: [number, number], to: [number, number], points: [number, number][]}|null} */
  let drawing = null;

  /** @param {string|null} shape */
  function arm(shape) {
    armed = shape;
    drawing = null;
    tools.forEach((tool, at) => tool.setAttribute('aria-pressed', String(SHAPES[at] === shape)));
    hint.textContent = shape === 'polygon' ? 'Click the corners, or Space at the cross; Enter or a double click closes it.' : shape ? `Drag to draw a ${shape}; or Space, Shift and arrows, Space.` : '';
    if (shape) panel.open = true;
    app.draw();
  }

  /** @param {Region} region @param {number} number */
  function add(region, number) {
    const frame = app.frame(number);
    if (frame) app.set({ regions: [...frame.regions, region] }, number);
  }

  function close() {
    if (armed === 'polygon' && drawing && drawing.points.length > 2) add({ shape: 'polygon', points: drawing.points, colour: 'green' }, drawing.frame);
    arm(null);
  }

  async function read() {
    const chosen = file.files?.[0];
    file.value = '';
    if (!chosen) return;
    if (chosen.size > 5e6) return app.say(`${chosen.name} is too large for a region file: expected at most 5 MB.`);
    const { regions, left } = parsed(await chosen.text());
    const frame = app.frame();
    if (frame) app.set({ regions: [...frame.regions, ...regions] });
    const more = left.length > 1 ? ` and ${left.length - 1} more` : '';
    app.say(left.length ? `${regions.length} regions of ${chosen.name} are shown; left out: ${left[0].replace(/\.$/, '')}${more}.` : null);
  }

  function write() {
    const frame = app.frame();
    const link = el('a', { download: `${(frame && app.meta(frame)?.name.replace(/\.fits?(\.\w+)?$/i, '').replaceAll(/[^\w.-]+/g, '_')) || 'image'}.reg` });
    link.href = URL.createObjectURL(new Blob([written(frame?.regions ?? [])], { type: 'text/plain' }));
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }

  function show() {
    const frame = app.frame();
    const regions = frame?.regions ?? [];
    const key = JSON.stringify([frame?.number, regions]);
    if (list.dataset.key === key) return;
    list.dataset.key = key;
    list.replaceChildren(...regions.map((one, at) => item(one, at)));
  }

  /** @param {Region} one @param {number} at */
  function item(one, at) {
    const frame = /** @type {any} */ (app.frame());
    const span = covered(one, app.meta(frame)?.shape ?? [0, 0]);
    const numbers = span && el('button', { type: 'button', class: 'quiet', 'data-testid': `region-numbers-${at}`, onclick: () => app.emit('box', { frame, ...span }) }, 'Numbers');
    const away = el('button', { type: 'button', class: 'quiet', 'aria-label': `Remove region ${at + 1}`, 'data-testid': `region-remove-${at}`, onclick: () => app.set({ regions: frame.regions.filter((/** @type {any} */ _, /** @type {number} */ n) => n !== at) }) }, '×');
    return el('li', {}, el('span', {}, one.text ? `${one.text}: ${words(one)}` : words(one)), ...(numbers ? [numbers] : []), away);
  }

  app.grab(({ kind, frame, row, col, event, camera }) => {
    if (kind === 'down') {
      if (!armed || event.button !== 0) return false;
      if (armed === 'polygon') {
        const begun = drawing && drawing.frame === frame.number ? drawing : { frame: frame.number, from: /** @type {[number, number]} */ ([row, col]), to: /** @type {[number, number]} */ ([row, col]), points: /** @type {[number, number][]} */ ([]) };
        const last = begun.points.at(-1) ?? [Infinity, Infinity];
        // The second press of a double click is no corner of its own.
        if (Math.hypot(row - last[0], col - last[1]) * camera.zoom > NEAR) begun.points.push([fine(row), fine(col)]);
        drawing = begun;
        if (event.detail > 1) close();
        app.draw();
        return 'corner';
      }
      drawing = { frame: frame.number, from: [row, col], to: [row, col], points: [] };
      return true;
    }
    if (!drawing) return true;
    drawing.to = [row, col];
    if (kind === 'up' && armed && armed !== 'polygon') {
      add(between(armed, drawing.from, drawing.to), drawing.frame);
      arm(null);
    }
    app.draw();
    return true;
  });
  app.on('pointer', (pointer) => {
    if (armed !== 'polygon' || !drawing || !pointer) return;
    drawing.to = [pointer.row, pointer.col];
    app.draw();
  });
  app.on('change', show);
  app.on('image', show);
  document.getElementById('overlay')?.addEventListener('dblclick', () => armed === 'polygon' && close());
  document.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || armed !== 'polygon' || !drawing) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    close();
  }, { capture: true });
  app.key('r', 'Draw a box, circle or polygon', () => arm(SHAPES[SHAPES.indexOf(/** @type {any} */ (armed)) + 1] ?? null));
  app.overlay((context, frame, toScreen, camera) => {
    const some = [...frame.regions];
    if (drawing?.frame === frame.number) some.push(armed === 'polygon' ? { shape: 'polygon', points: [...drawing.points, drawing.to], colour: '#ffd166' } : { ...between(armed ?? 'box', drawing.from, drawing.to), colour: '#ffd166' });
    context.lineWidth = 2;
    for (const one of some) paint(context, one, toScreen, camera.zoom);
  });
}

/** @param {CanvasRenderingContext2D} context @param {Region} one @param {(row: number, col: number) => [number, number]} toScreen @param {number} zoom */
function paint(context, one, toScreen, zoom) {
  const colour = CSS.supports('color', one.colour ?? '') ? /** @type {string} */ (one.colour) : '#7ee787';
  const points = (one.shape === 'box' ? corners(one) : (one.points ?? [])).map(([row, col]) => toScreen(row, col));
  const at = one.shape === 'circle' ? toScreen(one.row ?? 0, one.col ?? 0) : points[0];
  outlined(context, () => {
    if (one.shape === 'circle') context.arc(...at, (one.radius ?? 0) * zoom, 0, 2 * Math.PI);
    else {
      points.forEach(([x, y], n) => (n ? context.lineTo(x, y) : context.moveTo(x, y)));
      context.closePath();
    }
  }, colour === 'green' ? '#3ddc55' : colour);
  if (!one.text || !at) return;
  context.font = '12px system-ui, sans-serif';
  context.strokeStyle = 'rgba(0, 0, 0, 0.75)';
  context.lineWidth = 3;
  context.strokeText(one.text, at[0] + 6, at[1] - 6);
  context.fillStyle = '#f2f4f8';
  context.fillText(one.text, at[0] + 6, at[1] - 6);
  context.lineWidth = 2;
}
