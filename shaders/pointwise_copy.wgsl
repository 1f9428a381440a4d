// y = x, each of `count` elements, which may be stored in different ways; four at a time: buffers
// end on a multiple of 16 bytes, and what lies behind the last element of y is nobody's.

struct Params { count: u32 }

alias X = vec4f;
alias Y = vec4f;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<X>;
@group(0) @binding(2) var<storage, read_write> y: array<Y>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    if (4u * i < params.count) { y[i] = Y(vec4f(x[i])); }
}
