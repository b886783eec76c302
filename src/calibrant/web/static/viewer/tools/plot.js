// @ts-check
/** Small plots in panels, drawn by uPlot, which is fetched when the first of them is needed. */
import { el } from './dom.js';

const SCRIPT = 'static/uplot/uPlot.iife.min.js';
const STYLE = 'static/uplot/uPlot.min.css';
const COLOURS = ['--plot-0', '--plot-1', '--plot-2', '--plot-3'];

/** @type {Promise<any>|null} */
let loading = null;

/** @returns {Promise<any>} uPlot */
function library() {
  loading ??= new Promise((done, failed) => {
    const script = el('script', { src: SCRIPT, onload: () => done(/** @type {any} */ (window).uPlot), onerror: () => failed(new Error('The plots cannot be loaded.')) });
    document.head.append(el('link', { rel: 'stylesheet', href: STYLE }), script);
  });
  return loading;
}

/** @param {string} name of a custom property */
const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/**
 * @typedef {object} Curve
 * @property {string} label
 * @property {(number|null)[]} x
 * @property {(number|null)[]} y
 * @property {boolean} [points] points instead of a line
 * @property {boolean} [steps] steps, as of a histogram
 */

/** A plot that stands in `element` and is drawn anew with `show`. */
export class Plot {
  /** @param {HTMLElement} element @param {{x: string, height?: number, log?: boolean, chosen?: (x: number) => void}} options */
  constructor(element, options) {
    this.element = element;
    this.options = options;
    /** @type {any} */
    this.drawn = null;
    element.classList.add('plot');
  }

  /** @param {string} y what stands on the axis @param {Curve[]} curves @param {string} words for those who do not see it */
  async show(y, curves, words) {
    const uPlot = await library();
    const width = Math.max(220, this.element.clientWidth || 290);
    this.drawn?.destroy();
    this.element.setAttribute('role', 'img');
    this.element.setAttribute('aria-label', words);
    this.drawn = new uPlot(this.settings(uPlot, y, curves, width), joined(uPlot, curves), this.element);
  }

  clear() {
    this.drawn?.destroy();
    this.drawn = null;
  }

  /** @param {any} uPlot @param {string} y @param {Curve[]} curves @param {number} width */
  settings(uPlot, y, curves, width) {
    const axis = { stroke: ink('--soft'), grid: { stroke: ink('--line') }, ticks: { stroke: ink('--line') }, font: '11px system-ui', labelFont: '11px system-ui', labelSize: 16 };
    const series = curves.map(({ label, points, steps }, at) => ({
      label,
      stroke: ink(COLOURS[at % COLOURS.length]),
      width: 1,
      spanGaps: false,
      ...(points ? { paths: () => null, points: { show: true, size: 4 } } : { points: { show: false } }),
      ...(steps ? { paths: uPlot.paths.stepped({ align: 1 }) } : {}),
    }));
    return {
      width,
      height: this.options.height ?? 150,
      legend: { show: false },
      cursor: { drag: { x: true, y: false }, points: { size: 5 } },
      scales: { x: { time: false }, y: this.options.log ? { distr: 3 } : {} },
      axes: [{ ...axis, label: this.options.x, size: 30 }, { ...axis, label: y, size: 56 }],
      series: [{ label: this.options.x }, ...series],
      hooks: { ready: [(/** @type {any} */ plot) => this.listen(plot)] },
    };
  }

  /** @param {any} plot */
  listen(plot) {
    plot.over.addEventListener('click', () => {
      if (plot.cursor.idx !== null && plot.cursor.idx !== undefined) this.options.chosen?.(plot.data[0][plot.cursor.idx]);
    });
  }
}

/** @param {any} uPlot @param {Curve[]} curves */
const joined = (uPlot, curves) => (curves.length === 1 ? [curves[0].x, curves[0].y] : uPlot.join(curves.map(({ x, y }) => [x, y])));
