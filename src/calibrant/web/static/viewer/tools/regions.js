// @ts-check
/** Region files of DS9, in image coordinates: text to regions and back. Pure: no page needed. */

/**
 * @typedef {object} Region rows and columns from 0, the centre of a pixel being whole; DS9 counts x and y from 1
 * @property {'box'|'circle'|'polygon'} shape
 * @property {number} [row]
 * @property {number} [col]
 * @property {number} [height] of a box, rows before it is turned
 * @property {number} [width]
 * @property {number} [angle] of a box, degrees counter-clockwise
 * @property {number} [radius]
 * @property {[number, number][]} [points] row, col of the corners of a polygon
 * @property {string} [colour]
 * @property {string} [text]
 */

const HEAD = '# Region file format: DS9 version 4.1';
const SYSTEMS = /^(image|physical|linear|amplifier|detector|fk4|fk5|icrs|galactic|ecliptic|wcs\w?|j2000|b1950)$/i;
const OURS = /^(image|physical)$/i;
const SHAPE = /^([+-]?)\s*([a-z]+)\s*[( ]\s*([^)#]*)\)?\s*(?:#\s*(.*))?$/i;
const USUAL = 'green';

/** @param {number} value */
const number = (value) => String(Number(value.toFixed(4)));

/** @param {string} text @returns {Record<string, string>} colour, text … of a comment */
function properties(text) {
  /** @type {Record<string, string>} */
  const found = {};
  for (const [, name, braced, quoted, single, bare] of text.matchAll(/(\w+)=(?:\{([^}]*)\}|"([^"]*)"|'([^']*)'|(\S+))/g)) found[name.toLowerCase()] = braced ?? quoted ?? single ?? bare ?? '';
  return found;
}

/** Sizes may be written with a unit; those on the sky are none of an image. @param {string[]} words */
const numbers = (words) => words.map((word) => (/^[-+\d.e]+[ip]?$/i.test(word) ? Number.parseFloat(word) : Number.NaN));

/** @param {string} name @param {number[]} n @returns {Region|null} */
function shape(name, n) {
  if (n.some((one) => !Number.isFinite(one))) return null;
  if (name === 'circle' && n.length === 3 && n[2] > 0) return { shape: 'circle', row: n[1] - 1, col: n[0] - 1, radius: n[2] };
  if (name === 'box' && (n.length === 4 || n.length === 5) && n[2] > 0 && n[3] > 0) return { shape: 'box', row: n[1] - 1, col: n[0] - 1, width: n[2], height: n[3], angle: n[4] ?? 0 };
  if (name === 'polygon' && n.length >= 6 && n.length % 2 === 0) {
    return { shape: 'polygon', points: Array.from({ length: n.length / 2 }, (_, at) => /** @type {[number, number]} */ ([n[2 * at + 1] - 1, n[2 * at] - 1])) };
  }
  return null;
}

/**
 * @param {string} text of a region file
 * @returns {{regions: Region[], left: string[]}} what is understood; a sentence for each line that is not
 */
export function parsed(text) {
  /** @type {Region[]} */
  const regions = [];
  /** @type {string[]} */
  const left = [];
  let system = 'image';
  /** @type {Record<string, string>} */
  let common = {};
  text.split(/\r?\n/).forEach((whole, at) => {
    for (const piece of whole.trim().startsWith('#') ? [] : whole.split(/;(?![^{]*\})/)) {
      const line = piece.trim();
      if (!line) continue;
      if (/^global\b/i.test(line)) common = properties(line);
      else if (SYSTEMS.test(line)) system = line;
      else {
        const found = SHAPE.exec(line);
        const told = found && { ...common, ...properties(found[4] ?? '') };
        const region = found && shape(found[2].toLowerCase(), numbers(found[3].split(/[\s,]+/).filter(Boolean)));
        if (!OURS.test(system)) left.push(`Line ${at + 1}: ${system} coordinates; save the regions in image coordinates.`);
        else if (!region || found?.[1] === '-') left.push(`Line ${at + 1}: ${line.slice(0, 60)} is no box, circle or polygon in pixels.`);
        else regions.push({ ...region, colour: told?.color ?? USUAL, ...(told?.text ? { text: told.text } : {}) });
      }
    }
  });
  return { regions, left };
}

/** @param {Region} one */
function line(one) {
  const [x, y] = [(one.col ?? 0) + 1, (one.row ?? 0) + 1];
  const sizes =
    one.shape === 'circle' ? [x, y, one.radius]
    : one.shape === 'box' ? [x, y, one.width, one.height, one.angle ?? 0]
    : (one.points ?? []).flatMap(([row, col]) => [col + 1, row + 1]);
  const told = [one.colour && one.colour !== USUAL ? `color=${one.colour}` : '', one.text ? `text={${one.text.replaceAll(/[{}\n]/g, ' ')}}` : ''].filter(Boolean);
  return `${one.shape}(${sizes.map((value) => number(/** @type {number} */ (value))).join(',')})${told.length ? ` # ${told.join(' ')}` : ''}`;
}

/** @param {Region[]} regions @returns {string} a region file */
export const written = (regions) => [HEAD, `global color=${USUAL}`, 'image', ...regions.map(line), ''].join('\n');

/** Corners of a box as row, col. @param {Region} box @returns {[number, number][]} */
export function corners({ row = 0, col = 0, height = 0, width = 0, angle = 0 }) {
  const turn = (angle * Math.PI) / 180;
  const [cos, sin] = [Math.cos(turn), Math.sin(turn)];
  return /** @type {[number, number][]} */ ([[-1, -1], [-1, 1], [1, 1], [1, -1]].map(([y, x]) => {
    const [dx, dy] = [(x * width) / 2, (y * height) / 2];
    return [row + dx * sin + dy * cos, col + dx * cos - dy * sin];
  }));
}

/** Rows and columns that a box covers, one past the last; null for one that is turned. @param {Region} box @param {[number, number]} limit */
export function covered({ shape: kind, row = 0, col = 0, height = 0, width = 0, angle = 0 }, [rows, cols]) {
  if (kind !== 'box' || angle % 180 !== 0) return null;
  const span = (/** @type {number} */ middle, /** @type {number} */ size, /** @type {number} */ most) => {
    const first = Math.max(0, Math.round(middle - size / 2 + 0.5));
    return /** @type {[number, number]} */ ([first, Math.min(most, Math.max(first + 1, Math.round(middle + size / 2 + 0.5)))]);
  };
  const found = { rows: span(row, height, rows), cols: span(col, width, cols) };
  return found.rows[0] < rows && found.cols[0] < cols ? found : null;
}
