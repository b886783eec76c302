// @ts-check
/** Around the picture: foldable panels at the side, one sentence above it. */

/** @param {string} id @returns {any} */
export const byId = (id) => document.getElementById(id);

export class Panels {
  /** @param {import('./app.js').App} app */
  constructor(app) {
    this.app = app;
    this.side = /** @type {HTMLElement} */ (byId('side'));
    this.button = /** @type {HTMLButtonElement} */ (byId('show-side'));
    this.button.addEventListener('click', () => this.fold());
    byId('show-tools').addEventListener('click', () => {
      const open = byId('tools').classList.toggle('open');
      byId('show-tools').setAttribute('aria-expanded', String(open));
    });
    byId('note-close').addEventListener('click', () => this.say(null));
    this.fold(false);
  }

  /** @param {boolean} [open] */
  fold(open = this.side.hidden) {
    this.side.hidden = !open || !this.side.childElementCount;
    this.button.hidden = !this.side.childElementCount;
    this.button.setAttribute('aria-expanded', String(!this.side.hidden));
  }

  /**
   * @param {string} name @param {string} title @param {HTMLElement} element @param {{open?: boolean}} [options]
   * @returns {HTMLDetailsElement}
   */
  add(name, title, element, { open = false } = {}) {
    const panel = document.createElement('details');
    panel.className = 'panel';
    panel.dataset.testid = `panel-${name}`;
    panel.open = open;
    const summary = document.createElement('summary');
    summary.textContent = title;
    panel.append(summary, element);
    this.side.append(panel);
    this.fold(window.innerWidth > 700 || !this.side.hidden);
    return panel;
  }

  /** @param {HTMLElement} element */
  tool(element) {
    element.classList.add('group');
    byId('tools').append(element);
  }

  /** @param {string|null} sentence @param {{words: string, act: () => void}} [action] */
  say(sentence, action) {
    byId('note').hidden = !sentence;
    byId('note-words').textContent = sentence ?? '';
    byId('note-act').hidden = !action;
    byId('note-act').textContent = action?.words ?? '';
    byId('note-act').onclick = action ? () => action.act() : null;
  }
}
