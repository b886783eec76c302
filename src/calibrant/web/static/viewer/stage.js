// @ts-check
/** The picture: two canvases (pixels below, drawing above), cells for frames, one painting for each picture of the screen. */
import { Camera, settled } from './camera.js';
import { CanvasRenderer } from './canvas2d.js';
import { cells } from './frames.js';
import { GlRenderer } from './gl.js';
import { compose } from './scene.js';

/** @typedef {import('./state.js').Frame} Frame */
/** @typedef {import('./camera.js').Cell} Cell */
/** @typedef {{frame: Frame, cell: Cell, camera: Camera|null}} Shown camera null while the image is not known */
/** @typedef {import('./tiles.js').Request} Request */

const BACKGROUND = [22, 24, 28];
/** Milliseconds a lost context is given to come back. */
const PATIENCE = 1500;

/** A sentence in lines that fit. @param {CanvasRenderingContext2D} context @param {string} words @param {number} width */
function lines(context, words, width) {
  return words.split(' ').reduce((/** @type {string[]} */ found, word) => {
    const longer = found.length ? `${found.at(-1)} ${word}` : word;
    return found.length && context.measureText(longer).width <= width ? [...found.slice(0, -1), longer] : [...found, word];
  }, []);
}

export class Stage {
  /** @param {import('./app.js').App} app @param {HTMLElement} element holds #image and #overlay */
  constructor(app, element) {
    this.app = app;
    this.element = element;
    this.overlay = /** @type {HTMLCanvasElement} */ (element.querySelector('#overlay'));
    this.context = /** @type {CanvasRenderingContext2D} */ (this.overlay.getContext('2d'));
    this.renderer = this.chosen();
    /** @type {Shown[]} */
    this.shown = [];
    /** @type {import('./scene.js').Painted[]} */
    this.painted = [];
    /** Keys of tiles that are needed, though not painted. @type {Set<string>} */
    this.kept = new Set();
    this.waiting = false;
    /** How long the last painting took, in milliseconds. */
    this.took = 0;
    new ResizeObserver(() => this.paint()).observe(element);
  }

  /**
   * WebGL2 where a graphics card does it; where the processor would only imitate one, plain JavaScript is several times faster.
   * `?renderer=webgl2` or `canvas2d` in the address decides otherwise.
   * @returns {GlRenderer|CanvasRenderer}
   */
  chosen() {
    const asked = new URLSearchParams(location.search).get('renderer');
    try {
      if (asked === 'canvas2d') throw new Error('asked for');
      const told = { lost: () => this.lost(), restored: () => this.paint() };
      return new GlRenderer(this.canvas(), told, asked !== 'webgl2');
    } catch {
      return new CanvasRenderer(this.canvas(true));
    }
  }

  /** @param {boolean} [anew] a canvas keeps the kind of its first context @returns {HTMLCanvasElement} */
  canvas(anew = false) {
    const canvas = /** @type {HTMLCanvasElement} */ (this.element.querySelector('#image'));
    if (!anew) return canvas;
    const other = /** @type {HTMLCanvasElement} */ (canvas.cloneNode());
    canvas.replaceWith(other);
    return other;
  }

  /** The graphics card took the context away: it may give it back, else the page paints by itself. */
  lost() {
    const renderer = this.renderer;
    setTimeout(() => {
      if (!(renderer instanceof GlRenderer) || !renderer.gl.isContextLost() || this.renderer !== renderer) return;
      this.renderer = new CanvasRenderer(this.canvas(true));
      this.paint();
    }, PATIENCE);
  }

