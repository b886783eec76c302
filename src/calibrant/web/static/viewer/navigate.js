// @ts-check
/** Moving about: dragging, wheel, pinch and keys; the cross that keys move from pixel to pixel. */
import { within, ZOOM } from './state.js';

/** @typedef {import('./app.js').App} App */
/** @typedef {import('./state.js').Frame} Frame */

/** One press of a key or of a button. */
const STEP = Math.SQRT2;
/** Pixels a pointer may stray in a click. */
const STILL = 4;

/**
 * Zoom by a factor, the place under (x, y) staying where it is; without a place, the centre.
 * @param {App} app @param {number} factor @param {Frame|undefined} frame @param {[number, number]} [place] on the stage
 */
export function zoom(app, factor, frame = app.frame(), place) {
  const view = frame && app.stage?.view(frame);
  if (!frame || !view) return;
  const target = within(view.zoom * factor, ZOOM);
  const camera = app.stage?.shown.find((one) => one.frame === frame)?.camera;
  const [row, col] = place && camera ? camera.toImage(...place) : [view.row, view.col];
  const share = view.zoom / target;
  const moved = { row: row + (view.row - row) * share, col: col + (view.col - col) * share };
  app.set({ view: { ...moved, zoom: target, fit: false } }, frame.number);
}

/** @param {App} app @param {number} x @param {number} y pixels of the screen @param {Frame|undefined} frame */
export function pan(app, x, y, frame = app.frame()) {
  const view = frame && app.stage?.view(frame);
  if (frame && view) app.set({ view: { row: view.row + y / view.zoom, col: view.col - x / view.zoom, zoom: view.zoom, fit: false } }, frame.number);
}

/** One pixel of the screen for each of the image. @param {App} app */
export function oneToOne(app) {
  const view = app.stage?.view(app.frame() ?? /** @type {any} */ ({}));
  if (view) app.set({ view: { ...view, zoom: 1 / (window.devicePixelRatio || 1), fit: false } });
}

/** Contrast and brightness, as with DS9's right button. @param {App} app @param {Frame} frame @param {number} x @param {number} y shares of the stage */
function contrast(app, frame, x, y) {
  const [low, high] = app.limits(frame);
  const [middle, half] = [(low + high) / 2, (high - low) / 2];
  const [moved, wide] = [middle - x * 2 * half, half * Math.exp(2 * y)];
  app.set({ limits: { mode: 'typed', low: moved - wide, high: moved + wide } }, frame.number);
}

/** What the pointer is doing. */
export class Navigator {
  /** @param {App} app @param {HTMLElement} overlay */
  constructor(app, overlay) {
    this.app = app;
    this.overlay = overlay;
    /** @type {Map<number, {x: number, y: number}>} */
    this.fingers = new Map();
    /** @type {any} */
    this.drag = null;
    /** @type {{frame: number, row: number, col: number}|null} the cross of the keys */
    this.cross = null;
    /** What the keys draw, from where on. @type {{start: any, grab: ((grip: any) => any)|undefined}|null} */
    this.held = null;
    /** @type {{frame: number, rows: [number, number], cols: [number, number]}|null} the last box */
    this.box = null;
    for (const [name, fn] of Object.entries({ pointerdown: this.down, pointermove: this.move, pointerup: this.up, pointercancel: this.up, wheel: this.wheel })) {
      overlay.addEventListener(name, /** @type {any} */ (fn.bind(this)), { passive: false });
    }
    overlay.addEventListener('pointerleave', () => this.app.emit('pointer', null));
    overlay.addEventListener('contextmenu', (event) => event.preventDefault());
    app.overlay((context, frame, toScreen) => this.paint(context, frame, toScreen));
  }

  /** @param {MouseEvent} event @returns {[number, number]} */
  place(event) {
    const { left, top } = this.overlay.getBoundingClientRect();
    return [event.clientX - left, event.clientY - top];
  }

  /** @param {PointerEvent} event */
  down(event) {
    this.overlay.focus({ preventScroll: true });
    const [x, y] = this.place(event);
    this.fingers.set(event.pointerId, { x, y });
    this.overlay.setPointerCapture(event.pointerId);
    const at = this.app.stage?.at(x, y);
    if (!at || this.fingers.size > 1) {
      this.drag = null;
      return;
    }
    const grabbed = this.app.grabs.find((grab) => grab({ kind: 'down', event, ...at }));
    const kind = grabbed ? 'grabbed' : event.button === 2 ? 'contrast' : event.shiftKey ? 'box' : event.button === 1 ? 'centre' : 'pan';
    this.drag = { kind, grab: grabbed, start: at, last: [x, y], moved: false };
    if (at.frame.number !== this.app.state.current && !this.app.state.blink.on) this.app.page({ current: at.frame.number });
  }

