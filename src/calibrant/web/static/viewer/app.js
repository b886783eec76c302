// @ts-check
/**
 * The viewer: its state, who is told of changes, and the places where tools hang in. Tools use only what stands here:
 *
 *   app.state, app.frame(number?)      the state (see state.js); the current frame, or the one of that number
 *   app.set(patch, number?)            lay a partial frame over a frame; locked frames follow; told as 'change'
 *   app.page(patch)                    the same for what belongs to the page: current, layout, blink, lock
 *   app.on(event, fn) -> off           'pointer' {frame,row,col,x,y}|null · 'click' {frame,row,col} · 'box' {frame,rows:[a,b],cols:[a,b]}
 *                                      (b one past the last) · 'change' {frame,patch} · 'image' {frame} when what it shows is known or altered ·
 *                                      'tiles' when pixels arrived · 'paint' after each painting
 *   app.meta(frame), app.planeOf(frame)  what the server says of its image, null while unknown; the plane on show
 *   app.card(frame), app.nameOf(frame)   the same also of what has no pixels (products of numbers alone); its name
 *   app.pixels(frame)                  the file's own values in memory: .value(row, col), .tiles, .complete
 *   app.summary(frame), app.limits(frame)  numbers of the plane on show; [low, high] of the colour map
 *   app.draw()                         paint again, once, soon
 *   app.overlay(painter) -> off        painter(context, frame, toScreen, camera) for each cell on show, clipped to it
 *   app.panel(name, title, element, {open})   a foldable panel at the side
 *   app.tool(element)                  a group of controls in the toolbar
 *   app.key(key, words, fn)            a key and the words of the list of keys ('Shift+X', 'ArrowLeft', 'm')
 *   app.grab(handler) -> off           first say in dragging: handler({kind:'down'|'move'|'up', frame,row,col,x,y,event,camera}) -> true takes it
 *   app.say(sentence, action?)         one sentence above the picture; null takes it away
 *   app.api                            the server
 */
import { Trouble } from './api.js';
import { blanks, rgb, table } from './colours.js';
import { toHash } from './hash.js';
import { Keys } from './keys.js';
import { Against, Blurrer, Smoothed, Stored } from './sources.js';
import { followed, fresh, merge, mended, numbered } from './state.js';
import { CODES, equaliser, parameter, resolved, summary } from './stretch.js';
import { coarsest } from './camera.js';
import { Tiles } from './tiles.js';

/** @typedef {import('./state.js').Frame} Frame */
/** @typedef {import('./api.js').Meta} Meta */
/** @typedef {import('./stretch.js').Summary} Summary */
/** @typedef {import('./sources.js').Source} Source */
/** @typedef {{frame: Frame, row: number, col: number, x: number, y: number}} Pointer */
/** @typedef {(context: CanvasRenderingContext2D, frame: Frame, toScreen: (row: number, col: number) => [number, number], camera: import('./camera.js').Camera) => void} Painter */

/** Bytes of tiles in memory, by default. */
const BUDGET = 320 * 2 ** 20;
/** Pixels flagged as both have never seen data: DO_NOT_USE and NON_SCIENCE. */
const NO_DATA = 1 | (1 << 9);
/** Between the detectors of a focal plane. */
const GAP = [22, 24, 28];

export class App {
  /** @param {import('./api.js').Api} api @param {{budget?: number}} [options] */
  constructor(api, { budget = BUDGET } = {}) {
    this.api = api;
    api.lost = (id, reason) => this.failed(id, reason);
    this.state = fresh();
    this.keys = new Keys();
    /** @type {Map<string, Set<(detail: any) => void>>} */
    this.listeners = new Map();
    /** @type {Map<string, Meta|Trouble|Promise<void>>} */
    this.known = new Map();
    /** Names of all images that can be opened, also of those that cannot be read. @type {Map<string, string>} */
    this.names = new Map();
    /** @type {Map<string, Summary|null>} by source */
    this.summaries = new Map();
    /** @type {Map<number, {key: string, table: Float32Array}>} by frame */
    this.equalisers = new Map();
    /** @type {Set<Painter>} */
    this.painters = new Set();
    /** @type {((grip: any) => boolean)[]} */
    this.grabs = [];
    /** The frame that blinking shows now. @type {number|null} */
    this.blinked = null;
    this.blurrer = new Blurrer(() => this.draw());
    this.tiles = new Tiles(api, {
      budget,
      loaded: () => {
        this.emit('tiles', null);
        this.draw();
      },
      failed: (id, reason) => this.failed(id, reason),
      forgotten: (tile) => this.stage?.renderer.forget(tile),
    });
    /** @type {import('./stage.js').Stage|null} set by main.js */
    this.stage = null;
    /** @type {import('./panels.js').Panels|null} */
    this.panels = null;
    /** Writes the state into the address; tests and notebooks may replace it. */
    this.remember = () => history.replaceState(null, '', `#${toHash(this.state)}`);
    /** @type {ReturnType<typeof setTimeout>|undefined} */
    this.remembering = undefined;
  }

