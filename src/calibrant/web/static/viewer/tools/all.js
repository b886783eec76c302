// @ts-check
/** The tools, in the order of their panels. */
import { adjust } from './adjust.js';
import { cuts } from './cuts.js';
import { draw } from './draw.js';
import { header } from './header.js';
import { histogram } from './histogram.js';
import { masks } from './masks.js';
import { pieces } from './pieces.js';
import { ramp } from './ramp.js';
import { readout } from './readout.js';
import { statistics } from './statistics.js';

/** @param {import('../app.js').App} app */
export function tools(app) {
  for (const tool of [pieces, readout, ramp, statistics, cuts, histogram, masks, adjust, draw, header]) tool(app);
}
