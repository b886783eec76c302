// @ts-check
/** Gaussian smoothing for the display. Pure: runs in a worker, and in the tests without one. */

/** @param {number} sigma @param {number} reach @returns {Float64Array} weights at 0..reach */
function weights(sigma, reach) {
  return Float64Array.from({ length: reach + 1 }, (_, at) => Math.exp((-at * at) / (2 * sigma * sigma)));
}

/**
 * Sums of weighted values along one axis.
 * @param {Float64Array} from @param {Float64Array} kernel @param {number} count of lines @param {number} length of what comes out
 * @param {{line: number, step: number}} stride of `from` @param {{line: number, step: number}} out
 */
function along(from, kernel, count, length, stride, out) {
  const reach = kernel.length - 1;
  const into = new Float64Array(count * length);
  for (let line = 0; line < count; line++) {
    for (let at = 0; at < length; at++) {
      let place = line * stride.line + at * stride.step;
      let sum = 0;
      for (let tap = -reach; tap <= reach; tap++, place += stride.step) sum += from[place] * kernel[tap < 0 ? -tap : tap];
      into[line * out.line + at * out.step] = sum;
    }
  }
  return into;
}

/**
 * The middle of a padded tile, smoothed; NaN takes no part, and is filled where the Gaussian reaches a number.
 * @param {Float32Array} data (rows + 2 halo) x (cols + 2 halo) @param {number} rows @param {number} cols @param {number} halo
 * @param {number} sigma in pixels of the tile @returns {Float32Array} rows x cols
 */
export function blurred(data, rows, cols, halo, sigma) {
  const [wide, high] = [cols + 2 * halo, rows + 2 * halo];
  const kernel = weights(sigma, halo);
  const value = new Float64Array(data.length);
  const weight = new Float64Array(data.length);
  for (let i = 0; i < data.length; i++) {
    if (Number.isFinite(data[i])) {
      value[i] = data[i];
      weight[i] = 1;
    }
  }
  const both = [value, weight].map((plane) => {
    const across = along(plane, kernel, high, cols, { line: wide, step: 1 }, { line: cols, step: 1 });
    return along(across, kernel, cols, rows, { line: 1, step: cols }, { line: 1, step: cols });
  });
  return Float32Array.from(both[0], (sum, i) => (both[1][i] > 0 ? sum / both[1][i] : NaN));
}
