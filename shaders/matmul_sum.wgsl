// with: activation
// The end of a matrix product that was cut along k: c = activation(Σ parts + bias), in the order of
// the parts.
//   parts [SPLIT, m, n];  c [m, n];  bias [n].  n is a multiple of 4.
// With an activation, `before` [m, n] keeps the values it was applied to, which its gradient needs.

struct Params { m: u32, n: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> parts: array<vec4f>;
@group(0) @binding(2) var<storage, read> bias: array<vec4f>;
@group(0) @binding(3) var<storage, read_write> c: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> before: array<vec4f>;

const BIAS: bool = false;
const KEEP_BEFORE: bool = false;
const SPLIT: u32 = 2u;

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
