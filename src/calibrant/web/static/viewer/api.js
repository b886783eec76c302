// @ts-check
/** What the viewer asks of its server. Every answer that is not one becomes a `Trouble` with a sentence for people. */

/** @typedef {{name: string, unit: string, encoding: string, exact: boolean}} Plane */
/**
 * @typedef {object} Meta
 * @property {string} id
 * @property {string} name
 * @property {string} kind
 * @property {[number, number]} shape rows, cols
 * @property {number} reads
 * @property {string} unit
 * @property {string} dtype
 * @property {string} version
 * @property {number} tile
 * @property {{level: number, rows: number, cols: number}[]} levels
 * @property {Plane[]} planes
 * @property {import('./stretch.js').Summary} limits of the plane and read shown first
 * @property {any[]} amplifiers
 * @property {any[]} [pieces] detectors of a focal plane: name, image, rows, cols
 * @property {{bit: number, name: string, sentence: string, colour: string}[]} dq
 * @property {boolean} sky
 * @property {any} exposure
 * @property {any[]} quantities
 * @property {string|null} message
 */
/** @typedef {{plane: string, read: number, level: number, ty: number, tx: number, of: string}} Place */

/** An answer that is not one, in a sentence. */
export class Trouble extends Error {
  /** @param {string} sentence @param {number} status */
  constructor(sentence, status) {
    super(sentence);
    this.status = status;
  }
}

/** @param {Response} answer */
async function sentence(answer) {
  try {
    return (await answer.json()).error.sentence;
  } catch {
    return `The server answered ${answer.status} to ${new URL(answer.url).pathname}.`;
  }
}

/** @param {string} address @param {AbortSignal} [signal] @returns {Promise<Response>} */
async function asked(address, signal) {
  let answer;
  try {
    answer = await fetch(address, { signal });
  } catch (reason) {
    if (signal?.aborted) throw reason;
    throw new Trouble('The server does not answer: is calibrant still running?', 0);
  }
  if (!answer.ok) throw new Trouble(await sentence(answer), answer.status);
  return answer;
}

/** @param {string} id @param {Place} place @param {string} version */
export function tileAddress(id, place, version) {
  const { plane, read, level, ty, tx, of } = place;
  return `api/images/${encodeURIComponent(id)}/tiles/${encodeURIComponent(plane)}/${read}/${level}/${ty}/${tx}?v=${version}&of=${of}`;
}

const VIEWS = { f4: Float32Array, u2: Uint16Array, u4: Uint32Array };
/** @typedef {Float32Array|Uint16Array|Uint32Array} Pixels */

/** The file of an image was altered, or is gone. */
const LOST = [409, 410];

export class Api {
  constructor() {
    /** Told when an image is not what it was, whoever asked. @type {(id: string, reason: Trouble) => void} */
    this.lost = () => undefined;
  }

  /** @param {string} path below `/api/` @param {Record<string, any>} [query] @returns {Promise<any>} */
  async get(path, query = {}) {
    const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null);
    const text = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
    return (await asked(`api/${path}${text ? `?${text}` : ''}`)).json();
  }

  /** @returns {Promise<any>} */
  session() {
    return this.get('session');
  }

  /** About one image, or one of its parts: `image(id, 'pixel', {row, col})`. @param {string} id @param {string} [part] @param {Record<string, any>} [query] */
  async image(id, part, query) {
    try {
      return await this.get(`images/${encodeURIComponent(id)}${part ? `/${part}` : ''}`, query);
    } catch (reason) {
      if (part && reason instanceof Trouble && LOST.includes(reason.status)) this.lost(id, reason);
      throw reason;
    }
  }

  /**
   * The pixels of one tile as they are in the file.
   * @param {string} id @param {Place} place @param {string} version @param {AbortSignal} [signal]
   * @returns {Promise<{data: Pixels, rows: number, cols: number}>}
   */
  async tile(id, place, version, signal) {
    const answer = await asked(tileAddress(id, place, version), signal);
    const [rows, cols] = (answer.headers.get('X-Shape') ?? '').split(',').map(Number);
    const View = VIEWS[/** @type {'f4'|'u2'|'u4'} */ (answer.headers.get('X-Encoding'))];
    const bytes = await answer.arrayBuffer();
    if (!View || bytes.byteLength !== rows * cols * View.BYTES_PER_ELEMENT) {
      throw new Trouble('A tile of the image arrived incomplete.', 0);
    }
    return { data: new View(bytes), rows, cols };
  }

  /** Call `told` with each new revision of the session. @param {(revision: number) => void} told @returns {() => void} stops it */
  follow(told) {
    const events = new EventSource('api/events');
    events.onmessage = (message) => {
      const { revision } = JSON.parse(message.data);
      if (Number.isInteger(revision)) told(revision);
    };
    return () => events.close();
  }
}
