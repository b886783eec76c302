// @ts-check
/** Frames by number: their places on the stage, their tabs, blinking, opening and closing. */
import { opened } from './state.js';

/** @typedef {import('./camera.js').Cell} Cell */
/** @typedef {import('./app.js').App} App */

/** Pixels between the cells of a grid. */
const GAP = 2;

/**
 * Rooms for a number of frames, as square as the stage allows, filled row by row from the top left.
 * @param {number} count @param {number} width @param {number} height @returns {Cell[]}
 */
export function cells(count, width, height) {
  /** @param {number} cols */
  const side = (cols) => Math.min(width / cols, height / Math.ceil(count / cols));
  const cols = Array.from({ length: Math.max(1, count) }, (_, i) => i + 1).reduce((best, one) => (side(one) > side(best) + 1e-6 ? one : best), 1);
  const rows = Math.max(1, Math.ceil(count / cols));
  const [w, h] = [(width - GAP * (cols - 1)) / cols, (height - GAP * (rows - 1)) / rows];
  return Array.from({ length: Math.max(1, count) }, (_, i) => ({ x: (i % cols) * (w + GAP), y: Math.floor(i / cols) * (h + GAP), w, h }));
}

/** The frame that comes `by` places after another, round and round. @param {App} app @param {number} by */
export function neighbour(app, by) {
  const numbers = app.state.frames.map(({ number }) => number);
  const at = numbers.indexOf(app.state.current);
  if (numbers.length) app.page({ current: numbers[(at + by + numbers.length) % numbers.length] });
}

/** Put an image into a frame that was free. @param {App} app @param {string} image */
export function open(app, image) {
  const number = Math.max(0, ...app.state.frames.map((one) => one.number)) + 1;
  opened(app.state, number).image = image;
  app.page({ current: number });
}

/** Take the current frame away; the last one stays. @param {App} app */
export function close(app) {
  const { frames, current } = app.state;
  if (frames.length < 2) return;
  const at = frames.findIndex(({ number }) => number === current);
  frames.splice(at, 1);
  app.page({ current: frames[Math.min(at, frames.length - 1)].number });
}

/** Shows frames in turn while the state says so. */
export class Blinker {
  /** @param {App} app */
  constructor(app) {
    this.app = app;
    /** @type {ReturnType<typeof setInterval>|undefined} */
    this.timer = undefined;
    this.rate = 0;
    /** How many pictures were shown since blinking began. */
    this.count = 0;
    app.on('change', () => this.follow());
  }

  follow() {
    const { on, rate } = this.app.state.blink;
    if (this.rate === (on ? rate : 0)) return;
    clearInterval(this.timer);
    this.rate = on ? rate : 0;
    if (on) this.timer = setInterval(() => this.next(), 1000 / rate);
    else this.app.blinked = null;
    this.count = 0;
  }

  next() {
    const frames = this.app.blinking();
    if (!frames.length) return;
    const at = frames.findIndex(({ number }) => number === (this.app.blinked ?? this.app.state.current));
    this.app.blinked = frames[(at + 1) % frames.length].number;
    this.count++;
    this.app.emit('blink', { frame: this.app.frame(this.app.blinked) });
    this.app.draw();
  }
}

/** The row of tabs. */
export class Tabs {
  /** @param {App} app @param {HTMLElement} element */
  constructor(app, element) {
    this.app = app;
    this.element = element;
    /** The frame whose tab was brought into sight last. */
    this.front = NaN;
    for (const event of ['change', 'image', 'blink']) app.on(event, () => this.show());
    element.addEventListener('keydown', (event) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!by) return;
      event.stopPropagation();
      event.preventDefault();
      neighbour(app, by);
      /** @type {HTMLElement|null} */ (element.querySelector('[aria-selected=true]'))?.focus();
    });
  }

  show() {
    const { app, element } = this;
    const { frames, current } = app.state;
    while (element.children.length > frames.length) element.lastElementChild?.remove();
    while (element.children.length < frames.length) element.append(this.made());
    frames.forEach((frame, at) => {
      const tab = /** @type {HTMLButtonElement} */ (element.children[at]);
      const chosen = frame.number === current;
      const name = app.nameOf(frame);
      tab.dataset.number = String(frame.number);
      tab.dataset.testid = `tab-${frame.number}`;
      tab.setAttribute('aria-selected', String(chosen));
      tab.tabIndex = chosen ? 0 : -1;
      tab.classList.toggle('lit', app.blinked === frame.number);
      const blinks = app.state.blink.frames.includes(frame.number);
      tab.classList.toggle('blinks', blinks);
      tab.title = `${name} (${frame.number})${blinks ? ': one of those that blink' : ''}`;
      if (tab.textContent !== `${frame.number}${name}`) {
        tab.replaceChildren(Object.assign(document.createElement('b'), { textContent: frame.number }), Object.assign(document.createElement('span'), { textContent: name }));
      }
    });
    if (this.front === current) return;
    this.front = current;
    element.querySelector('[aria-selected=true]')?.scrollIntoView({ block: 'nearest', inline: 'nearest' });
  }

  made() {
    const tab = document.createElement('button');
    tab.type = 'button';
    tab.setAttribute('role', 'tab');
    tab.setAttribute('aria-controls', 'stage');
    tab.addEventListener('click', () => this.app.page({ current: Number(tab.dataset.number) }));
    return tab;
  }
}
