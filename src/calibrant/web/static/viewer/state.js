// @ts-check
/** What a view is: one plain object that the address of the page can hold whole. Pure: no page needed. */

/** @typedef {{name: string, q: number, gamma: number}} Stretch */
/** @typedef {{mode: string, percent: number, sigma: number, low: number|null, high: number|null}} Limits */
/** @typedef {{row: number|null, col: number|null, zoom: number, fit: boolean}} View centre, null for that of the image; screen pixels per pixel */
/** @typedef {{row: number, col: number, symbol?: string, size?: number, colour?: string, text?: string}} Mark */
/**
 * @typedef {object} Frame
 * @property {number} number
 * @property {string|null} image opaque name of the image on the server
 * @property {string} plane
 * @property {number} read
 * @property {'mean'|'peak'} pyramid what a pixel shows that stands for many
 * @property {Stretch} stretch
 * @property {Limits} limits
 * @property {{map: string, invert: boolean}} colours
 * @property {View} view
 * @property {number} smooth sigma of the Gaussian, in pixels; 0 for none
 * @property {{shown: Record<string, boolean>, alpha: number}} masks flags not named in `shown` are shown
 * @property {any[]} regions
 * @property {null|{frame: number, kind: 'difference'|'ratio'}} against
 * @property {Mark[]} marks
 */
/**
 * @typedef {object} State
 * @property {Frame[]} frames sorted by number
 * @property {number} current
 * @property {'single'|'grid'} layout
 * @property {{on: boolean, rate: number, frames: number[]}} blink no frames named: all; rate in pictures per second
 * @property {{zoom: boolean, pan: boolean, stretch: boolean}} lock
 */

export const STRETCHES = Object.freeze(['linear', 'log', 'sqrt', 'asinh', 'power', 'equalise']);
export const LIMITS = Object.freeze(['minmax', 'zscale', 'percentile', 'sigma', 'typed']);
export const PERCENTS = Object.freeze([99, 98, 95]);
export const ZOOM = Object.freeze({ least: 1 / 1024, most: 128 });
export const RATE = Object.freeze({ least: 0.25, most: 20 });

/** @param {number} number @param {string|null} image @returns {Frame} */
export function frame(number, image = null) {
  return {
    number,
    image,
    plane: 'data',
    read: 0,
    pyramid: 'mean',
    stretch: { name: 'linear', q: 8, gamma: 2 },
    limits: { mode: 'zscale', percent: 99, sigma: 3, low: null, high: null },
    colours: { map: 'grey', invert: false },
    view: { row: null, col: null, zoom: 1, fit: true },
    smooth: 0,
    masks: { shown: {}, alpha: 0.5 },
    regions: [],
    against: null,
    marks: [],
  };
}

/** @returns {State} */
export function fresh() {
  return {
    frames: [],
    current: 1,
    layout: 'single',
    blink: { on: false, rate: 2, frames: [] },
    lock: { zoom: false, pan: false, stretch: false },
  };
}

/** @param {any} value */
const plain = (value) => value !== null && typeof value === 'object' && !Array.isArray(value);

/**
 * Lay a partial object over a whole one, in place; lists and null replace what was there.
 * @template T @param {T} whole @param {any} part @returns {T}
 */
export function merge(whole, part) {
  const target = /** @type {any} */ (whole);
  for (const [name, value] of Object.entries(part ?? {})) {
    if (['__proto__', 'constructor', 'prototype'].includes(name)) continue;
    if (plain(value) && plain(target[name])) merge(target[name], value);
    else target[name] = structuredClone(value);
  }
  return whole;
}

/**
 * What of `whole` differs from `base`, or undefined where nothing does.
 * @param {any} whole @param {any} base @returns {any}
 */
