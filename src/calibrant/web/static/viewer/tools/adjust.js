// @ts-check
/** What the display makes of the pixels, the data untouched: a Gaussian, the difference to another frame, or the ratio. */
import { el } from './dom.js';

const SIGMAS = [0, 0.5, 1, 1.5, 2, 3, 5, 8, 12, 20];

/** @param {import('../app.js').App} app */
export function adjust(app) {
  const sigma = el('input', { type: 'number', min: 0, max: 64, step: 0.5, value: 0, 'data-testid': 'smooth', title: 'Sigma of a Gaussian, pixels; 0 for none (y, Y)', onchange: () => smooth(Number(sigma.value)) });
  const other = el('select', { 'data-testid': 'against-frame', onchange: () => against() });
  const kind = el('select', { 'data-testid': 'against-kind', onchange: () => against() }, el('option', { value: '' }, 'nothing'), el('option', { value: 'difference' }, 'minus'), el('option', { value: 'ratio' }, 'divided by'));
  const note = el('p', { class: 'soft', 'data-testid': 'against-note' });
  const panel = app.panel('adjust', 'Smooth, difference, ratio', el('div', {},
    el('label', { class: 'wide' }, 'Smooth, sigma [pixel] ', sigma), el('div', { class: 'pair' }, el('label', {}, 'Show this frame ', kind), el('label', {}, 'frame ', other)), note));

  /** Colours and limits of frames as they were before they became differences. @type {Map<number, any>} */
  const before = new Map();
  /** @param {number} value */
  const smooth = (value) => Number.isFinite(value) && app.set({ smooth: Math.min(64, Math.max(0, value)) });

  function against() {
    const frame = Number(other.value);
    if (!kind.value || !frame) app.set({ against: null });
    else app.set({ against: { frame, kind: kind.value } });
    limits(kind.value);
  }

  /** A difference is about zero, a ratio about one, in diverging colours. @param {string} how */
  function limits(how) {
    const frame = app.frame();
    if (!frame) return;
    if (how) {
      const { map } = frame.colours;
      if (map !== 'diverging') before.set(frame.number, structuredClone({ colours: { map }, limits: frame.limits }));
      app.set({ colours: { map: 'diverging' }, limits: { mode: 'sigma', sigma: 5 } });
    } else {
      app.set(before.get(frame.number) ?? { colours: { map: 'grey' }, limits: { mode: 'zscale' } });
      before.delete(frame.number);
    }
  }

  /** @param {'difference'|'ratio'} how */
  function key(how) {
    const frame = app.frame();
    if (!frame) return;
    const at = app.state.frames.indexOf(frame);
    const partner = app.state.frames[at - 1] ?? app.state.frames[at + 1];
    panel.open = true;
    if (frame.against?.kind === how) app.set({ against: null });
    else if (partner) app.set({ against: { frame: partner.number, kind: how } });
    else return void app.say('A difference needs a second frame.');
    limits(app.frame()?.against ? how : '');
  }

  function show() {
    const frame = app.frame();
    if (!frame) return;
    if (document.activeElement !== sigma) sigma.value = String(frame.smooth);
    const others = app.state.frames.filter((one) => one !== frame);
    const names = others.map((one) => `${one.number} ${app.meta(one)?.name ?? ''}`);
    if (other.dataset.names !== names.join()) {
      other.dataset.names = names.join();
      other.replaceChildren(...others.map((one, at) => new Option(names[at], String(one.number))));
    }
    kind.disabled = other.disabled = !others.length;
    kind.value = frame.against?.kind ?? '';
    if (frame.against) other.value = String(frame.against.frame);
    const [a, b] = [frame, frame.against && app.frame(frame.against.frame)].map((one) => one && app.meta(one)?.shape);
    note.textContent = a && b && String(a) !== String(b) ? `The frames have different sizes (${a.join(' × ')} and ${b.join(' × ')}): nothing is taken off.` : others.length ? '' : 'Open a second frame for a difference.';
  }

  app.on('change', show);
  app.on('image', show);
  const step = (/** @type {number} */ by) => {
    const now = app.frame()?.smooth ?? 0;
    const at = SIGMAS.findIndex((one) => one >= now);
    smooth(SIGMAS[Math.min(SIGMAS.length - 1, Math.max(0, at + by))]);
  };
  app.key('y', 'Smooth more', () => step(1));
  app.key('Y', 'Smooth less', () => step(-1));
  app.key('d', 'Difference to the frame before, or not', () => key('difference'));
  app.key('q', 'Ratio to the frame before, or not', () => key('ratio'));
}
