// @ts-check
/** The shader of `gl.js`; the same rules as `stretch.js`, which is its reference. */

export const VERTEX = `#version 300 es
uniform vec4 box;
uniform vec2 canvas;
void main() {
  vec2 at = mix(box.xy, box.zw, vec2(gl_VertexID & 1, gl_VertexID >> 1));
  gl_Position = vec4(2.0 * at / canvas - 1.0, 0.0, 1.0);
}`;

export const FRAGMENT = `#version 300 es
precision highp float;
precision highp int;
precision highp usampler2D;
uniform usampler2D pixels, flags, equal;
uniform sampler2D colours;
uniform int kind, code;
uniform ivec2 last, flagLast;
uniform vec2 corner, offset, limits;
uniform float size, parameter, alpha;
uniform vec3 nan, none, tints[32];
uniform uint shown, blank;
out vec4 colour;

float bend(float t) {
  float p = parameter;
  if (code == 1) return log(1.0 + p * t) / log(1.0 + p);
  if (code == 2) return sqrt(t);
  if (code == 3) return asinh(p * t) / asinh(p);
  if (code == 4) return t > 0.0 ? pow(t, p) : 0.0;
  if (code == 5) return uintBitsToFloat(texelFetch(equal, ivec2(min(int(t * ${1024}.0), ${1023}), 0), 0).r);
  return t;
}

vec3 mapped(uint raw) {
  if (kind == 0 && (raw & 0x7fffffffu) > 0x7f800000u) return nan;
  float value = kind == 0 ? uintBitsToFloat(raw) : float(raw);
  float span = limits.y - limits.x;
  float t = span > 0.0 ? (value - limits.x) / span : value > limits.x ? 1.0 : value < limits.x ? 0.0 : 0.5;
  return texelFetch(colours, ivec2(min(255, int(bend(clamp(t, 0.0, 1.0)) * 256.0)), 0), 0).rgb;
}

void main() {
  ivec2 at = clamp(ivec2(floor((gl_FragCoord.xy - corner + offset) / size)), ivec2(0), last);
  uint flag = texelFetch(flags, min(at, flagLast), 0).r;
  vec3 seen = blank != 0u && (flag & blank) == blank ? none : mapped(texelFetch(pixels, at, 0).r);
  uint on = flag & shown;
  if (blank != 0u && (flag & blank) == blank) on &= ~blank;
  if (on != 0u) for (int bit = 0; bit < 32; bit++) if ((on & (1u << bit)) != 0u) seen = mix(seen, tints[bit], alpha);
  colour = vec4(seen, 1.0);
}`;