export function difference(whole, base) {
  if (!plain(whole) || !plain(base)) return JSON.stringify(whole) === JSON.stringify(base) ? undefined : whole;
  /** @type {Record<string, any>} */
  const found = {};
  for (const [name, value] of Object.entries(whole)) {
    const part = difference(value, base[name]);
    if (part !== undefined) found[name] = part;
  }
  return Object.keys(found).length ? found : undefined;
}

/** @param {State} state @param {number} number @returns {Frame|undefined} */
export const numbered = (state, number) => state.frames.find((one) => one.number === number);

/** The frame of that number, made where there was none. @param {State} state @param {number} number @returns {Frame} */
export function opened(state, number) {
  const known = numbered(state, number);
  if (known) return known;
  const made = frame(number);
  state.frames.push(made);
  state.frames.sort((a, b) => a.number - b.number);
  return made;
}

/** Which parts of a change other frames follow, by the locks. @param {State} state @param {any} patch @returns {any} */
export function followed(state, patch) {
  /** @type {Record<string, any>} */
  const shared = {};
  const view = patch.view ?? {};
  const pick = (/** @type {string[]} */ names) => names.filter((name) => name in view).map((name) => [name, view[name]]);
  const parts = [...(state.lock.zoom ? pick(['zoom', 'fit']) : []), ...(state.lock.pan ? pick(['row', 'col']) : [])];
  if (parts.length) shared.view = Object.fromEntries(parts);
  if (state.lock.stretch) {
    for (const name of ['stretch', 'limits', 'colours', 'pyramid']) if (name in patch) shared[name] = patch[name];
  }
  return shared;
}

const NUMBER_OR_NULL = new Set(['low', 'high', 'row', 'col']);

/** Whether a value may stand where the default stands. @param {string} name @param {any} value @param {any} usual */
function fits(name, value, usual) {
  if (value === null) return NUMBER_OR_NULL.has(name) || name === 'image' || name === 'against';
  if (NUMBER_OR_NULL.has(name)) return Number.isFinite(value);
  if (name === 'image') return typeof value === 'string';
  if (name === 'against') return Number.isInteger(value.frame) && ['difference', 'ratio'].includes(value.kind);
  if (typeof usual === 'number') return Number.isFinite(value);
  return typeof value === typeof usual && Array.isArray(value) === Array.isArray(usual);
}

/** Put defaults where an address or a script said nonsense, in place. @param {any} one @param {any} usual */
function mend(one, usual) {
  for (const [name, value] of Object.entries(usual)) {
    if (!fits(name, one[name], value)) one[name] = structuredClone(value);
    else if (plain(value) && name !== 'against') mend(one[name], value);
  }
}

/** @param {number} value @param {{least: number, most: number}} span */
export const within = (value, span) => Math.min(span.most, Math.max(span.least, value));

/** Make a state that came from outside one that can be drawn, in place. @param {State} state @returns {State} */
export function mended(state) {
  mend(state, fresh());
  for (const one of state.frames) {
    mend(one, frame(one.number));
    if (!STRETCHES.includes(one.stretch.name)) one.stretch.name = 'linear';
    if (!LIMITS.includes(one.limits.mode)) one.limits.mode = 'zscale';
    if (one.pyramid !== 'peak') one.pyramid = 'mean';
    one.view.zoom = within(one.view.zoom, ZOOM);
    one.read = Math.max(0, Math.round(one.read));
    one.smooth = within(one.smooth, { least: 0, most: 64 });
    one.masks.alpha = within(one.masks.alpha, { least: 0, most: 1 });
    one.stretch.q = within(one.stretch.q, { least: 1e-3, most: 1e6 });
    one.stretch.gamma = within(one.stretch.gamma, { least: 0.05, most: 20 });
    if (one.against && (one.against.frame === one.number || !numbered(state, one.against.frame))) one.against = null;
  }
  state.blink.rate = within(state.blink.rate, RATE);
  if (state.layout !== 'grid') state.layout = 'single';
  if (!numbered(state, state.current) && state.frames.length) state.current = state.frames[0].number;
  return state;
}
