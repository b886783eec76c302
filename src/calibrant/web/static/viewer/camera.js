// @ts-check
/** Where pixels lie on the screen. Row 0 at the bottom; the centre of a pixel has whole row and column. Pure. */

/** @typedef {{x: number, y: number, w: number, h: number}} Cell in CSS pixels, y from the top of the stage */
/** @typedef {import('./state.js').View} View */
/** @typedef {{row: number, col: number, zoom: number, fit: boolean}} Settled */

/** The view with `fit` worked out. @param {View} view @param {Cell} cell @param {[number, number]} shape @returns {Settled} */
export function settled(view, cell, [rows, cols]) {
  const middle = { row: (rows - 1) / 2, col: (cols - 1) / 2 };
  if (!view.fit) return { ...view, row: view.row ?? middle.row, col: view.col ?? middle.col };
  return { ...middle, zoom: Math.min(128, Math.max(1, cell.w - 8) / cols, Math.max(1, cell.h - 8) / rows), fit: true };
}

export class Camera {
  /** @param {Settled} view @param {Cell} cell @param {number} ratio device pixels per CSS pixel */
  constructor(view, cell, ratio = 1) {
    this.cell = cell;
    this.zoom = view.zoom;
    this.ratio = ratio;
    // On a whole device pixel, so that at 1:1 every pixel of the screen is one of the image.
    this.left = Math.round((cell.x + cell.w / 2 - (view.col + 0.5) * view.zoom) * ratio) / ratio;
    this.bottom = Math.round((cell.y + cell.h / 2 + (view.row + 0.5) * view.zoom) * ratio) / ratio;
  }

  /** @param {number} row @param {number} col @returns {[number, number]} x, y on the stage */
  toScreen = (row, col) => [this.left + (col + 0.5) * this.zoom, this.bottom - (row + 0.5) * this.zoom];

  /** @param {number} x @param {number} y @returns {[number, number]} row, col; the nearest whole numbers name the pixel */
  toImage = (x, y) => [(this.bottom - y) / this.zoom - 0.5, (x - this.left) / this.zoom - 0.5];
}

/**
 * The pyramid level to draw: the peak of a block never falls between two pixels of the screen.
 * @param {number} scale device pixels per pixel @param {number} levels how many there are @param {'mean'|'peak'} pyramid
 */
export function levelFor(scale, levels, pyramid) {
  const exact = Math.log2(1 / scale);
  const level = pyramid === 'peak' ? Math.ceil(exact - 1e-6) : Math.round(exact);
  return Math.min(levels - 1, Math.max(0, level));
}

/** The finest level that is a single tile. @param {{rows: number, cols: number}[]} levels @param {number} tile */
export function coarsest(levels, tile) {
  const found = levels.findIndex(({ rows, cols }) => rows <= tile && cols <= tile);
  return found < 0 ? levels.length - 1 : found;
}

/**
 * Tiles of a level that a cell shows, those in the middle first.
 * @param {Camera} camera @param {{rows: number, cols: number}} level @param {number} k @param {number} tile
 * @returns {{ty: number, tx: number}[]}
 */
export function inView(camera, level, k, tile) {
  const span = tile * 2 ** k;
  const { x, y, w, h } = camera.cell;
  const [top, left] = camera.toImage(x, y);
  const [bottom, right] = camera.toImage(x + w, y + h);
  const range = (/** @type {number} */ low, /** @type {number} */ high, /** @type {number} */ size) => {
    const [from, to] = [Math.max(0, Math.floor((low + 0.5) / span)), Math.min(Math.ceil(size / tile) - 1, Math.floor((high + 0.5) / span))];
    return Array.from({ length: Math.max(0, to - from + 1) }, (_, i) => from + i);
  };
  const rows = range(bottom, top, level.rows);
  const cols = range(left, right, level.cols);
  const [middleY, middleX] = [(top + bottom) / 2 / span - 0.5, (left + right) / 2 / span - 0.5];
  const away = (/** @type {{ty: number, tx: number}} */ one) => Math.hypot(one.ty - middleY, one.tx - middleX);
  return rows.flatMap((ty) => cols.map((tx) => ({ ty, tx }))).sort((a, b) => away(a) - away(b));
}
