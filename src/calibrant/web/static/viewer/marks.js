// @ts-check
/** Marks that a script put on a frame: dots, pluses, crosses, stars, words. */
import { outlined } from './navigate.js';

/** @typedef {import('./state.js').Mark} Mark */

/** Strokes of a symbol about (0, 0) with half-width 1. @type {Record<string, [number, number, number, number][]>} */
const STROKES = {
  '+': [[-1, 0, 1, 0], [0, -1, 0, 1]],
  x: [[-0.7, -0.7, 0.7, 0.7], [-0.7, 0.7, 0.7, -0.7]],
};
STROKES['*'] = [...STROKES['+'], ...STROKES.x];

/** @param {CanvasRenderingContext2D} context @param {Mark} mark @param {[number, number]} at @param {number} radius on the screen */
function symbol(context, mark, [x, y], radius) {
  const strokes = STROKES[mark.symbol ?? 'o'];
  outlined(context, () => {
    if (!strokes) context.arc(x, y, radius, 0, 2 * Math.PI);
    for (const [x0, y0, x1, y1] of strokes ?? []) {
      context.moveTo(x + x0 * radius, y + y0 * radius);
      context.lineTo(x + x1 * radius, y + y1 * radius);
    }
  }, mark.colour ?? '#7ee787');
}

/** @param {CanvasRenderingContext2D} context @param {Mark} mark @param {number} x @param {number} y */
function words(context, mark, x, y) {
  context.font = '13px system-ui, sans-serif';
  context.textBaseline = 'middle';
  context.lineWidth = 3;
  context.strokeStyle = 'rgba(0, 0, 0, 0.75)';
  context.strokeText(mark.text ?? '', x, y);
  context.fillStyle = mark.colour ?? '#7ee787';
  context.fillText(mark.text ?? '', x, y);
}

/** @param {import('./app.js').App} app */
export function marks(app) {
  app.overlay((context, frame, toScreen, camera) => {
    for (const mark of frame.marks) {
      if (!Number.isFinite(mark.row) || !Number.isFinite(mark.col)) continue;
      const at = toScreen(mark.row, mark.col);
      // The size is in pixels of the image, yet never too small to be seen.
      const radius = Math.max(3, (mark.size ?? 2) * camera.zoom);
      context.lineWidth = 2;
      if (mark.symbol !== 'text') symbol(context, mark, at, radius);
      if (mark.text) words(context, mark, mark.symbol === 'text' ? at[0] : at[0] + radius + 5, at[1]);
    }
  });
}
