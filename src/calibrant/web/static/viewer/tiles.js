// @ts-check
/** Tiles in memory: what is on screen first, the least recently used leave when the bytes are spent. Pure but for fetching. */

/** @typedef {import('./api.js').Place} Place */
/** @typedef {import('./api.js').Pixels} Pixels */
/** @typedef {{key: string, id: string, data: Pixels, rows: number, cols: number}} Tile */
/** @typedef {{key: string, id: string, version: string, place: Place}} Request */

/** Milliseconds after which a tile is asked for again. */
const AGAIN = 700;

export class Tiles {
  /**
   * @param {import('./api.js').Api} api
   * @param {{budget: number, parallel?: number, loaded: (tile: Tile) => void, failed: (id: string, reason: any) => void,
   *   forgotten: (tile: Tile) => void}} options budget in bytes
   */
  constructor(api, { budget, parallel = 6, loaded, failed, forgotten }) {
    this.api = api;
    this.budget = budget;
    this.parallel = parallel;
    this.told = { loaded, failed, forgotten };
    /** @type {Map<string, Tile>} least recently used first */
    this.held = new Map();
    this.bytes = 0;
    /** @type {Map<string, AbortController>} */
    this.coming = new Map();
    /** @type {Map<string, number>} tiles that failed, and when they may be asked for again */
    this.resting = new Map();
    /** @type {Request[]} */
    this.queue = [];
    /** @type {Set<string>} */
    this.wanted = new Set();
  }

  /** @param {string} key @returns {Tile|undefined} */
  get(key) {
    const tile = this.held.get(key);
    if (tile) {
      this.held.delete(key);
      this.held.set(key, tile);
    }
    return tile;
  }

  /** @param {Tile} tile */
  put(tile) {
    if (this.held.has(tile.key)) return;
    this.held.set(tile.key, tile);
    this.bytes += tile.data.byteLength;
    for (const [key, old] of this.held) {
      if (this.bytes <= this.budget) break;
      if (key !== tile.key && !this.wanted.has(key)) this.forget(old);
    }
  }

  /** @param {Tile} tile */
  forget(tile) {
    this.held.delete(tile.key);
    this.bytes -= tile.data.byteLength;
    this.told.forgotten(tile);
  }

  /** Let go of everything of one image. @param {string} id */
  drop(id) {
    for (const tile of [...this.held.values()]) if (tile.id === id) this.forget(tile);
    this.queue = this.queue.filter((request) => request.id !== id);
  }

  /**
   * What is needed now, most urgent first; `later` is fetched only when nothing else is. Replaces what was wanted before.
   * @param {Request[]} now @param {Request[]} later @param {Set<string>} shown keys that must not leave
   */
  want(now, later, shown) {
    this.wanted = shown;
    for (const request of now) this.wanted.add(request.key);
    this.queue = [...now, ...later];
    const asked = new Set(this.queue.map((request) => request.key));
    for (const [key, stop] of this.coming) if (!asked.has(key)) stop.abort();
    this.pump();
  }

  /** @param {Request} request */
  needless({ key }) {
    return this.held.has(key) || this.coming.has(key) || (this.resting.get(key) ?? 0) > Date.now();
  }

  pump() {
    while (this.coming.size < this.parallel) {
      const next = this.queue.findIndex((request) => !this.needless(request));
      if (next < 0) {
        this.queue = [];
        return;
      }
      const [request] = this.queue.splice(0, next + 1).slice(-1);
      void this.fetch(request);
    }
  }

  /** @param {Request} request */
  async fetch({ key, id, version, place }) {
    const stop = new AbortController();
    this.coming.set(key, stop);
    try {
      const tile = { key, id, ...(await this.api.tile(id, place, version, stop.signal)) };
      this.put(tile);
      this.told.loaded(tile);
    } catch (reason) {
      if (!stop.signal.aborted) {
        this.resting.set(key, Date.now() + AGAIN);
        this.told.failed(id, reason);
      }
    } finally {
      this.coming.delete(key);
      this.pump();
    }
  }
}
