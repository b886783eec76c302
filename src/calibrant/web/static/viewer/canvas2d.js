// @ts-check
/** Painting without WebGL2: the same rules in plain JavaScript, pixel by pixel of the screen. Same interface as `gl.js`. */
import { CODES, curve, step } from './stretch.js';

/** @typedef {import('./scene.js').Painted} Painted */
/** @typedef {import('./scene.js').Paint} Paint */
/** @typedef {import('./scene.js').Draw} Draw */

/** A colour as a pixel of little-endian ImageData. @param {number[]} rgb */
const packed = ([r, g, b]) => (r | (g << 8) | (b << 16) | (255 << 24)) >>> 0;

/** @param {Paint} paint */
const shape = ({ code, parameter, equal }) => {
  const name = Object.keys(CODES).find((one) => CODES[one] === code) ?? 'linear';
  return curve({ name, q: parameter, gamma: parameter }, equal);
};

/** @param {number} below @param {number[]} over @param {number} alpha */
function mixed(below, over, alpha) {
  const channel = (/** @type {number} */ at) => Math.round(((below >>> (8 * at)) & 255) * (1 - alpha) + over[at] * alpha);
  return packed([channel(0), channel(1), channel(2)]);
}

/** For each pixel of the screen the pixel of the tile. @param {number} from @param {number} to @param {(at: number) => number} place @param {number} count */
const indices = (from, to, place, count) =>
  Int32Array.from({ length: to - from }, (_, i) => Math.min(count - 1, Math.max(0, Math.floor(place(from + i + 0.5)))));

export class CanvasRenderer {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.kind = 'canvas2d';
    this.canvas = canvas;
    this.context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext('2d', { alpha: false, willReadFrequently: true }));
    this.bytes = 0;
    this.image = new ImageData(1, 1);
  }

  forget() {
    // Nothing is kept beside the tiles themselves.
  }

  /** @param {number} width @param {number} height */
  resize(width, height) {
    if (this.canvas.width !== width) this.canvas.width = width;
    if (this.canvas.height !== height) this.canvas.height = height;
    if (this.image.width !== width || this.image.height !== height) this.image = new ImageData(width, height);
    this.bytes = 4 * width * height;
  }

  /** @param {Painted[]} cells @param {number[]} background */
  render(cells, background) {
    const out = new Uint32Array(this.image.data.buffer);
    out.fill(packed(background));
    for (const { draws, paint } of cells) {
      if (!draws.length) continue;
      const colour = this.colouring(paint);
      for (const draw of draws) this.draw(out, draw, paint, colour);
    }
    this.context.putImageData(this.image, 0, 0);
  }

  /** @param {Paint} paint @returns {(value: number) => number} from a value to a packed colour */
  colouring({ lut, limits, nan, ...rest }) {
    const bend = shape(/** @type {Paint} */ ({ lut, limits, nan, ...rest }));
    const colours = new Uint32Array(lut.buffer);
    const blank = packed(nan);
    return (value) => (value === value ? colours[step(value, limits, bend)] : blank);
  }

  /** @param {Uint32Array} out @param {Draw} draw @param {Paint} paint @param {(value: number) => number} colour */
  draw(out, { tile, flags, x0, x1, y0, y1, left, bottom, size }, paint, colour) {
    const cols = indices(x0, x1, (x) => (x - left) / size, tile.cols);
    const rows = indices(y0, y1, (y) => (bottom - y) / size, tile.rows);
    const flagged = flags && (paint.shown || paint.blank) ? flags.data : null;
    const none = packed(paint.none);
    for (let y = y0; y < y1; y++) {
      const start = rows[y - y0] * tile.cols;
      let place = y * this.image.width + x0;
      for (let i = 0; i < cols.length; i++, place++) {
        const at = start + cols[i];
        const flag = flagged ? flagged[at] : 0;
        if (!flag) {
          out[place] = colour(tile.data[at]);
          continue;
        }
        const empty = paint.blank && ((flag & paint.blank) >>> 0) === paint.blank;
        out[place] = this.tinted(empty ? none : colour(tile.data[at]), flag & paint.shown & (empty ? ~paint.blank : -1), paint);
      }
    }
  }

  /** @param {number} seen @param {number} on @param {Paint} paint */
  tinted(seen, on, { tints, alpha }) {
    for (let bit = 0; bit < 32 && on >>> bit; bit++) if ((on >>> bit) & 1) seen = mixed(seen, tints[bit], alpha);
    return seen;
  }

  /** @param {number} x @param {number} y @param {number} w @param {number} h @returns {Uint8ClampedArray} first row at the top */
  read(x, y, w, h) {
    return this.context.getImageData(x, y, w, h).data;
  }
}
