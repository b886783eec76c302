// @ts-check
/** The header as the file has it, what is known of the exposure, and where the image comes from. */
import { el, facts, told } from './dom.js';

/** Of the facts of an exposure. @type {Record<string, string>} */
const UNITS = { duration: 's', dark_time: 's', temperature: '°C', gain: 'electron/adu', read_noise: 'electron', saturation: 'adu' };

/** @param {import('../app.js').App} app */
export function header(app) {
  const find = el('input', { type: 'search', placeholder: 'keyword or text', 'aria-label': 'Find in the header', 'data-testid': 'header-find', oninput: () => cards() });
  const list = el('div', { class: 'cards', tabindex: 0, role: 'region', 'aria-label': 'Header cards', 'data-testid': 'header' });
  const origin = el('div', { 'data-testid': 'provenance' });
  const known = el('div', { 'data-testid': 'exposure' });
  const panel = app.panel('header', 'Header and origin', el('div', {}, known, origin, find, list));
  /** @type {{key: string, text: string}[]} */
  let held = [];
  let shown = '';

  function cards() {
    const words = find.value.toLowerCase();
    const some = held.filter(({ key, text }) => `${key} ${text}`.toLowerCase().includes(words));
    list.replaceChildren(...some.map(({ key, text }) => el('div', {}, el('b', {}, key), ' ', text)));
    if (!some.length) list.textContent = held.length ? 'No card says this.' : 'No header: this image was not read from a file.';
  }

  async function show() {
    const frame = app.frame();
    const meta = frame && app.card(frame);
    if (!frame || !panel.open || !frame.image) return;
    const key = `${frame.image}@${meta?.version}`;
    if (key === shown) return;
    shown = key;
    try {
      const [{ cards: all }, from] = await Promise.all([app.api.image(frame.image, 'header'), app.api.image(frame.image, 'provenance')]);
      held = all;
      cards();
      origin.replaceChildren(...origins(from));
      const quantities = (meta?.quantities ?? []).slice(0, 200).map((one) => [`${one.name} ${one.place}`.trim(), `${told(one.value)}${one.sigma ? ` ± ${told(one.sigma, 2)}` : ''} ${one.unit}`]);
      known.replaceChildren(facts([...(/** @type {any} */ (Object.entries(meta?.exposure ?? {}).map(([name, value]) => [name.replaceAll('_', ' '), `${value}${UNITS[name] ? ` ${UNITS[name]}` : ''}`]))), ...(/** @type {any} */ (quantities))]));
    } catch (reason) {
      list.textContent = /** @type {Error} */ (reason).message;
    }
  }

  app.on('change', () => void show());
  app.on('image', () => void show());
  panel.addEventListener('toggle', () => void show());
  app.key('h', 'Header and origin', () => {
    panel.open = !panel.open;
  });
}

/** @param {any} from */
function origins(from) {
  const words = (/** @type {any} */ value) => (value && typeof value === 'object' ? Object.entries(value).map(([name, one]) => `${name} ${one}`).join(', ') : value);
  const rows = ['kind', 'instrument', 'effect', 'created', 'epoch', 'identity', 'keys', 'options', 'versions'].map((name) => [name, words(from[name])]);
  const steps = (from.history ?? []).map((/** @type {any} */ step) => el('li', {}, `${step.effect}${step.product ? ` by ${step.product.slice(0, 19)}` : ''}${step.note ? `: ${step.note}` : ''}`));
  const parents = (from.parents ?? []).map((/** @type {string} */ one) => el('li', {}, linked(one)));
  const inputs = (from.inputs ?? []).map((/** @type {any} */ one) => el('li', {}, one.name));
  const notes = (from.notes ?? []).map((/** @type {string} */ one) => el('li', {}, one));
  const part = (/** @type {string} */ title, /** @type {any[]} */ items) => (items.length ? [el('h2', {}, title), el('ul', {}, ...items)] : []);
  return [facts(/** @type {any} */ (rows)), ...part('Steps', steps), ...part('Made with', parents), ...part(`Made of ${inputs.length} files`, inputs.slice(0, 60)), ...part('Notes', notes)];
}

/** A product by its name; where a registry is open, a way to its page. @param {string} identity */
function linked(identity) {
  const words = identity.slice(0, 19);
  return document.getElementById('registry')?.hidden ? words : el('a', { href: `registry/products/${identity}` }, words);
}
