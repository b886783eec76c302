// @ts-check
/**
 * Where the tiles of a frame come from: stored ones, the difference or ratio of two frames, a smoothed one. All have the same
 * form, so that they can be put on each other.
 */

/** @typedef {import('./tiles.js').Tile} Tile */
/** @typedef {import('./tiles.js').Request} Request */
/** @typedef {import('./api.js').Meta} Meta */
/** @typedef {(request: Request) => void} Want */
/**
 * @typedef {object} Source
 * @property {string} key
 * @property {Meta} meta shape, levels and size of tiles
 * @property {(level: number, ty: number, tx: number, want: Want) => Tile|undefined} get the tile, or what it needs is wanted
 */

/** Reach of the Gaussian, in sigmas. */
const REACH = 4;

/** Tiles as the server sends them. @implements {Source} */
export class Stored {
  /** @param {import('./tiles.js').Tiles} tiles @param {Meta} meta @param {string} plane @param {number} read @param {string} of */
  constructor(tiles, meta, plane, read, of) {
    this.tiles = tiles;
    this.meta = meta;
    this.plane = plane;
    this.read = read;
    this.of = of;
    this.key = `${meta.id}@${meta.version}/${plane}/${read}`;
  }

  /** @param {number} level @param {number} ty @param {number} tx @returns {Request} */
  request(level, ty, tx) {
    const of = level === 0 ? 'mean' : this.of;
    const place = { plane: this.plane, read: this.read, level, ty, tx, of };
    return { key: `${this.key}/${of}/${level}/${ty}/${tx}`, id: this.meta.id, version: this.meta.version, place };
  }

  /** @param {number} level @param {number} ty @param {number} tx @param {Want} want @returns {Tile|undefined} */
  get(level, ty, tx, want) {
    const request = this.request(level, ty, tx);
    const tile = this.tiles.get(request.key);
    if (!tile) want(request);
    return tile;
  }
}

/** One frame minus, or divided by, another of the same shape. @implements {Source} */
export class Against {
  /** @param {import('./tiles.js').Tiles} tiles @param {Source} one @param {Source} other @param {'difference'|'ratio'} kind */
  constructor(tiles, one, other, kind) {
    this.tiles = tiles;
    this.meta = one.meta;
    this.one = one;
    this.other = other;
    this.kind = kind;
    this.key = `(${one.key})${kind === 'ratio' ? '÷' : '−'}(${other.key})`;
  }

  /** @param {number} level @param {number} ty @param {number} tx @param {Want} want @returns {Tile|undefined} */
  get(level, ty, tx, want) {
    const key = `${this.key}/${level}/${ty}/${tx}`;
    const known = this.tiles.get(key);
    if (known) return known;
    const a = this.one.get(level, ty, tx, want);
    const b = this.other.get(level, ty, tx, want);
    if (!a || !b) return undefined;
    const data = new Float32Array(a.data.length);
    if (this.kind === 'ratio') for (let i = 0; i < data.length; i++) data[i] = b.data[i] ? a.data[i] / b.data[i] : NaN;
    else for (let i = 0; i < data.length; i++) data[i] = a.data[i] - b.data[i];
    const tile = { key, id: this.meta.id, data, rows: a.rows, cols: a.cols };
    this.tiles.put(tile);
    return tile;
  }
}

/** Lay a tile into a larger array, clipped. @param {Float32Array} into @param {number} width @param {Tile} tile @param {number} top @param {number} left */
function laid(into, width, tile, top, left) {
  const height = into.length / width;
  const [first, last] = [Math.max(0, -left), Math.min(tile.cols, width - left)];
  if (first >= last) return;
  for (let row = Math.max(0, -top); row < Math.min(tile.rows, height - top); row++) {
    into.set(tile.data.subarray(row * tile.cols + first, row * tile.cols + last), (row + top) * width + left + first);
  }
}

/** A Gaussian over another source, in a worker; NaN and the outside are left out of the weights. @implements {Source} */
export class Smoothed {
  /**
   * @param {import('./tiles.js').Tiles} tiles @param {Source} source @param {number} sigma in pixels of level 0
   * @param {Blurrer} blurrer
   */
  constructor(tiles, source, sigma, blurrer) {
    this.tiles = tiles;
    this.meta = source.meta;
    this.source = source;
    this.sigma = sigma;
    this.blurrer = blurrer;
    this.key = `(${source.key})~${sigma}`;
  }

  /** @param {number} level @param {number} ty @param {number} tx @param {Want} want @returns {Tile|undefined} */
  get(level, ty, tx, want) {
    const key = `${this.key}/${level}/${ty}/${tx}`;
    const known = this.tiles.get(key);
    if (known) return known;
    const job = this.padded(level, ty, tx, want);
    if (job) this.blurrer.ask({ key, ...job }, (data) => this.tiles.put({ key, id: this.meta.id, data, rows: job.rows, cols: job.cols }));
    return undefined;
  }

  /** The tile with as much of its neighbours as the Gaussian reaches. @param {number} level @param {number} ty @param {number} tx @param {Want} want */
  padded(level, ty, tx, want) {
    const { tile: size, levels } = this.meta;
    const [high, wide] = [Math.ceil(levels[level].rows / size), Math.ceil(levels[level].cols / size)];
    const sigma = this.sigma / 2 ** level;
    const halo = Math.min(size, Math.ceil(REACH * sigma));
    const found = [];
    for (let y = Math.max(0, ty - 1); y <= Math.min(high - 1, ty + 1); y++) {
      for (let x = Math.max(0, tx - 1); x <= Math.min(wide - 1, tx + 1); x++) found.push({ y, x, tile: this.source.get(level, y, x, want) });
    }
    const centre = found.find(({ y, x }) => y === ty && x === tx)?.tile;
    if (!centre || found.some(({ tile }) => !tile)) return undefined;
    const width = centre.cols + 2 * halo;
    const data = new Float32Array(width * (centre.rows + 2 * halo)).fill(NaN);
    for (const { y, x, tile } of found) {
      if (tile) laid(data, width, tile, halo + (y - ty) * size, halo + (x - tx) * size);
    }
    return { data, rows: centre.rows, cols: centre.cols, halo, sigma };
  }
}

/** @typedef {{key: string, data: Float32Array, rows: number, cols: number, halo: number, sigma: number}} Job */

/** Hands tiles to the worker that smooths them, each once. */
export class Blurrer {
  /** @param {() => void} done called after each tile */
  constructor(done) {
    this.done = done;
    /** @type {Map<string, (data: Float32Array) => void>} */
    this.waiting = new Map();
    /** @type {Worker|null} */
    this.worker = null;
  }

  /** @param {Job} job @param {(data: Float32Array) => void} take */
  ask(job, take) {
    if (this.waiting.has(job.key)) return;
    this.waiting.set(job.key, take);
    this.worker ??= this.started();
    this.worker.postMessage(job, [job.data.buffer]);
  }

  started() {
    const worker = new Worker(new URL('./blur_worker.js', import.meta.url), { type: 'module' });
    worker.onmessage = ({ data: { key, data } }) => {
      this.waiting.get(key)?.(data);
      this.waiting.delete(key);
      this.done();
    };
    return worker;
  }
}
