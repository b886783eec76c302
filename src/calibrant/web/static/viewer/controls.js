// @ts-check
/** The toolbar: shows the state of the current frame, and alters it. */
import { MAPS } from './colours.js';
import { close, neighbour, open } from './frames.js';
import { oneToOne, zoom } from './navigate.js';
import { byId } from './panels.js';
import { PERCENTS, RATE, STRETCHES, within } from './state.js';
import { label } from './stretch.js';

/** @typedef {import('./app.js').App} App */
/** @typedef {import('./state.js').Frame} Frame */

/** @type {Record<string, string>} */
const WORDS = { linear: 'Linear', log: 'Log', sqrt: 'Square root', asinh: 'Asinh', power: 'Power', equalise: 'Equal histogram' };
/** What the list of limits offers, and what each means. @type {[string, string, any][]} */
const LIMITS = [
  ['minmax', 'Min to max', { mode: 'minmax' }],
  ['zscale', 'Zscale', { mode: 'zscale' }],
  ...PERCENTS.map((percent) => /** @type {[string, string, any]} */ ([`percentile${percent}`, `${percent} %`, { mode: 'percentile', percent }])),
  ...[1, 3, 5, 10].map((sigma) => /** @type {[string, string, any]} */ ([`sigma${sigma}`, `± ${sigma} σ`, { mode: 'sigma', sigma }])),
  ['typed', 'Typed', { mode: 'typed' }],
];

/** @param {HTMLSelectElement} select @param {[string, string][]} choices */
function fill(select, choices) {
  if (select.dataset.choices === String(choices)) return;
  select.dataset.choices = String(choices);
  select.replaceChildren(...choices.map(([value, words]) => new Option(words, value)));
}

/** @param {Frame} frame */
const limitsOf = ({ limits: { mode, percent, sigma } }) =>
  ({ percentile: `percentile${percent}`, sigma: `sigma${sigma}` })[mode] ?? mode;

/** The next of a list, round and round. @template T @param {readonly T[]} list @param {T} now @param {number} by @returns {T} */
const turned = (list, now, by) => list[(list.indexOf(now) + by + list.length) % list.length];

/** How many screen pixels a pixel has, in words. @param {number} zoom */
export const zoomWords = (zoom) => (zoom >= 1 ? `${label(Number(zoom.toPrecision(3)))}:1` : `1:${label(Number((1 / zoom).toPrecision(3)))}`);

export class Controls {
  /** @param {App} app */
  constructor(app) {
    this.app = app;
    fill(byId('stretch'), STRETCHES.map((name) => [name, WORDS[name]]));
    fill(byId('map'), MAPS.map((name) => [name, name[0].toUpperCase() + name.slice(1)]));
    this.selects();
    this.numbers();
    this.buttons();
    this.keys();
    for (const event of ['change', 'image', 'tiles']) app.on(event, () => this.show());
    app.on('paint', () => this.showZoom());
  }

  selects() {
    const { app } = this;
    byId('stretch').addEventListener('change', () => app.set({ stretch: { name: byId('stretch').value } }));
    byId('limits').addEventListener('change', () => this.limit(byId('limits').value));
    byId('map').addEventListener('change', () => app.set({ colours: { map: byId('map').value } }));
    byId('plane').addEventListener('change', () => app.set({ plane: byId('plane').value }));
    byId('open').addEventListener('change', () => {
      if (byId('open').value) open(app, byId('open').value);
      byId('open').value = '';
    });
  }

  numbers() {
    const { app } = this;
    /** @param {string} id @param {(value: number) => void} act */
    const number = (id, act) =>
      byId(id).addEventListener('change', () => {
        const value = Number(byId(id).value);
        if (byId(id).value.trim() !== '' && Number.isFinite(value)) act(value);
        this.show();
      });
    number('q', (q) => app.set({ stretch: { q } }));
    number('gamma', (gamma) => app.set({ stretch: { gamma } }));
    number('rate', (rate) => app.page({ blink: { rate } }));
    number('low', (low) => this.typed({ low }));
    number('high', (high) => this.typed({ high }));
  }