  /** @param {string} event @param {(detail: any) => void} fn @returns {() => void} */
  on(event, fn) {
    const told = this.listeners.get(event) ?? new Set();
    this.listeners.set(event, told.add(fn));
    return () => told.delete(fn);
  }

  /** @param {string} event @param {any} detail */
  emit(event, detail) {
    for (const fn of [...(this.listeners.get(event) ?? [])]) fn(detail);
  }

  /** @param {number} [number] @returns {Frame|undefined} */
  frame(number = this.state.current) {
    return numbered(this.state, number);
  }

  /** Frames on show, in order. @returns {Frame[]} */
  showing() {
    if (this.state.blink.on) return [this.frame(this.blinked ?? this.state.current)].flatMap((one) => one ?? []);
    if (this.state.layout === 'grid') return this.state.frames;
    return [this.frame()].flatMap((one) => one ?? []);
  }

  /** Frames that blinking shows in turn. @returns {Frame[]} */
  blinking() {
    const { frames } = this.state.blink;
    const named = this.state.frames.filter(({ number }) => frames.includes(number));
    return named.length > 1 ? named : this.state.frames;
  }

  /** @param {any} patch @param {number} [number] */
  set(patch, number = this.state.current) {
    const target = this.frame(number);
    if (!target) return;
    this.lay(target, patch);
    const shared = followed(this.state, patch);
    if (Object.keys(shared).length) for (const other of this.state.frames) if (other !== target) this.lay(other, shared);
    this.changed({ frame: target, patch });
  }

  /** @param {Frame} target @param {any} patch */
  lay(target, patch) {
    const settled = patch.view?.fit === false && target.view.fit ? this.stage?.view(target) : null;
    if (settled) Object.assign(target.view, { row: settled.row, col: settled.col, zoom: settled.zoom });
    merge(target, patch);
  }

  /** @param {any} patch */
  page(patch) {
    merge(this.state, patch);
    const one = this.frame();
    if (patch.lock && one) {
      const view = this.stage?.view(one) ?? one.view;
      const shared = followed(this.state, { ...one, view: one.view.fit ? { ...view, fit: true } : view });
      for (const other of this.state.frames) if (other !== one) this.lay(other, shared);
    }
    this.changed({ frame: null, patch });
  }

  /** The state was altered: mend it, tell it, paint it, remember it. @param {any} detail */
  changed(detail) {
    mended(this.state);
    this.emit('change', detail);
    if (detail.patch?.image !== undefined || detail.patch?.plane !== undefined) this.emit('image', { frame: detail.frame });
    this.draw();
    clearTimeout(this.remembering);
    this.remembering = setTimeout(this.remember, 120);
  }

  /** @param {Frame|number|undefined} which @returns {Meta|null} null while it is not known, or where there is none */
  meta(which) {
    const card = this.card(which);
    return card?.levels.length ? card : null;
  }

  /** @param {Frame} frame @returns {string} of its image, also where that cannot be read */
  nameOf(frame) {
    return this.names.get(frame.image ?? '') ?? this.card(frame)?.name ?? '';
  }

  /** What the server says, also where there are no pixels. @param {Frame|number|undefined} which @returns {Meta|null} */
  card(which) {
    const id = (typeof which === 'number' ? this.frame(which) : which)?.image;
    const known = id ? this.known.get(id) : undefined;
    if (id && known === undefined) this.known.set(id, this.learn(id));
    return known && 'levels' in known ? known : null;
  }

  /** Why there is nothing to show of a frame, in a sentence. @param {Frame} frame @returns {string|null} */
  trouble(frame) {
    const known = frame.image ? this.known.get(frame.image) : null;
    if (known instanceof Trouble) return known.message;
    return known && 'levels' in known && !known.levels.length ? (known.message ?? 'There is no image in this.') : null;
  }

  /** @param {string} id */
  async learn(id) {
    try {
      this.known.set(id, await this.api.image(id));
    } catch (reason) {
      this.known.set(id, reason instanceof Trouble ? reason : new Trouble(String(reason), 0));
    }
    for (const frame of this.state.frames) if (frame.image === id) this.emit('image', { frame });
    this.draw();
  }

