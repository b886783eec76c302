// @ts-check
/**
 * The state of the page in its address, so that a view can be shared: `#current=2&1.image=ab&1.stretch.name=asinh`.
 * Only what differs from a fresh page is written. Pure: no page needed.
 */
import { difference, frame, fresh, merge, opened } from './state.js';

/** @typedef {import('./state.js').State} State */

/** Leave readable what an address may hold. @param {string} text */
const escaped = (text) =>
  encodeURIComponent(text).replace(/%(?:2C|3A|5B|5D|20|2F)/g, (code) => (code === '%20' ? '+' : decodeURIComponent(code)));

/** @param {string} text */
const unescaped = (text) => decodeURIComponent(text.replace(/\+/g, '%20'));

/** @param {any} value */
function written(value) {
  if (typeof value !== 'string') return JSON.stringify(value);
  // A text that would be read as a number, as true or as a list keeps its quotes.
  try {
    JSON.parse(value);
    return JSON.stringify(value);
  } catch {
    return value;
  }
}

/** @param {string} text */
function read(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** @param {string} prefix @param {any} value @returns {string[]} */
function flat(prefix, value) {
  if (value === null || typeof value !== 'object' || Array.isArray(value)) return [`${prefix}=${escaped(written(value))}`];
  return Object.entries(value).flatMap(([name, part]) => flat(prefix ? `${prefix}.${escaped(name)}` : escaped(name), part));
}

/** @param {State} state @returns {string} without the leading # */
export function toHash(state) {
  const { frames, ...page } = state;
  const { frames: _, ...nothing } = fresh();
  const parts = flat('', difference(page, nothing) ?? {});
  for (const one of frames) {
    const { number, ...rest } = difference(one, { ...frame(0), number: one.number }) ?? {};
    parts.push(...flat(String(one.number), { image: one.image, ...rest }));
  }
  return parts.join('&');
}

/** @param {Record<string, any>} target @param {string[]} path @param {any} value */
function plant(target, path, value) {
  const [name, ...rest] = path;
  if (['__proto__', 'constructor', 'prototype'].includes(name)) return;
  if (rest.length === 0) target[name] = value;
  else plant((target[name] ??= {}), rest, value);
}

/**
 * Lay what an address says over a state, in place; what it does not name stays.
 * @param {string} hash with or without # @param {State} state @returns {State}
 */
export function fromHash(hash, state) {
  /** @type {Record<string, any>} */
  const said = {};
  for (const part of hash.replace(/^#/, '').split('&')) {
    const at = part.indexOf('=');
    if (at < 1) continue;
    try {
      plant(said, part.slice(0, at).split('.').map(unescaped), read(unescaped(part.slice(at + 1))));
    } catch {
      // A broken piece of an address says nothing; the rest of it still does.
    }
  }
  for (const [name, value] of Object.entries(said)) {
    if (/^[0-9]{1,6}$/.test(name)) merge(opened(state, Number(name)), value);
    else if (name in state && name !== 'frames') merge(state, { [name]: value });
  }
  return state;
}
