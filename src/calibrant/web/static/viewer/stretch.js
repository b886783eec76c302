// @ts-check
/**
 * From pixel values to steps of a colour map: limits and stretches. The reference of both renderers; pure, no page needed.
 * A value v becomes t = (v - low) / (high - low), clipped to 0..1, then f(t), then step floor(256 f), at most 255.
 */

/** @typedef {import('./state.js').Stretch} Stretch */
/** @typedef {import('./state.js').Limits} Limits */
/**
 * @typedef {object} Summary numbers of an image, as the server sends them
 * @property {number|null} min
 * @property {number|null} max
 * @property {number|null} median
 * @property {number|null} sigma
 * @property {[number, number]|null} zscale
 * @property {Record<string, number|null>} percentiles keys "0.5", "1", "2.5", "97.5", "99", "99.5"
 */

/** Steepness of the logarithm, as in DS9. */
export const LOG = 1000;
/** Steps of the table that equalises the histogram. */
export const BINS = 1024;
/** Number of each stretch in the shader. @type {Record<string, number>} */
export const CODES = Object.freeze({ linear: 0, log: 1, sqrt: 2, asinh: 3, power: 4, equalise: 5 });

/** The parameter a stretch needs in the shader. @param {Stretch} stretch */
export const parameter = (stretch) => ({ asinh: stretch.q, power: stretch.gamma, log: LOG })[stretch.name] ?? 1;

/**
 * @param {Stretch} stretch @param {Float32Array|null} equal table of `equaliser`
 * @returns {(t: number) => number} from 0..1 to 0..1, rising
 */
export function curve(stretch, equal = null) {
  const p = parameter(stretch);
  switch (stretch.name) {
    case 'log':
      return (t) => Math.log1p(p * t) / Math.log1p(p);
    case 'sqrt':
      return Math.sqrt;
    case 'asinh':
      return (t) => Math.asinh(p * t) / Math.asinh(p);
    case 'power':
      return (t) => t ** p;
    case 'equalise':
      return equal ? (t) => equal[Math.min(BINS - 1, Math.floor(t * BINS))] : (t) => t;
    default:
      return (t) => t;
  }
}

/**
 * Step of the colour map for a value.
 * @param {number} value @param {[number, number]} limits @param {(t: number) => number} shape @returns {number} 0..255
 */
export function step(value, [low, high], shape) {
  const t = high > low ? Math.min(1, Math.max(0, (value - low) / (high - low))) : value > low ? 1 : value < low ? 0 : 0.5;
  return Math.min(255, Math.floor(shape(t) * 256));
}

/** Finite values in rising order, at most `most` of them, evenly picked. @param {ArrayLike<number>} values @param {number} most */
export function sample(values, most = 65536) {
  const stride = Math.max(1, Math.ceil(values.length / most));
  const kept = new Float64Array(Math.ceil(values.length / stride));
  let count = 0;
  for (let i = 0; i < values.length; i += stride) if (Number.isFinite(values[i])) kept[count++] = values[i];
  return kept.subarray(0, count).sort();
}

/** @param {Float64Array} sorted @param {number} percent */
function quantile(sorted, percent) {
  const at = ((sorted.length - 1) * percent) / 100;
  const low = Math.floor(at);
  return sorted[low] + (sorted[Math.min(low + 1, sorted.length - 1)] - sorted[low]) * (at - low);
}

/**
 * Limits about the median whose slope is that of the sorted middle half, divided by the contrast (IRAF's zscale, without its
 * rejection rounds: the line goes through the quartiles, which outliers do not reach).
 * @param {Float64Array} sorted @param {number} contrast @returns {[number, number]}
 */
export function zscale(sorted, contrast = 0.25) {
  const last = sorted.length - 1;
  const median = quantile(sorted, 50);
  const reach = (quantile(sorted, 75) - quantile(sorted, 25)) / contrast;
  return reach > 0
    ? [Math.max(sorted[0], median - reach), Math.min(sorted[last], median + reach)]
    : [sorted[0], sorted[last]];
}

/** Numbers of what the browser made itself (differences, ratios). @param {ArrayLike<number>} values @returns {Summary} */
export function summary(values) {
  const sorted = sample(values);
  if (sorted.length === 0) return { min: null, max: null, median: null, sigma: null, zscale: null, percentiles: {} };
  const median = quantile(sorted, 50);
  const away = sorted.map((value) => Math.abs(value - median)).sort();
  const percents = [0.5, 1, 2.5, 97.5, 99, 99.5];
  return {
    min: sorted[0],
    max: sorted[sorted.length - 1],
    median,
    sigma: 1.4826 * quantile(away, 50),
    zscale: zscale(sorted),
    percentiles: Object.fromEntries(percents.map((percent) => [String(percent), quantile(sorted, percent)])),
  };
}

/** @param {number} percent share of the pixels between the limits @param {Summary} numbers @returns {[any, any]} */
function between(percent, numbers) {
  const tail = (100 - percent) / 2;
  return [numbers.percentiles[String(tail)] ?? numbers.min, numbers.percentiles[String(100 - tail)] ?? numbers.max];
}

/**
 * The two values that become the ends of the colour map.
 * @param {Limits} limits @param {Summary|null} numbers @returns {[number, number]} 0 and 1 where nothing is known
 */
export function resolved(limits, numbers) {
  const { min = null, max = null, median = null, sigma = null, zscale: scale = null } = numbers ?? {};
  /** @type {[number|null, number|null]} */
  let found = [min, max];
  if (limits.mode === 'typed') found = [limits.low ?? min, limits.high ?? max];
  else if (limits.mode === 'zscale' && scale) found = scale;
  else if (limits.mode === 'percentile' && numbers) found = between(limits.percent, numbers);
  else if (limits.mode === 'sigma' && median !== null && sigma) {
    found = [median - limits.sigma * sigma, median + limits.sigma * sigma];
  }
  return [found[0] ?? 0, found[1] ?? 1];
}

/**
 * Table that gives every step of the map the same share of the pixels between the limits.
 * @param {ArrayLike<number>} values @param {[number, number]} limits
 * @returns {Float32Array} BINS values from 0 to 1: the cumulated share at the middle of each bin
 */
export function equaliser(values, [low, high]) {
  const counts = new Float64Array(BINS);
  const scale = BINS / (high - low);
  let total = 0;
  for (let i = 0; i < values.length; i++) {
    const bin = Math.floor((values[i] - low) * scale);
    if (bin >= 0 && bin < BINS) {
      counts[bin]++;
      total++;
    }
  }
  let below = 0;
  return Float32Array.from(counts, (count, bin) => {
    below += count;
    return total ? (below - count / 2) / total : bin / (BINS - 1);
  });
}

/** The shortest text that names a float32 (or a whole number) exactly. @param {number} value */
export function text32(value) {
  if (!Number.isFinite(value) || Number.isInteger(value)) return String(value);
  for (let digits = 1; digits < 9; digits++) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === value) return String(short);
  }
  return String(Number(value.toPrecision(9)));
}

/** A number for a label, a few digits long. @param {number|null|undefined} value */
export function label(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return '–';
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e7)) return value.toExponential(3);
  return String(Number(value.toPrecision(6)));
}