  /** Forget what is known of an image, and ask again. @param {string} id */
  again(id) {
    this.tiles.drop(id);
    this.tiles.resting.clear();
    for (const key of this.summaries.keys()) if (key.includes(`${id}@`)) this.summaries.delete(key);
    this.known.delete(id);
    this.say(null);
    this.draw();
  }

  /** A tile did not come: a busy server is asked again, an altered file is said and no longer shown. @param {string} id @param {any} reason */
  failed(id, reason) {
    if (!(reason instanceof Trouble)) throw reason;
    if ([429, 503].includes(reason.status)) {
      setTimeout(() => this.draw(), 800);
      return;
    }
    if (reason.status === 0) setTimeout(() => this.draw(), 3000);
    else {
      this.tiles.drop(id);
      this.known.set(id, reason);
      for (const frame of this.state.frames) if (frame.image === id) this.emit('image', { frame });
    }
    this.say(reason.message, { words: 'Read it again', act: () => this.again(id) });
    this.draw();
  }

  /** @param {Frame} frame @returns {string} its plane, or the first of the image where it has no such plane */
  planeOf(frame) {
    const planes = this.meta(frame)?.planes ?? [];
    return planes.some(({ name }) => name === frame.plane) ? frame.plane : (planes.find(({ name }) => name !== 'dq')?.name ?? frame.plane);
  }

  /** Tiles of the file itself. @param {Frame} frame @returns {Stored|null} */
  stored(frame) {
    const meta = this.meta(frame);
    if (!meta) return null;
    const of = frame.smooth > 0 ? 'mean' : frame.pyramid;
    return new Stored(this.tiles, meta, this.planeOf(frame), Math.min(frame.read, meta.reads - 1), of);
  }

  /** What is painted: the file, or what the display makes of it. @param {Frame} frame @returns {Source|null} */
  source(frame) {
    /** @type {Source|null} */
    let source = this.stored(frame);
    const other = frame.against ? this.frame(frame.against.frame) : undefined;
    const base = other ? this.stored(other) : null;
    if (source && frame.against && base) {
      if (String(base.meta.shape) === String(source.meta.shape)) source = new Against(this.tiles, source, base, frame.against.kind);
    }
    return source && frame.smooth > 0 ? new Smoothed(this.tiles, source, frame.smooth, this.blurrer) : source;
  }

  /** Flags of the image as tiles, null where it has none. @param {Frame} frame */
  flags(frame) {
    const meta = this.meta(frame);
    return meta && meta.dq.length && this.planeOf(frame) !== 'dq' ? new Stored(this.tiles, meta, 'dq', 0, 'mean') : null;
  }

  /** @param {Frame} frame @returns {{value: (row: number, col: number) => number|undefined, tiles: import('./tiles.js').Tile[], complete: boolean}} */
  pixels(frame) {
    const source = this.stored(frame);
    if (!source) return { value: () => undefined, tiles: [], complete: false };
    const { tile: edge, shape } = source.meta;
    const held = (/** @type {number} */ ty, /** @type {number} */ tx) => this.tiles.held.get(source.request(0, ty, tx).key);
    const places = this.places(source);
    const tiles = places.flatMap(({ ty, tx }) => held(ty, tx) ?? []);
    const value = (/** @type {number} */ row, /** @type {number} */ col) => {
      if (row < 0 || col < 0 || row >= shape[0] || col >= shape[1]) return undefined;
      const tile = held(Math.floor(row / edge), Math.floor(col / edge));
      return tile?.data[(row % edge) * tile.cols + (col % edge)];
    };
    return { value, tiles, complete: tiles.length === places.length };
  }

  /** All tiles of full resolution. @param {Source} source */
  places({ meta: { shape, tile } }) {
    const [high, wide] = shape.map((size) => Math.ceil(size / tile));
    return Array.from({ length: high * wide }, (_, i) => ({ ty: Math.floor(i / wide), tx: i % wide }));
  }

  /** @param {Frame} frame @returns {Summary|null} null until it is known */
  summary(frame) {
    const source = this.stored(frame);
    if (!source) return null;
    if (frame.against) return this.derived(frame);
    const { meta, plane, read, key } = source;
    if (plane === meta.planes[0].name && read === 0) return meta.limits;
    if (!this.summaries.has(key)) {
      this.summaries.set(key, null);
      this.api.image(meta.id, 'limits', { plane, read }).then((numbers) => this.summaries.set(key, numbers), (reason) => this.say(reason.message))
        .finally(() => {
          this.emit('image', { frame });
          this.draw();
        });
    }
    return this.summaries.get(key) ?? null;
  }

