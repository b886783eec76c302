// @ts-check
/** Which tiles a cell is painted with, from coarse to fine, and which are still to come. Pure. */
import { coarsest, inView, levelFor } from './camera.js';

/** @typedef {import('./tiles.js').Tile} Tile */
/** @typedef {import('./sources.js').Source} Source */
/** @typedef {import('./sources.js').Want} Want */
/**
 * @typedef {object} Draw a tile on the screen, in device pixels from the top left
 * @property {Tile} tile
 * @property {Tile|null} flags
 * @property {number} x0 @property {number} x1 @property {number} y0 @property {number} y1 what it covers, clipped to the cell
 * @property {number} left where its first column begins @property {number} bottom where its first row begins
 * @property {number} size of one of its pixels
 */
/**
 * @typedef {object} Paint
 * @property {number} code of the stretch @property {number} parameter of the stretch @property {Float32Array|null} equal
 * @property {[number, number]} limits
 * @property {Uint8Array} lut @property {number[]} nan @property {number[]} none
 * @property {number} shown flags to be drawn @property {number} blank flags that together mean no data; 0 for none
 * @property {number} alpha @property {number[][]} tints colour of each of 32 flags
 */
/** @typedef {{x: number, y: number, w: number, h: number, draws: Draw[], paint: Paint}} Painted a cell in device pixels */

/** First and one past the last device pixel whose centre lies between two edges. @param {number} a @param {number} b @param {number} from @param {number} to */
const covered = (a, b, from, to) => [Math.max(from, Math.ceil(a - 0.5)), Math.min(to, Math.ceil(b - 0.5))];

/**
 * @param {import('./camera.js').Camera} camera @param {Tile} tile @param {Tile|null} flags @param {number} level
 * @param {{ty: number, tx: number}} place @param {number} edge pixels along a whole tile
 * @returns {Draw|null} null where nothing of it is seen
 */
export function placed(camera, tile, flags, level, { ty, tx }, edge) {
  const { ratio, cell } = camera;
  const size = camera.zoom * ratio * 2 ** level;
  const left = camera.left * ratio + tx * edge * size;
  const bottom = camera.bottom * ratio - ty * edge * size;
  const [x0, x1] = covered(left, left + tile.cols * size, Math.round(cell.x * ratio), Math.round((cell.x + cell.w) * ratio));
  const [y0, y1] = covered(bottom - tile.rows * size, bottom, Math.round(cell.y * ratio), Math.round((cell.y + cell.h) * ratio));
  return x0 < x1 && y0 < y1 ? { tile, flags, x0, x1, y0, y1, left, bottom, size } : null;
}

/**
 * @param {import('./camera.js').Camera} camera @param {Source} source @param {Source|null} flags @param {'mean'|'peak'} pyramid
 * @param {Want} want called with what is missing, most urgent first
 * @returns {Draw[]} in the order of painting
 */
export function compose(camera, source, flags, pyramid, want) {
  const { levels, tile: edge } = source.meta;
  const coarse = coarsest(levels, edge);
  const level = levelFor(camera.zoom * camera.ratio, levels.length, pyramid);
  /** @type {Draw[]} */
  const draws = [];
  const at = (/** @type {number} */ k, /** @type {Want} */ ask) => {
    let whole = true;
    for (const place of inView(camera, levels[k], k, edge)) {
      const tile = source.get(k, place.ty, place.tx, ask);
      whole &&= Boolean(tile);
      if (!tile) continue;
      const draw = placed(camera, tile, flags?.get(k, place.ty, place.tx, ask) ?? null, k, place, edge);
      if (draw) draws.push(draw);
    }
    return whole;
  };
  if (level < coarse) {
    source.get(coarse, 0, 0, want);
    const fine = draws.length;
    if (at(level, want)) return draws;
    const over = draws.splice(fine);
    for (let k = coarse; k > level; k--) at(k, () => undefined);
    draws.push(...over);
    return draws;
  }
  at(level, want);
  return draws;
}
