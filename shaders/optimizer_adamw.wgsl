// with: adamw
// One AdamW update of a parameter or of a group of them. On the way the gradient, a sum over the
// step's sentences, becomes their clipped mean: g = factor · gradient.
// All tensors have `count` elements, taken four at a time: buffers end on a multiple of 16 bytes,
// and what lies behind the last element is never read by anybody.
//   norm [3]: norm, factor, scale.
// In mixed precision `half` takes a copy of the weights, if HALF, and with SKIPS nothing changes in a
// step whose gradients overflowed: its factor is 0.

struct Params { by: AdamW, count: u32 }

alias Half = vec4f;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gradient: array<vec4f>;
@group(0) @binding(2) var<storage, read> norm: array<f32>;
@group(0) @binding(3) var<storage, read_write> weight: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> first: array<vec4f>;
@group(0) @binding(5) var<storage, read_write> second: array<vec4f>;
@group(0) @binding(6) var<storage, read_write> half: array<Half>;

const HALF: bool = false;
const SKIPS: bool = false;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    if (i >= (params.count + 3u) / 4u) { return; }
    if (SKIPS && norm[1] == 0.0) { return; }
    let g = gradient[i] * norm[1];
    let w = weight[i];
    let m = first[i];
    let v = second[i];
    let x = updated(vec3f(w.x, m.x, v.x), g.x, params.by);
    let y = updated(vec3f(w.y, m.y, v.y), g.y, params.by);
    let z = updated(vec3f(w.z, m.z, v.z), g.z, params.by);
    let t = updated(vec3f(w.w, m.w, v.w), g.w, params.by);
    let next = vec4f(x.x, y.x, z.x, t.x);
    weight[i] = next;
    if (HALF) { half[i] = Half(next); }
    first[i] = vec4f(x.y, y.y, z.y, t.y);
    second[i] = vec4f(x.z, y.z, z.z, t.z);
}
