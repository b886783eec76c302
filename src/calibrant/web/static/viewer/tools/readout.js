// @ts-check
/** All that is known of one pixel: every plane exactly as the file has it, flags, amplifier, place on the sky. */
import { el, facts, latest, rested, shownOf } from './dom.js';

/** Milliseconds the pointer rests before the server is asked. */
const REST = 60;
const HINT = 'Point at a pixel; a click keeps it.';

/** @param {any} found */
function rows(found) {
  const flags = (/** @type {any} */ dq) => (dq ? `${dq.value}${dq.names.length ? ` ${dq.names.join(', ')}` : ' (none)'}` : null);
  return /** @type {[string, any][]} */ ([
    ['row, column', `${found.row}, ${found.col}`],
    ['amplifier', found.amplifier],
    ...Object.entries(found.planes).map(([name, { text, unit }]) => [name, `${text}${unit ? ` ${unit}` : ''}`]),
    ['flags', flags(found.dq)],
    ['flags of the read', flags(found.read_dq)],
    ['sky', found.sky ? `${found.sky.text}` : null],
    ['', found.sky ? `${found.sky.ra.toFixed(6)}°, ${found.sky.dec.toFixed(6)}°` : null],
  ]);
}

/** @param {import('../app.js').App} app */
export function readout(app) {
  const body = el('div', { 'data-testid': 'readout' }, HINT);
  const panel = app.panel('readout', 'Pixel', body, { open: true });
  const ask = latest();
  /** @type {{frame: number, row: number, col: number}|null} */
  let at = null;

  const show = rested(async () => {
    const shown = app.showing();
    const frame = shown.length > 1 && at ? app.frame(at.frame) : shown[0];
    const meta = frame && app.meta(frame);
    if (!panel.open) return;
    if (!frame || !meta || !at) return void (body.textContent = (frame && app.trouble(frame)) ?? HINT);
    if (at.row < 0 || at.col < 0 || at.row >= meta.shape[0] || at.col >= meta.shape[1]) return;
    try {
      const found = await ask(app.api.image(meta.id, 'pixel', { row: at.row, col: at.col, read: shownOf(app, frame).read }));
      if (found) body.replaceChildren(facts(rows(found)));
    } catch (reason) {
      body.textContent = /** @type {Error} */ (reason).message;
    }
  }, REST);

  const point = (/** @type {any} */ pointer) => {
    if (!pointer) return;
    at = { frame: pointer.frame.number, row: Math.round(pointer.row), col: Math.round(pointer.col) };
    show();
  };
  app.on('pointer', point);
  app.on('click', point);
  app.on('change', show);
  app.on('image', show);
  panel.addEventListener('toggle', show);
}
