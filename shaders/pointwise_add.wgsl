// y = a + b, each of `count` elements, four at a time: buffers end on a multiple of 16 bytes, but
// what lies behind the last element of y is not this kernel's to write.

struct Params { count: u32 }

alias A = vec4f;
alias B = vec4f;
alias Y = vec4f;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<A>;
@group(0) @binding(2) var<storage, read> b: array<B>;
@group(0) @binding(3) var<storage, read_write> y: array<Y>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    if (i < params.count / 4u) {
        y[i] = Y(vec4f(a[i]) + vec4f(b[i]));
    } else if (4u * i < params.count) {
        let value = Y(vec4f(a[i]) + vec4f(b[i]));
        for (var j = 0u; j < params.count % 4u; j++) { y[i][j] = value[j]; }
    }
}