  /** @param {PointerEvent} event */
  move(event) {
    const [x, y] = this.place(event);
    const before = this.fingers.get(event.pointerId);
    if (before && this.fingers.size === 2) this.pinch(event.pointerId, x, y);
    if (before) this.fingers.set(event.pointerId, { x, y });
    const at = this.app.stage?.at(x, y) ?? null;
    this.app.emit('pointer', at && { ...at });
    if (!this.drag) return;
    const { kind, grab, start, last } = this.drag;
    if (!this.drag.moved && Math.hypot(x - start.x, y - start.y) < STILL && kind !== 'grabbed') return;
    this.drag.moved = true;
    const [row, col] = start.camera.toImage(x, y);
    if (kind === 'grabbed') grab({ kind: 'move', event, ...start, row, col, x, y });
    else if (kind === 'pan') pan(this.app, x - last[0], y - last[1], start.frame);
    else if (kind === 'contrast') contrast(this.app, start.frame, (x - last[0]) / this.overlay.clientWidth, (y - last[1]) / this.overlay.clientHeight);
    else if (kind === 'box') this.boxed(start, row, col);
    this.drag.last = [x, y];
  }

  /** @param {PointerEvent} event */
  up(event) {
    const [x, y] = this.place(event);
    this.fingers.delete(event.pointerId);
    const drag = this.drag;
    this.drag = null;
    if (!drag) return;
    const { kind, start, moved, grab } = drag;
    const [row, col] = start.camera.toImage(x, y);
    if (kind === 'grabbed') grab({ kind: 'up', event, ...start, row, col, x, y });
    else if (kind === 'box' && moved) this.app.emit('box', { frame: start.frame, rows: this.box?.rows, cols: this.box?.cols });
    else if (kind === 'centre') this.app.set({ view: { ...this.app.stage?.view(start.frame), row: start.row, col: start.col, fit: false } }, start.frame.number);
    else if (!moved && event.type === 'pointerup') this.click(start.frame, start.row, start.col);
  }

  /** @param {Frame} frame @param {number} row @param {number} col */
  click(frame, row, col) {
    [row, col] = [Math.round(row), Math.round(col)];
    const shape = this.app.meta(frame)?.shape ?? [0, 0];
    if (row >= 0 && col >= 0 && row < shape[0] && col < shape[1]) this.app.emit('click', { frame, row, col });
  }

  /** @param {any} start @param {number} row @param {number} col */
  boxed(start, row, col) {
    const [high, wide] = this.app.meta(start.frame)?.shape ?? [1, 1];
    /** @param {number} a @param {number} b @param {number} size @returns {[number, number]} */
    const span = (a, b, size) => [Math.max(0, Math.round(Math.min(a, b))), Math.min(size, Math.round(Math.max(a, b)) + 1)];
    this.box = { frame: start.frame.number, rows: span(start.row, row, high), cols: span(start.col, col, wide) };
    this.app.draw();
  }

  /** Two fingers: what lies between them stays between them. @param {number} id @param {number} x @param {number} y */
  pinch(id, x, y) {
    const other = [...this.fingers].find(([one]) => one !== id)?.[1];
    const mine = this.fingers.get(id);
    const frame = other && this.app.stage?.at(other.x, other.y)?.frame;
    if (!other || !mine || !frame) return;
    const factor = Math.hypot(x - other.x, y - other.y) / Math.max(1, Math.hypot(mine.x - other.x, mine.y - other.y));
    pan(this.app, (x - mine.x) / 2, (y - mine.y) / 2, frame);
    zoom(this.app, factor, frame, [(x + other.x) / 2, (y + other.y) / 2]);
  }

  /** @param {WheelEvent} event */
  wheel(event) {
    event.preventDefault();
    const [x, y] = this.place(event);
    const frame = this.app.stage?.at(x, y)?.frame;
    const unit = event.deltaMode === 1 ? 30 : 1;
    // A pinch on a touch pad comes as a wheel with Ctrl and small steps.
    zoom(this.app, Math.exp(-event.deltaY * unit * (event.ctrlKey ? 0.01 : 0.0015)), frame, [x, y]);
  }

  /** Move the cross of the keys by whole pixels; it begins in the middle of what is seen. @param {number} rows @param {number} cols */
  step(rows, cols) {
    const frame = this.app.showing()[0] && (this.app.state.blink.on ? this.app.showing()[0] : this.app.frame());
    const view = frame && this.app.stage?.view(frame);
    const shape = frame && this.app.meta(frame)?.shape;
    if (!frame || !view || !shape) return;
    const from = this.cross?.frame === frame.number ? this.cross : { row: Math.round(view.row), col: Math.round(view.col) };
    const row = within(from.row + rows, { least: 0, most: shape[0] - 1 });
    const col = within(from.col + cols, { least: 0, most: shape[1] - 1 });
    this.cross = { frame: frame.number, row, col };
    const [x, y] = this.app.stage?.shown.find((one) => one.frame === frame)?.camera?.toScreen(row, col) ?? [0, 0];
    this.app.emit('pointer', { frame, row, col, x, y });
    this.carry('move');
    this.app.draw();
  }

