// @ts-check
/** Flags over the picture: which, in which colours, how much of the picture shows through. Each has its name beside its colour. */
import { el } from './dom.js';

/** @param {import('../app.js').App} app */
export function masks(app) {
  const list = el('ul', { class: 'legend', 'data-testid': 'masks' });
  const alpha = el('input', { type: 'range', min: 0, max: 1, step: 0.05, 'data-testid': 'mask-alpha', 'aria-label': 'Strength of the flags', oninput: () => app.set({ masks: { alpha: Number(alpha.value) } }) });
  const all = el('button', { type: 'button', 'data-testid': 'masks-all', title: 'All flags, or none (m)', onclick: () => toggle() }, 'All or none');
  const panel = app.panel('masks', 'Flags', el('div', {}, list, el('label', { class: 'wide' }, 'Strength ', alpha), all));
  let before = '';

  /** @param {any} frame */
  const present = (frame) => app.meta(frame)?.dq ?? [];

  function toggle() {
    const frame = app.frame();
    if (!frame) return;
    const names = present(frame).map((one) => one.name);
    const on = names.some((name) => frame.masks.shown[name] !== false);
    app.set({ masks: { shown: Object.fromEntries(names.map((name) => [name, !on])) } });
  }

  /** @param {any} one @param {any} frame */
  function line(one, frame) {
    const box = el('input', { type: 'checkbox', 'data-testid': `mask-${one.name}`, onchange: () => app.set({ masks: { shown: { [one.name]: box.checked } } }) });
    box.checked = frame.masks.shown[one.name] !== false;
    const swatch = el('span', { class: 'swatch', 'aria-hidden': 'true' });
    swatch.style.background = one.colour;
    return el('li', {}, el('label', { title: one.sentence }, box, swatch, el('span', {}, one.name), el('small', {}, one.sentence)));
  }

  function show() {
    const frame = app.frame();
    if (!frame) return;
    const flags = present(frame);
    const key = JSON.stringify([frame.number, frame.image, frame.masks, flags.length]);
    if (key === before) return;
    before = key;
    const held = document.activeElement instanceof HTMLElement && list.contains(document.activeElement) ? document.activeElement.dataset.testid : null;
    list.replaceChildren(...flags.map((one) => line(one, frame)));
    if (held) list.querySelector(`[data-testid="${held}"]`)?.focus();
    if (!flags.length) list.replaceChildren(el('li', {}, 'No flag is set in this image.'));
    all.hidden = alpha.parentElement.hidden = !flags.length;
    alpha.value = String(frame.masks.alpha);
    /** @type {HTMLElement} */ (panel.querySelector('summary')).textContent = flags.length ? `Flags (${flags.length})` : 'Flags';
  }

  app.on('change', show);
  app.on('image', show);
  app.key('m', 'Flags on, or off', toggle);
}
