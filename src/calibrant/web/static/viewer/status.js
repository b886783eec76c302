// @ts-check
/** The line below the picture: the pixel under the pointer, and what the colours mean. */
import { table } from './colours.js';
import { byId } from './panels.js';
import { curve, label, text32 } from './stretch.js';

/** @typedef {import('./app.js').App} App */
/** @typedef {import('./state.js').Frame} Frame */

/** Milliseconds the pointer must rest before the server is asked for a pixel that is not in memory. */
const REST = 80;
const BAR = 256;

export class Status {
  /** @param {App} app */
  constructor(app) {
    this.app = app;
    /** @type {{number: number, row: number, col: number}|null} */
    this.at = null;
    /** @type {ReturnType<typeof setTimeout>|undefined} */
    this.asking = undefined;
    this.drawn = '';
    app.on('pointer', (pointer) => this.point(pointer));
    for (const event of ['change', 'image', 'tiles', 'blink']) app.on(event, () => this.show());
    app.on('paint', () => this.bar());
  }

  /** @param {import('./app.js').Pointer|null} pointer */
  point(pointer) {
    this.at = pointer && { number: pointer.frame.number, row: Math.round(pointer.row), col: Math.round(pointer.col) };
    this.show();
  }

  show() {
    clearTimeout(this.asking);
    const shown = this.app.showing();
    const frame = shown.length > 1 ? this.app.frame(this.at?.number) : shown[0];
    const meta = frame && this.app.meta(frame);
    if (!frame || !meta) {
      this.write((frame && this.app.trouble(frame)) ?? '');
      return;
    }
    const [rows, cols] = meta.shape;
    const inside = this.at && this.at.row >= 0 && this.at.col >= 0 && this.at.row < rows && this.at.col < cols;
    if (!this.at || !inside) {
      this.write(`${meta.name} · ${rows} × ${cols}${meta.reads > 1 ? ` × ${meta.reads} reads` : ''}${meta.message ? ` · ${meta.message}` : ''}`);
      return;
    }
    const { row, col } = this.at;
    const value = this.app.pixels(frame).value(row, col);
    const unit = meta.planes.find(({ name }) => name === this.app.planeOf(frame))?.unit ?? '';
    this.write(this.words(frame, row, col, value === undefined ? '…' : text32(value), unit));
    if (value === undefined) this.asking = setTimeout(() => void this.ask(frame, meta, row, col, unit), REST);
  }

  /** @param {Frame} frame @param {number} row @param {number} col @param {string} value @param {string} unit */
  words(frame, row, col, value, unit) {
    return `Frame ${frame.number} · row ${row} · col ${col} · ${value}${unit && value !== '…' ? ` ${unit}` : ''}${this.beside(frame, row, col)}`;
  }

  /** Difference or ratio, where that is what the picture shows. @param {Frame} frame @param {number} row @param {number} col */
  beside(frame, row, col) {
    const other = frame.against && this.app.frame(frame.against.frame);
    const [a, b] = [frame, other].map((one) => one && this.app.pixels(one).value(row, col));
    if (!frame.against || a === undefined || b === undefined || a === null || b === null) return '';
    return frame.against.kind === 'ratio' ? ` · ratio to frame ${frame.against.frame}: ${label(a / b)}` : ` · minus frame ${frame.against.frame}: ${label(a - b)}`;
  }

  /** @param {Frame} frame @param {import('./api.js').Meta} meta @param {number} row @param {number} col @param {string} unit */
  async ask(frame, meta, row, col, unit) {
    try {
      const { planes } = await this.app.api.image(meta.id, 'pixel', { row, col, read: Math.min(frame.read, meta.reads - 1) });
      const text = planes[this.app.planeOf(frame)]?.text;
      if (this.at?.row === row && this.at.col === col && text !== undefined) this.write(this.words(frame, row, col, text, unit));
    } catch {
      // The line keeps its dots; tiles say what is wrong with the file.
    }
  }

  /** @param {string} words */
  write(words) {
    if (byId('status').textContent !== words) byId('status').textContent = words;
  }

  /** Colours against values: evenly spaced in value, so that the stretch is seen. */
  bar() {
    const frame = this.app.showing()[0];
    const source = frame && this.app.source(frame);
    if (!frame || !source) return;
    const [low, high] = this.app.limits(frame);
    const shape = curve(frame.stretch, this.app.equal(frame, source, [low, high]));
    const lut = table(frame.colours);
    const key = JSON.stringify([frame.stretch, frame.colours, low, high, shape(0.5)]);
    if (key === this.drawn) return;
    this.drawn = key;
    const image = new ImageData(BAR, 1);
    for (let i = 0; i < BAR; i++) {
      const step = Math.min(255, Math.floor(shape(i / (BAR - 1)) * 256));
      image.data.set(lut.subarray(4 * step, 4 * step + 4), 4 * i);
    }
    byId('bar').getContext('2d').putImageData(image, 0, 0);
    byId('bar-low').textContent = label(low);
    byId('bar-high').textContent = label(high);
  }
}
