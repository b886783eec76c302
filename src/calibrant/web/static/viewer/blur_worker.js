// @ts-check
/** Smooths tiles beside the page. */
import { blurred } from './blur.js';

onmessage = ({ data: { key, data, rows, cols, halo, sigma } }) => {
  const smooth = blurred(data, rows, cols, halo, sigma);
  postMessage({ key, data: smooth }, { transfer: [smooth.buffer] });
};
