// with: adamw
// One AdamW update of a parameter or of a group of them. On the way the gradient, a sum over the
// step's sentences, becomes their clipped mean: g = factor · gradient.
// All tensors have `count` elements, taken four at a time: buffers end on a multiple of 16 bytes,
// and what lies behind the last element is never read by anybody.
//   norm [2]: norm, factor.

struct Params { by: AdamW, count: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gradient: array<vec4f>;
@group(0) @binding(2) var<storage, read> norm: array<f32>;
@group(0) @binding(3) var<storage, read_write> weight: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> first: array<vec4f>;
@group(0) @binding(5) var<storage, read_write> second: array<vec4f>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    if (i >= (params.count + 3u) / 4u) { return; }
    let g = gradient[i] * norm[1];
    let w = weight[i];
    let m = first[i];
    let v = second[i];
    let x = updated(vec3f(w.x, m.x, v.x), g.x, params.by);
    let y = updated(vec3f(w.y, m.y, v.y), g.y, params.by);
    let z = updated(vec3f(w.z, m.z, v.z), g.z, params.by);
    let t = updated(vec3f(w.w, m.w, v.w), g.w, params.by);
    weight[i] = vec4f(x.x, y.x, z.x, t.x);
    first[i] = vec4f(x.y, y.y, z.y, t.y);
    second[i] = vec4f(x.z, y.z, z.z, t.z);
}
