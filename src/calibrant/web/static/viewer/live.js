// @ts-check
/** The session on the server: its images, its frames, and what scripts change in them while the page is open. */
import { byId } from './panels.js';
import { difference, frame as fresh, opened } from './state.js';

/** @typedef {import('./app.js').App} App */

export class Live {
  /** @param {App} app */
  constructor(app) {
    this.app = app;
    this.revision = -1;
    /** What the server said last of each frame: only what it changes is laid over the view. @type {Map<number, any>} */
    this.said = new Map();
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
    const given = session.frames.length ? session.frames : session.images.slice(0, 1).map((/** @type {any} */ one) => ({ number: 1, image: one.id, view: {} }));
    for (const { number, image, view } of given) {
      const before = this.said.get(number) ?? fresh(number);
      const news = difference({ image, ...view }, before);
      this.said.set(number, { ...fresh(number), image, ...view });
      const frame = opened(app.state, number);
      if (news) app.lay(frame, news);
      if (news?.image) app.emit('image', { frame });
    }
    for (const number of this.said.keys()) {
      if (given.some((/** @type {any} */ one) => one.number === number)) continue;
      this.said.delete(number);
      app.state.frames = app.state.frames.filter((one) => one.number !== number);
    }
    if (Number.isInteger(session.current)) app.state.current = session.current;
    app.changed({ frame: null, patch: {} });
  }

  /** What can be opened, and the other pages. */
  offer() {
    const { images, focal = [], registry } = this.session;
    const choices = images.map((/** @type {any} */ one) => new Option(`${one.name} (${one.shape.join(' × ')})`, one.id));
    byId('open').replaceChildren(new Option('+ Open', ''), ...choices);
    const places = [...focal.map((/** @type {any} */ one) => [one.title, `focal/${encodeURIComponent(one.id)}`]), ...(registry ? [['Registry', 'registry']] : [])];
    byId('places').replaceChildren(...places.map(([words, href]) => Object.assign(document.createElement('a'), { textContent: words, href })));
  }

  follow() {
    this.app.api.follow((revision) => {
      if (revision !== this.revision) this.fetch().catch((reason) => this.app.say(reason.message));
    });
  }
}
