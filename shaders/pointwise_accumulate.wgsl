// sum += x, each of `count` elements, taken four at a time: buffers end on a multiple of 16 bytes.
// What lies behind the last element of `x` may be anything, and of `sum` it stays as it is.

struct Params { count: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> sum: array<vec4f>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    if (4u * i >= params.count) { return; }
    let inside = vec4u(4u * i) + vec4u(0u, 1u, 2u, 3u) < vec4u(params.count);
    sum[i] += select(vec4f(0.0), x[i], inside);
}
