// @ts-check
/** The page begins here. */
import { Api, Trouble } from './api.js';
import { App } from './app.js';
import { Controls } from './controls.js';
import { Blinker, Tabs } from './frames.js';
import { fromHash, toHash } from './hash.js';
import { help } from './help.js';
import { Live } from './live.js';
import { marks } from './marks.js';
import { keys, Navigator } from './navigate.js';
import { byId, Panels } from './panels.js';
import { Stage } from './stage.js';
import { fresh, mended } from './state.js';
import { Status } from './status.js';
import { tools } from './tools/all.js';

const app = new App(new Api());
app.panels = new Panels(app);
app.stage = new Stage(app, byId('stage'));
const blinker = new Blinker(app);
const navigator = new Navigator(app, byId('overlay'));
new Tabs(app, byId('tabs'));
new Controls(app);
new Status(app);
keys(app, navigator);
help(app);
marks(app);
tools(app);
const live = new Live(app);

/** Obey the address; an image that the session does not hold is said, and not asked for. @param {string} hash */
function obey(hash) {
  fromHash(hash, app.state);
  // An address that names images says which frames there are: those that were closed stay so.
  const named = [...hash.matchAll(/[#&](\d{1,6})\.image=/g)].map(([, number]) => Number(number));
  if (named.length) app.state.frames = app.state.frames.filter(({ number }) => named.includes(number));
  const held = new Set(live.session.images.map((/** @type {any} */ one) => one.id));
  const lost = app.state.frames.filter(({ image }) => image && !held.has(image));
  for (const { image } of lost) app.known.set(image ?? '', new Trouble('This image is not open here.', 404));
  if (lost.length) app.say(`Not open here: the image of frame ${lost.map(({ number }) => number).join(', ')}. Open it with calibrant view.`);
  app.changed({ frame: null, patch: {} });
}

/** @returns {Promise<void>} */
async function begin() {
  const said = location.hash;
  await live.fetch();
  obey(said);
  live.follow();
}

addEventListener('hashchange', () => {
  if (location.hash.slice(1) === toHash(app.state)) return;
  const whole = fresh();
  Object.assign(app.state, whole);
  live.forget();
  live.merge();
  obey(location.hash);
});

app.keys.listen(document);
const ready = begin().catch((reason) => app.say(reason.message));

/** For the tests, and for those who look under the bonnet. */
Object.assign(window, {
  __calibrant: {
    ready,
    app,
    live,
    blinker,
    navigator,
    state: () => structuredClone(mended(app.state)),
    colours: (/** @type {number} */ x, /** @type {number} */ y, /** @type {number} */ w, /** @type {number} */ h) => app.stage?.colours(x, y, w, h),
    memory: () => ({ tiles: app.tiles.bytes, textures: app.stage?.renderer.bytes ?? 0, budget: app.tiles.budget }),
    idle: () =>
      !app.stage?.waiting && app.tiles.coming.size + app.tiles.queue.length + app.blurrer.waiting.size === 0 &&
      app.state.frames.length > 0 && app.showing().every((frame) => !frame.image || app.meta(frame) !== null || app.trouble(frame) !== null),
  },
});
