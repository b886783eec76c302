// @ts-check
/**
 * Painting with WebGL2: one rectangle and one shader for each tile. Pixels are whole-number textures, floats as their bits: NaN is
 * then found by comparing integers, which no driver may optimise away. A change of stretch changes uniforms only.
 */
import { BINS } from './stretch.js';
import { FRAGMENT, VERTEX } from './shader.js';

/** @typedef {import('./scene.js').Painted} Painted */
/** @typedef {import('./tiles.js').Tile} Tile */

/** Bytes of textures kept. */
const BUDGET = 256 * 2 ** 20;
const UNIFORMS = [
  'pixels', 'flags', 'colours', 'equal', 'kind', 'last', 'flagLast', 'corner', 'offset', 'size', 'limits', 'code', 'parameter',
  'nan', 'none', 'shown', 'blank', 'alpha', 'tints', 'box', 'canvas',
];

/** @param {WebGL2RenderingContext} gl @param {number} type @param {string} text */
function compiled(gl, type, text) {
  const shader = /** @type {WebGLShader} */ (gl.createShader(type));
  gl.shaderSource(shader, text);
  gl.compileShader(shader);
  if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS) && !gl.isContextLost()) throw new Error(gl.getShaderInfoLog(shader) ?? '');
  return shader;
}

/** Whether the processor plays the graphics card. @param {WebGL2RenderingContext} gl */
function imitated(gl) {
  const more = gl.getExtension('WEBGL_debug_renderer_info');
  const name = String(gl.getParameter(more ? more.UNMASKED_RENDERER_WEBGL : gl.RENDERER));
  const found = /swiftshader|llvmpipe|softpipe|software|basic render/i.test(name);
  if (found) gl.getExtension('WEBGL_lose_context')?.loseContext();
  return found;
}

export class GlRenderer {
  /**
   * @param {HTMLCanvasElement} canvas @param {{lost: () => void, restored: () => void}} told
   * @param {boolean} fast refuse where there is no graphics card
   */
  constructor(canvas, told, fast) {
    this.kind = 'webgl2';
    this.canvas = canvas;
    /** @type {WebGLContextAttributes} */
    const options = { alpha: false, antialias: false, depth: false, stencil: false };
    const gl = canvas.getContext('webgl2', options);
    if (!gl || (fast && imitated(gl))) throw new Error('no WebGL2');
    this.gl = gl;
    /** @type {Map<any, {texture: WebGLTexture, bytes: number}>} least recently used first */
    this.textures = new Map();
    this.bytes = 0;
    /** @type {Record<string, WebGLUniformLocation|null>} */
    this.at = {};
    this.nothing = { key: '', id: '', data: new Uint32Array(1), rows: 1, cols: 1 };
    this.straight = new Float32Array(BINS);
    this.prepare();
    canvas.addEventListener('webglcontextlost', (event) => {
      event.preventDefault();
      told.lost();
    });
    canvas.addEventListener('webglcontextrestored', () => {
      this.prepare();
      told.restored();
    });
  }

  /** All that a context holds; made again when it comes back. */
  prepare() {
    const gl = this.gl;
    this.textures.clear();
    this.bytes = 0;
    const program = /** @type {WebGLProgram} */ (gl.createProgram());
    gl.attachShader(program, compiled(gl, gl.VERTEX_SHADER, VERTEX));
    gl.attachShader(program, compiled(gl, gl.FRAGMENT_SHADER, FRAGMENT));
    gl.linkProgram(program);
    gl.useProgram(program);
    this.at = Object.fromEntries(UNIFORMS.map((name) => [name, gl.getUniformLocation(program, name)]));
    gl.bindVertexArray(gl.createVertexArray());
    ['pixels', 'flags', 'colours', 'equal'].forEach((name, unit) => gl.uniform1i(this.at[name], unit));
    gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
  }

  /** @param {any} owner @param {number} bytes @param {(texture: WebGLTexture) => void} fill @param {number} unit */
  bind(owner, bytes, fill, unit) {
    const gl = this.gl;
    gl.activeTexture(gl.TEXTURE0 + unit);
    let held = this.textures.get(owner);
    if (held) {
      this.textures.delete(owner);
      this.textures.set(owner, held);
      gl.bindTexture(gl.TEXTURE_2D, held.texture);
      return;
    }
    held = { texture: /** @type {WebGLTexture} */ (gl.createTexture()), bytes };
    gl.bindTexture(gl.TEXTURE_2D, held.texture);
    for (const name of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, name, gl.NEAREST);
    for (const name of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, name, gl.CLAMP_TO_EDGE);
    fill(held.texture);
    this.textures.set(owner, held);
    this.bytes += bytes;
    for (const old of this.textures.keys()) {
      if (this.bytes <= BUDGET) break;
      if (old !== owner) this.forget(old);
    }
  }

