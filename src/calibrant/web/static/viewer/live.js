// @ts-check
/** The session on the server: its images, its frames, and what scripts change in them while the page is open. */
import { byId } from './panels.js';
import { opened } from './state.js';

/** @typedef {import('./app.js').App} App */

export class Live {
  /** @param {App} app */
  constructor(app) {
    this.app = app;
    this.revision = -1;
    /** Revision whose changes were laid over the state already. */
    this.seen = -1;
    /** Frames that the session had then. @type {Set<number>} */
    this.shown = new Set();
    /** @type {any} */
    this.session = { frames: [], images: [], focal: [] };
  }

  /** @returns {Promise<void>} */
  async fetch() {
    const session = await this.app.api.session();
    if (session.revision === this.revision) return;
    this.revision = session.revision;
    this.session = session;
    document.title = session.title || 'Calibrant';
    this.offer();
    this.merge();
  }

  /** Lay what is new in the session over the state. */
  merge() {
    const { app, session } = this;
    const first = () => session.images.slice(0, 1).map((/** @type {any} */ one) => ({ number: 1, image: one.id, view: {} }));
    const given = session.frames.length ? session.frames : first();
    for (const { number, image, view, changed } of given) {
      const news = Object.fromEntries(Object.entries({ image, ...view }).filter(([part]) => (changed?.[part] ?? 0) > this.seen || !this.shown.has(number)));
      const frame = opened(app.state, number);
      app.lay(frame, news);
      if (news.image) app.emit('image', { frame });
    }
    const numbers = new Set(given.map((/** @type {any} */ one) => one.number));
    const gone = [...this.shown].filter((number) => !numbers.has(number));
    app.state.frames = app.state.frames.filter(({ number }) => !gone.includes(number));
    // What a script shows while the page is open comes to the front.
    const front = given.find((/** @type {any} */ one) => one.number === session.current);
    if (this.seen >= 0 && front?.changed?.image > this.seen) app.state.current = front.number;
    this.shown = numbers;
    this.seen = session.revision;
    app.changed({ frame: null, patch: {} });
  }

  /** Begin anew: all that the session says counts again. */
  forget() {
    this.seen = -1;
    this.shown = new Set();
  }

  /** What can be opened, and the other pages. */
  offer() {
    const { images, focal = [], registry } = this.session;
    for (const { id, name } of images) this.app.names.set(id, name);
    const planes = new Set(focal.map((/** @type {any} */ one) => one.id));
    const single = images.filter((/** @type {any} */ one) => !planes.has(one.id));
    const choices = single.map((/** @type {any} */ one) => new Option(`${one.name}${one.shape ? ` (${one.shape.join(' × ')})` : ''}`, one.id));
    byId('open').replaceChildren(new Option('+ Open', ''), ...choices);
    byId('focal').replaceChildren(new Option('Focal plane', ''), ...focal.map((/** @type {any} */ one) => new Option(one.title, one.id)));
    byId('focal').hidden = !focal.length;
    byId('registry').hidden = !registry;
  }

  follow() {
    this.app.api.follow((revision) => {
      if (revision !== this.revision) this.fetch().catch((reason) => this.app.say(reason.message));
    });
  }
}