  /** Numbers of what the browser made, from its coarse tile. @param {Frame} frame @returns {Summary|null} */
  derived(frame) {
    const source = this.source({ ...frame, smooth: 0 });
    const known = source && this.summaries.get(source.key);
    if (!source || known) return known ?? null;
    const tile = this.coarse(source);
    if (tile) this.summaries.set(source.key, summary(tile.data));
    return this.summaries.get(source.key) ?? null;
  }

  /** The whole image in one tile, if it is in memory. @param {Source} source @param {import('./sources.js').Want} [want] asks for it */
  coarse(source, want = () => undefined) {
    return source.get(coarsest(source.meta.levels, source.meta.tile), 0, 0, want);
  }

  /** The tile that limits of differences and equal histograms come from, also where it is not painted. @param {Frame} frame @param {import('./sources.js').Want} want */
  basis(frame, want) {
    const source = frame.against || frame.stretch.name === 'equalise' ? this.source({ ...frame, smooth: frame.against ? 0 : frame.smooth }) : null;
    return source ? this.coarse(source, want) : undefined;
  }

  /** @param {Frame} frame @returns {[number, number]} */
  limits(frame) {
    return resolved(frame.limits, this.summary(frame));
  }

  /** Table of the equalised histogram, made anew only when pixels or limits changed. @param {Frame} frame @param {Source} source @param {[number, number]} limits */
  equal(frame, source, limits) {
    if (frame.stretch.name !== 'equalise') return null;
    const tile = this.coarse(source);
    const key = `${source.key}${limits}${Boolean(tile)}`;
    const known = this.equalisers.get(frame.number);
    if (known?.key === key) return known.table;
    const made = equaliser(tile?.data ?? [], limits);
    this.equalisers.set(frame.number, { key, table: made });
    return made;
  }

  /** @param {Frame} frame @param {Source} source @returns {import('./scene.js').Paint} */
  paint(frame, source) {
    const limits = this.limits(frame);
    const dq = this.meta(frame)?.dq ?? [];
    const bit = (/** @type {any} */ one) => (1 << one.bit) >>> 0;
    const tints = Array.from({ length: 32 }, (_, at) => rgb(dq.find((one) => one.bit === at)?.colour));
    return {
      code: CODES[frame.stretch.name],
      parameter: parameter(frame.stretch),
      equal: this.equal(frame, source, limits),
      limits,
      lut: table(frame.colours),
      ...blanks(frame.colours.map),
      ...(this.meta(frame)?.pieces?.length ? { none: GAP } : {}),
      shown: dq.filter(({ name }) => frame.masks.shown[name] ?? true).reduce((all, one) => (all | bit(one)) >>> 0, 0),
      blank: NO_DATA,
      alpha: frame.masks.alpha,
      tints,
    };
  }

  /** Tiles to fetch when nothing else is: full resolution of the current frame, where it is small beside the memory. */
  later() {
    const frame = this.frame();
    const source = frame && this.stored(frame);
    if (!source || source.meta.shape[0] * source.meta.shape[1] * 4 > this.tiles.budget / 4) return [];
    return this.places(source).map(({ ty, tx }) => source.request(0, ty, tx));
  }

  draw() {
    this.stage?.soon();
  }

  /** @param {Painter} painter @returns {() => void} */
  overlay(painter) {
    this.painters.add(painter);
    this.draw();
    return () => this.painters.delete(painter);
  }

  /** @param {string} name @param {string} title @param {HTMLElement} element @param {{open?: boolean}} [options] */
  panel(name, title, element, options) {
    return /** @type {import('./panels.js').Panels} */ (this.panels).add(name, title, element, options);
  }

  /** @param {HTMLElement} element */
  tool(element) {
    this.panels?.tool(element);
  }

  /** @param {string} key @param {string} words @param {(event: KeyboardEvent) => void} fn */
  key(key, words, fn) {
    this.keys.add(key, words, fn);
  }

  /** @param {(grip: any) => boolean} handler @returns {() => void} */
  grab(handler) {
    this.grabs.unshift(handler);
    return () => (this.grabs = this.grabs.filter((one) => one !== handler));
  }

  /** @param {string|null} sentence @param {{words: string, act: () => void}} [action] */
  say(sentence, action) {
    this.panels?.say(sentence, action);
  }
}