  /** @param {any} owner a tile or a table whose texture is no longer needed */
  forget(owner) {
    const held = this.textures.get(owner);
    if (!held) return;
    this.gl.deleteTexture(held.texture);
    this.textures.delete(owner);
    this.bytes -= held.bytes;
  }

  /** @param {Tile} tile @param {number} unit */
  tile(tile, unit) {
    const gl = this.gl;
    const { data, rows, cols } = tile;
    this.bind(tile, data.byteLength, () => {
      if (data instanceof Uint16Array) {
        gl.texImage2D(gl.TEXTURE_2D, 0, gl.R16UI, cols, rows, 0, gl.RED_INTEGER, gl.UNSIGNED_SHORT, data);
        return;
      }
      const bits = new Uint32Array(data.buffer, data.byteOffset, data.length);
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.R32UI, cols, rows, 0, gl.RED_INTEGER, gl.UNSIGNED_INT, bits);
    }, unit);
  }

  /** @param {import('./scene.js').Paint} paint */
  paint(paint) {
    const { gl, at } = this;
    this.bind(paint.lut, 1024, () => gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, 256, 1, 0, gl.RGBA, gl.UNSIGNED_BYTE, paint.lut), 2);
    const equal = paint.equal ?? this.straight;
    this.bind(equal, 4 * BINS, () => {
      const bits = new Uint32Array(equal.buffer);
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.R32UI, BINS, 1, 0, gl.RED_INTEGER, gl.UNSIGNED_INT, bits);
    }, 3);
    gl.uniform2f(at.limits, ...paint.limits);
    gl.uniform1i(at.code, paint.code);
    gl.uniform1f(at.parameter, paint.parameter);
    gl.uniform3fv(at.nan, paint.nan.map((value) => value / 255));
    gl.uniform3fv(at.none, paint.none.map((value) => value / 255));
    gl.uniform1ui(at.shown, paint.shown >>> 0);
    gl.uniform1ui(at.blank, paint.blank >>> 0);
    gl.uniform1f(at.alpha, paint.alpha);
    gl.uniform3fv(at.tints, paint.tints.flat().map((value) => value / 255));
  }

  /** @param {number} width @param {number} height in device pixels */
  resize(width, height) {
    if (this.canvas.width !== width) this.canvas.width = width;
    if (this.canvas.height !== height) this.canvas.height = height;
  }

  /** @param {Painted[]} cells @param {number[]} background red, green, blue */
  render(cells, background) {
    const { gl, at, canvas } = this;
    if (gl.isContextLost()) return;
    const [width, height] = [canvas.width, canvas.height];
    gl.viewport(0, 0, width, height);
    gl.clearColor(background[0] / 255, background[1] / 255, background[2] / 255, 1);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.uniform2f(at.canvas, width, height);
    for (const { draws, paint } of cells) {
      if (draws.length) this.paint(paint);
      for (const { tile, flags, x0, x1, y0, y1, left, bottom, size } of draws) {
        this.tile(tile, 0);
        this.tile(flags ?? this.nothing, 1);
        gl.uniform1i(at.kind, tile.data instanceof Float32Array ? 0 : 1);
        gl.uniform2i(at.last, tile.cols - 1, tile.rows - 1);
        gl.uniform2i(at.flagLast, (flags ?? this.nothing).cols - 1, (flags ?? this.nothing).rows - 1);
        gl.uniform4f(at.box, x0, height - y1, x1, height - y0);
        gl.uniform2f(at.corner, x0, height - y1);
        gl.uniform2f(at.offset, x0 - left, bottom - y1);
        gl.uniform1f(at.size, size);
        gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
      }
    }
  }

  /**
   * Colours on the canvas, straight after `render`.
   * @param {number} x @param {number} y from the top @param {number} w @param {number} h @returns {Uint8Array} first row at the top
   */
  read(x, y, w, h) {
    const upside = new Uint8Array(4 * w * h);
    this.gl.readPixels(x, this.canvas.height - y - h, w, h, this.gl.RGBA, this.gl.UNSIGNED_BYTE, upside);
    const rows = Array.from({ length: h }, (_, row) => upside.subarray(4 * w * (h - 1 - row), 4 * w * (h - row)));
    const out = new Uint8Array(upside.length);
    rows.forEach((row, at) => out.set(row, 4 * w * at));
    return out;
  }
}