  /** Typed limits keep the end that was not typed. @param {{low?: number, high?: number}} end */
  typed(end) {
    const frame = this.app.frame();
    if (!frame) return;
    const [low, high] = this.app.limits(frame);
    const limits = { low, high, ...end };
    if (limits.low >= limits.high) return void this.app.say(`The limits are not in order: ${label(limits.low)} is not below ${label(limits.high)}.`);
    this.app.set({ limits: { mode: 'typed', ...limits } });
  }

  /** @param {string} value of the list */
  limit(value) {
    if (value === 'typed') this.typed({});
    else this.app.set({ limits: LIMITS.find(([name]) => name === value)?.[2] ?? {} });
  }

  buttons() {
    const { app } = this;
    /** @param {string} id @param {() => void} act */
    const button = (id, act) => byId(id).addEventListener('click', act);
    button('invert', () => this.invert());
    button('zoom-in', () => zoom(app, Math.SQRT2));
    button('zoom-out', () => zoom(app, Math.SQRT1_2));
    button('fit', () => app.set({ view: { fit: true } }));
    button('one', () => oneToOne(app));
    button('peak', () => this.peak());
    button('grid', () => this.grid());
    button('blink', () => this.blink());
    button('blink-this', () => this.choose());
    button('close', () => close(app));
    for (const name of /** @type {const} */ (['zoom', 'pan', 'stretch'])) button(`lock-${name}`, () => this.lock(name));
  }

  keys() {
    const { app } = this;
    /** @param {number} by */
    const stretch = (by) => app.set({ stretch: { name: turned(STRETCHES, app.frame()?.stretch.name ?? '', by) } });
    /** @param {number} by */
    const limits = (by) => this.limit(turned(LIMITS.map(([name]) => name).filter((name) => name !== 'typed'), byId('limits').value, by));
    /** @param {number} by */
    const map = (by) => app.set({ colours: { map: turned(MAPS, app.frame()?.colours.map ?? '', by) } });
    /** @param {number} by */
    const plane = (by) => app.set({ plane: turned([...byId('plane').options].map(({ value }) => value), byId('plane').value, by) });
    const cycles = /** @type {[string, string, (by: number) => void][]} */ ([
      ['s', 'stretch', stretch], ['l', 'limits', limits], ['c', 'colour map', map], ['p', 'plane', plane],
    ]);
    for (const [key, words, act] of cycles) {
      app.key(key, `Next, previous ${words}`, () => act(1));
      app.key(key.toUpperCase(), `Next, previous ${words}`, () => act(-1));
    }
    app.key('i', 'Turn the colours round', () => this.invert());
    app.key('k', 'Peaks or means when zoomed out', () => this.peak());
    app.key('g', 'Grid of all frames, or one', () => this.grid());
    app.key('b', 'Blink, or stop', () => this.blink());
    app.key('a', 'This frame is one of those that blink, or not', () => this.choose());
    app.key('<', 'Blink more slowly, faster', () => this.rate(1 / Math.SQRT2));
    app.key('>', 'Blink more slowly, faster', () => this.rate(Math.SQRT2));
    app.key('Z', 'Lock the zoom of all frames', () => this.lock('zoom'));
    app.key('X', 'Lock the position of all frames', () => this.lock('pan'));
    app.key('V', 'Lock stretch, limits and colours of all frames', () => this.lock('stretch'));
    app.key('o', 'Open an image in a new frame', () => byId('open').focus());
    app.key('Delete', 'Close this frame', () => close(app));
    app.key(',', 'Previous, next frame', () => neighbour(app, -1));
    app.key('.', 'Previous, next frame', () => neighbour(app, 1));
    for (let number = 1; number <= 9; number++) {
      app.key(String(number), `Frame ${number}`, () => app.frame(number) && app.page({ current: number }));
    }
  }

  invert() {
    this.app.set({ colours: { invert: !this.app.frame()?.colours.invert } });
  }