  /** Take hold at the cross as a pressed pointer does, or let go: what is armed is drawn, else a box. */
  hold() {
    if (!this.cross) this.step(0, 0);
    const frame = this.cross && this.app.frame(this.cross.frame);
    const at = frame && this.grip(frame);
    if (!at) return;
    if (this.held) {
      this.carry('up');
      if (!this.held.grab && this.box) this.app.emit('box', { frame, rows: this.box.rows, cols: this.box.cols });
      this.held = null;
      return;
    }
    /** @type {any} */
    let taken = false;
    const grab = this.app.grabs.find((one) => (taken = one({ kind: 'down', ...at })));
    if (!grab) this.boxed(at, at.row, at.col);
    if (taken !== 'corner') this.held = { start: at, grab }; // a polygon takes one corner with each press
  }

  /** Where the cross is, as a pointer would tell it. @param {Frame} frame */
  grip(frame) {
    const camera = this.app.stage?.shown.find((one) => one.frame === frame)?.camera;
    if (!camera || this.cross?.frame !== frame.number) return null;
    const { row, col } = this.cross;
    const [x, y] = camera.toScreen(row, col);
    return { frame, row, col, x, y, camera, event: { button: 0, detail: 1 } };
  }

  /** What is held goes with the cross. @param {'move'|'up'} kind */
  carry(kind) {
    const at = this.held && this.grip(this.held.start.frame);
    if (!this.held || !at) return;
    if (this.held.grab) this.held.grab({ kind, ...at });
    else this.boxed(this.held.start, at.row, at.col);
  }

  /** @param {CanvasRenderingContext2D} context @param {Frame} frame @param {(row: number, col: number) => [number, number]} toScreen */
  paint(context, frame, toScreen) {
    context.lineWidth = 2;
    if (this.box?.frame === frame.number) {
      const [x0, y0] = toScreen(this.box.rows[1] - 0.5, this.box.cols[0] - 0.5);
      const [x1, y1] = toScreen(this.box.rows[0] - 0.5, this.box.cols[1] - 0.5);
      outlined(context, () => context.rect(x0, y0, x1 - x0, y1 - y0), '#ffd166');
    }
    if (this.cross?.frame === frame.number) {
      const [x, y] = toScreen(this.cross.row, this.cross.col);
      outlined(context, () => {
        for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) {
          context.moveTo(x + 5 * dx, y + 5 * dy);
          context.lineTo(x + 16 * dx, y + 16 * dy);
        }
      }, '#ffd166');
    }
  }
}

/** A line that is seen on every ground: dark below, coloured above. @param {CanvasRenderingContext2D} context @param {() => void} path @param {string} colour */
export function outlined(context, path, colour) {
  context.beginPath();
  path();
  const width = context.lineWidth;
  context.lineWidth = width + 1.5;
  context.strokeStyle = 'rgba(0, 0, 0, 0.6)';
  context.stroke();
  context.lineWidth = width;
  context.strokeStyle = colour;
  context.stroke();
}

/** @param {App} app @param {Navigator} navigator */
export function keys(app, navigator) {
  const far = 0.15;
  const size = () => app.stage?.shown[0]?.cell ?? { w: 600, h: 600 };
  app.key('ArrowLeft', 'Move the view', () => pan(app, far * size().w, 0));
  app.key('ArrowRight', 'Move the view', () => pan(app, -far * size().w, 0));
  app.key('ArrowUp', 'Move the view', () => pan(app, 0, far * size().h));
  app.key('ArrowDown', 'Move the view', () => pan(app, 0, -far * size().h));
  app.key('Shift+ArrowLeft', 'Move the cross by one pixel', () => navigator.step(0, -1));
  app.key('Shift+ArrowRight', 'Move the cross by one pixel', () => navigator.step(0, 1));
  app.key('Shift+ArrowUp', 'Move the cross by one pixel', () => navigator.step(1, 0));
  app.key('Shift+ArrowDown', 'Move the cross by one pixel', () => navigator.step(-1, 0));
  app.key('Enter', 'Choose the pixel under the cross, as a click does', () => {
    const frame = navigator.cross && app.frame(navigator.cross.frame);
    if (frame && navigator.cross) navigator.click(frame, navigator.cross.row, navigator.cross.col);
  });
  app.key(' ', 'At the cross: begin, and end, a box or what is to be drawn', () => navigator.hold());
  app.key('+', 'Zoom in', () => zoom(app, STEP));
  app.key('=', 'Zoom in', () => zoom(app, STEP));
  app.key('-', 'Zoom out', () => zoom(app, 1 / STEP));
  app.key('f', 'Fit: the whole image', () => app.set({ view: { fit: true } }));
  app.key('z', '1:1: one pixel of the screen for each of the image', () => oneToOne(app));
}
