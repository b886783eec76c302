// @ts-check
/** Colour maps as tables of 256 colours, and the colours of pixels that hold no number. Pure: no page needed. */

/**
 * Equally spaced colours, joined linearly: every fifth of matplotlib's viridis, inferno and magma (CC0; exact to one part in
 * 255), and the eleven of ColorBrewer's RdBu for signed images, both read safely without colour vision.
 * @type {Record<string, string>}
 */
const KNOTS = {
  viridis: [
    '44015446085c471063481769481d6f482475472a7a46307e453781433d844142873f48893d4e8a3a538b38598c355e8d',
    '33638d31688e2e6d8e2c718e2a768e297b8e27808e25848e23898e218e8d20928c1f978b1e9c891fa18821a58524aa83',
    '28ae802eb37c35b7793dbc7446c06f50c46a5ac86465cb5e70cf577cd25089d54895d840a2da37b0dd2fbddf26cae11f',
    'd8e219e5e419f1e51dfde725',
  ].join(''),
  inferno: [
    '00000402020c0504170a072210092d160b391e0c45260c512f0a5b380962400a67490b6a510e6c59106e61136e69166e',
    '71196e781c6d801f6c88226a902568982766a02a63a82e5fb0315bb73557bf3952c63d4dcc4248d34743d94d3ddf5337',
    'e45a31e9612bed6925f1711ff47918f78212f98b0bfa9407fb9d07fca60cfcb014fbba1ffac42af8cd37f6d746f4e156',
    'f2ea69f2f27df5f992fcffa4',
  ].join(''),
  magma: [
    '00000402020b0504160907200e0b2b140e361a104221114e29115a311165390f6e420f754a107952137c5a167e621980',
    '6a1c81721f81792282812581892881912b81992d80a1307eaa337db2357bba3878c23b75ca3e72d2426fd9466be04c67',
    'e75263ec5860f1605df4695cf7725cf97b5dfb8560fc8e64fd9869fea16efeaa74feb47bfebd82fec68afecf92fed89a',
    'fde2a3fdebacfcf4b6fcfdbf',
  ].join(''),
  diverging: '0530612166ac4393c392c5ded1e5f0f7f7f7fddbc7f4a582d6604db2182b67001f',
};

/** Names in the order in which the key of colours walks through them. */
export const MAPS = Object.freeze(['grey', 'viridis', 'inferno', 'magma', 'cubehelix', 'diverging']);

/**
 * Colour of NaN and colour of pixels flagged as no data, far from every colour of the map.
 * @type {Record<string, {nan: number[], none: number[]}>}
 */
const BLANKS = {
  grey: { nan: [62, 112, 178], none: [128, 84, 24] },
  viridis: { nan: [222, 120, 140], none: [150, 150, 165] },
  inferno: { nan: [70, 140, 190], none: [120, 160, 120] },
  magma: { nan: [60, 150, 170], none: [110, 150, 100] },
  cubehelix: { nan: [200, 60, 60], none: [60, 60, 200] },
  diverging: { nan: [80, 160, 60], none: [128, 128, 128] },
};

/** @param {string} hex @returns {number[]} */
const bytes = (hex) => (hex.match(/../g) ?? []).map((pair) => parseInt(pair, 16));

/**
 * Linear between equally spaced knots.
 * @param {number[]} knots red, green, blue, red, ... @param {number} place 0..1 @param {number} channel
 */
function between(knots, place, channel) {
  const last = knots.length / 3 - 1;
  const at = Math.min(Math.floor(place * last), last - 1);
  const low = knots[3 * at + channel];
  return low + (knots[3 * at + 3 + channel] - low) * (place * last - at);
}

/** Green's (2011) cubehelix with start 0.5, -1.5 rotations, hue and gamma 1. @param {number} place */
function helix(place) {
  const angle = 2 * Math.PI * (0.5 / 3 - 1.5 * place);
  const amplitude = (place * (1 - place)) / 2;
  const [cosine, sine] = [Math.cos(angle), Math.sin(angle)];
  return [
    place + amplitude * (-0.14861 * cosine + 1.78277 * sine),
    place + amplitude * (-0.29227 * cosine - 0.90649 * sine),
    place + amplitude * (1.97294 * cosine),
  ].map((value) => Math.min(1, Math.max(0, value)) * 255);
}

/** @type {Map<string, Uint8Array>} */
const made = new Map();

/**
 * The 256 colours of a map.
 * @param {{map: string, invert: boolean}} colours
 * @returns {Uint8Array} 1024 bytes: red, green, blue, 255 of each step, lowest first; one array for each map, never altered
 */
export function table(colours) {
  const key = `${colours.map}${colours.invert}`;
  const known = made.get(key);
  if (known) return known;
  const lut = new Uint8Array(1024);
  const knots = bytes(KNOTS[colours.map] ?? '000000ffffff');
  for (let step = 0; step < 256; step++) {
    const place = (colours.invert ? 255 - step : step) / 255;
    const rgb = colours.map === 'cubehelix' ? helix(place) : [0, 1, 2].map((c) => between(knots, place, c));
    lut.set([...rgb.map(Math.round), 255], 4 * step);
  }
  made.set(key, lut);
  return lut;
}

/** Colours of NaN and of no data beside a map. @param {string} map */
export const blanks = (map) => BLANKS[map] ?? BLANKS.grey;

/** Red, green and blue of `#rrggbb`; black where it is not one. @param {string|undefined} text @returns {number[]} */
export function rgb(text) {
  return /^#[0-9a-f]{6}$/i.test(text ?? '') ? bytes(/** @type {string} */ (text).slice(1)) : [0, 0, 0];
}
