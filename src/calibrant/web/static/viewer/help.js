// @ts-check
/** The list of keys. */
import { cap } from './keys.js';
import { byId } from './panels.js';

/** What the pointer does, beside the keys. */
const POINTER = [
  ['Drag', 'Move the view'],
  ['Wheel, pinch', 'Zoom about the pointer'],
  ['Right drag', 'Brightness (across) and contrast (up and down)'],
  ['Shift + drag', 'Draw a box'],
  ['Middle click', 'Centre on the pixel'],
];

/** @param {string} tag @param {string} text */
const made = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });

/** @param {[string, string][]} lines */
function list(lines) {
  const dl = document.createElement('dl');
  for (const [key, words] of lines) {
    const row = document.createElement('div');
    const dt = document.createElement('dt');
    for (const cap of key.split('  ')) dt.append(made('kbd', cap));
    row.append(dt, made('dd', words));
    dl.append(row);
  }
  return dl;
}

/** Keys that do the same stand in one line; of the numbers one line is enough. @param {import('./app.js').App} app @returns {[string, string][]} */
function lines(app) {
  /** @type {Map<string, string[]>} */
  const byWords = new Map();
  for (const { key, words } of app.keys.table.values()) {
    if (/^[2-9]$/.test(key)) continue;
    const name = key === '1' ? 'Frame of that number' : words;
    byWords.set(name, [...(byWords.get(name) ?? []), key === '1' ? '1 … 9' : cap(key)]);
  }
  return [...byWords].map(([words, keys]) => [keys.join('  '), words]);
}

/** @param {import('./app.js').App} app */
export function help(app) {
  const dialog = /** @type {HTMLDialogElement} */ (byId('keys'));
  const show = () => {
    byId('keys-list').replaceChildren(list(/** @type {any} */ (POINTER)), list(lines(app)));
    dialog.showModal();
  };
  byId('show-keys').addEventListener('click', show);
  app.key('?', 'This list', show);
  app.key('t', 'Panels at the side', () => app.panels?.fold());
  app.key('Escape', 'Take messages away', () => app.say(null));
}