  soon() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      if (this.waiting) this.paint();
    });
  }

  /** The view of a frame with `fit` worked out. @param {Frame} frame */
  view(frame) {
    const meta = this.app.meta(frame);
    const cell = this.shown.find((one) => one.frame === frame)?.cell ?? this.shown[0]?.cell;
    return meta && cell ? settled(frame.view, cell, meta.shape) : null;
  }

  /** @param {Frame} frame @param {Cell} cell @param {number} ratio @returns {Shown} */
  place(frame, cell, ratio) {
    const meta = this.app.meta(frame);
    return { frame, cell, camera: meta && new Camera(settled(frame.view, cell, meta.shape), cell, ratio) };
  }

  paint() {
    this.waiting = false;
    const started = performance.now();
    const { clientWidth: width, clientHeight: height } = this.element;
    if (!width || !height) return;
    const ratio = window.devicePixelRatio || 1;
    const frames = this.app.showing();
    const rooms = cells(frames.length, width, height);
    this.shown = frames.map((frame, at) => this.place(frame, rooms[at], ratio));
    /** @type {Request[]} */
    const wants = [];
    this.kept.clear();
    this.painted = this.shown.map((one) => this.compose(one, ratio, wants));
    this.renderer.resize(Math.round(width * ratio), Math.round(height * ratio));
    this.renderer.render(this.painted, BACKGROUND);
    this.ask(wants, rooms[0], ratio);
    this.drawOver(width, height, ratio);
    this.took = performance.now() - started;
    this.app.emit('paint', null);
  }

  /** @param {Shown} shown @param {number} ratio @param {Request[]} wants @returns {import('./scene.js').Painted} */
  compose({ frame, cell, camera }, ratio, wants) {
    const box = { x: cell.x * ratio, y: cell.y * ratio, w: cell.w * ratio, h: cell.h * ratio };
    const source = camera && this.app.source(frame);
    const paint = source ? this.app.paint(frame, source) : /** @type {any} */ ({});
    if (!source || !camera) return { ...box, draws: [], paint };
    const pyramid = frame.smooth > 0 ? 'mean' : frame.pyramid;
    const basis = this.app.basis(frame, (one) => wants.push(one));
    if (basis) this.kept.add(basis.key);
    return { ...box, draws: compose(camera, source, this.app.flags(frame), pyramid, (one) => wants.push(one)), paint };
  }

  /** Ask for what is missing here, then for what blinking shows next, then for the rest. @param {Request[]} wants @param {Cell} cell @param {number} ratio */
  ask(wants, cell, ratio) {
    const { app } = this;
    if (app.state.blink.on) {
      for (const frame of app.blinking()) if (frame !== this.shown[0]?.frame) this.painted.length && this.compose(this.place(frame, cell, ratio), ratio, wants);
    }
    const flags = (/** @type {Request} */ one) => Number(one.place.plane === 'dq');
    const keys = this.painted.flatMap(({ draws }) => draws.flatMap(({ tile, flags: over }) => [tile.key, over?.key ?? '']));
    // The rest waits until nothing that is looked at is missing: it would only be in the way.
    app.tiles.want([...wants].sort((a, b) => flags(a) - flags(b)), wants.length ? [] : app.later(), new Set([...keys, ...this.kept]));
  }

  /** @param {number} width @param {number} height @param {number} ratio */
  drawOver(width, height, ratio) {
    const { context, overlay } = this;
    [overlay.width, overlay.height] = [Math.round(width * ratio), Math.round(height * ratio)];
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    for (const { frame, cell, camera } of this.shown) {
      context.save();
      context.beginPath();
      context.rect(cell.x, cell.y, cell.w, cell.h);
      context.clip();
      if (camera) {
        for (const painter of this.app.painters) {
          context.save();
          painter(context, frame, camera.toScreen, camera);
          context.restore();
        }
      }
      this.caption(frame, cell);
      context.restore();
    }
  }

  /** Number and name where several frames are on show; why there is nothing, where there is nothing. @param {Frame} frame @param {Cell} cell */
  caption(frame, cell) {
    const { context, app } = this;
    const meta = app.meta(frame);
    const trouble = app.trouble(frame) ?? (frame.image ? null : 'No image in this frame.');
    context.font = '12px system-ui, sans-serif';
    context.textBaseline = 'middle';
    if (app.state.layout === 'grid' || app.state.blink.on) {
      const words = `${frame.number}  ${app.nameOf(frame)}`;
      context.fillStyle = 'rgba(16, 18, 22, 0.78)';
      context.fillRect(cell.x + 4, cell.y + 4, Math.min(cell.w - 8, context.measureText(words).width + 12), 20);
      context.fillStyle = '#f2f4f8';
      context.fillText(words, cell.x + 10, cell.y + 14, cell.w - 20);
      if (frame.number === app.state.current && this.shown.length > 1) {
        context.strokeStyle = '#7ab8ff';
        context.lineWidth = 2;
        context.strokeRect(cell.x + 1, cell.y + 1, cell.w - 2, cell.h - 2);
      }
    }
    if (!meta) {
      context.fillStyle = '#d6dae2';
      context.textAlign = 'center';
      const told = lines(context, trouble ?? 'Loading …', cell.w - 24);
      told.forEach((line, at) => context.fillText(line, cell.x + cell.w / 2, cell.y + cell.h / 2 + 18 * (at - (told.length - 1) / 2), cell.w - 24));
      context.textAlign = 'start';
    }
  }

  /** What lies under a place of the stage. @param {number} x @param {number} y @returns {{frame: Frame, row: number, col: number, x: number, y: number, camera: Camera}|null} */
  at(x, y) {
    const found = this.shown.find(({ cell }) => x >= cell.x && x < cell.x + cell.w && y >= cell.y && y < cell.y + cell.h);
    if (!found?.camera) return null;
    const [row, col] = found.camera.toImage(x, y);
    return { frame: found.frame, row, col, x, y, camera: found.camera };
  }

  /** Colours of the stage, painted afresh (for the tests). @param {number} x @param {number} y @param {number} w @param {number} h in device pixels */
  colours(x, y, w, h) {
    this.paint();
    return [...this.renderer.read(x, y, w, h)];
  }
}