  peak() {
    this.app.set({ pyramid: this.app.frame()?.pyramid === 'peak' ? 'mean' : 'peak' });
  }

  grid() {
    this.app.page({ layout: this.app.state.layout === 'grid' ? 'single' : 'grid' });
  }

  blink() {
    const { state } = this.app;
    if (!state.blink.on && state.frames.length < 2) this.app.say('Blinking needs two frames or more.');
    else this.app.page({ blink: { on: !state.blink.on } });
  }

  /** Frames that are chosen blink; while there are fewer than two, all do. */
  choose() {
    const { current, blink: { frames } } = this.app.state;
    this.app.page({ blink: { frames: frames.includes(current) ? frames.filter((one) => one !== current) : [...frames, current] } });
  }

  /** @param {number} factor */
  rate(factor) {
    const rate = within(this.app.state.blink.rate * factor, RATE);
    this.app.page({ blink: { rate: Math.round(rate * 4) / 4 || RATE.least } });
  }

  /** @param {'zoom'|'pan'|'stretch'} name */
  lock(name) {
    this.app.page({ lock: { [name]: !this.app.state.lock[name] } });
  }

  show() {
    const { app } = this;
    const frame = app.frame();
    const { layout, blink, lock, frames } = app.state;
    const pressed = { grid: layout === 'grid', blink: blink.on, 'blink-this': blink.frames.includes(app.state.current), 'lock-zoom': lock.zoom, 'lock-pan': lock.pan, 'lock-stretch': lock.stretch };
    for (const [id, on] of Object.entries(pressed)) byId(id).setAttribute('aria-pressed', String(on));
    if (document.activeElement !== byId('rate')) byId('rate').value = String(blink.rate);
    byId('rate-label').hidden = !blink.on;
    byId('blink-this').hidden = frames.length < 3;
    byId('close').hidden = frames.length < 2;
    if (frame) this.showFrame(frame);
  }

  /** @param {Frame} frame */
  showFrame(frame) {
    const { stretch, colours, pyramid } = frame;
    const [low, high] = this.app.limits(frame);
    byId('stretch').value = stretch.name;
    byId('q-label').hidden = stretch.name !== 'asinh';
    byId('gamma-label').hidden = stretch.name !== 'power';
    byId('map').value = colours.map;
    byId('invert').setAttribute('aria-pressed', String(colours.invert));
    byId('peak').setAttribute('aria-pressed', String(pyramid === 'peak'));
    this.showLimits(frame);
    this.showPlanes(frame);
    for (const [id, value] of Object.entries({ q: stretch.q, gamma: stretch.gamma, low: label(low), high: label(high) })) {
      if (document.activeElement !== byId(id)) byId(id).value = String(value);
    }
  }

  /** @param {Frame} frame */
  showLimits(frame) {
    const chosen = limitsOf(frame);
    const choices = /** @type {[string, string][]} */ (LIMITS.map(([name, words]) => [name, words]));
    const { mode, percent, sigma } = frame.limits;
    // An address may ask for a share or a multiple of sigma that the list does not offer.
    if (!choices.some(([name]) => name === chosen)) choices.push([chosen, mode === 'sigma' ? `± ${sigma} σ` : `${percent} %`]);
    fill(byId('limits'), choices);
    byId('limits').value = chosen;
  }

  /** @param {Frame} frame */
  showPlanes(frame) {
    const planes = this.app.meta(frame)?.planes ?? [];
    byId('plane-group').hidden = planes.length < 2;
    fill(byId('plane'), planes.map(({ name, unit }) => [name, unit ? `${name} [${unit}]` : name]));
    byId('plane').value = this.app.planeOf(frame);
  }

  showZoom() {
    const frame = this.app.frame();
    const view = frame && this.app.stage?.view(frame);
    byId('zoom').textContent = view ? zoomWords(view.zoom * (window.devicePixelRatio || 1)) : '';
    byId('fit').setAttribute('aria-pressed', String(Boolean(frame?.view.fit)));
  }
}
