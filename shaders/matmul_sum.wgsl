// The end of a matrix product that was cut along k: c = activation(Σ parts + bias), in the order of the
// parts.
//   parts [SPLIT, m, n];  c [m, n];  bias [n].  n is a multiple of 4.
// With an activation, `before` [m, n] keeps the values it was applied to, which its gradient needs.

struct Params { m: u32, n: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> parts: array<vec4f>;
@group(0) @binding(2) var<storage, read> bias: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> c: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> before: array<vec4f>;

const BIAS: bool = false;
const ACTIVATION: u32 = 0u; // 0 none, 1 GELU, 2 ReLU
const KEEP_BEFORE: bool = false;
const SPLIT: u32 = 2u;

// Complementary error function, relative error below 1.2e-7 everywhere (Chebyshev fit of Numerical
// Recipes, section 6.2), so that the tails of GELU keep their digits.
fn erfc(x: vec4f) -> vec4f {
    let z = abs(x);
    let t = 1.0 / (1.0 + 0.5 * z);
    let series = -1.26551223 + t * (1.00002368 + t * (0.37409196 + t * (0.09678418
        + t * (-0.18628806 + t * (0.27886807 + t * (-1.13520398 + t * (1.48851587
        + t * (-0.82215223 + t * 0.17087277))))))));
    let tail = t * exp(series - z * z);
    return select(tail, 2.0 - tail, x < vec4f(0.0));
}

fn activate(x: vec4f) -> vec4f {
    if (ACTIVATION == 1u) { return 0.5 * x * erfc(-0.70710678 * x); }
    if (ACTIVATION == 2u) { return max(x, vec4f(0.0)); }
    return x;
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    let count = params.m * (params.n / 4u);
    if (i >= count) { return; }
    var value = parts[i];
    for (var part = 1u; part < SPLIT; part++) { value += parts[part * count + i]; }
    if (BIAS) { value += bias[i % (params.n / 4u)]; }
    if (KEEP_BEFORE) { before[i] = value; }
    c[i] = activate(value);
}
