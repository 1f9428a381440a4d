// with: activation
// Gradient of an activation: dx = dy · f'(x), x being the values before the activation. `count`
// elements, four at a time: buffers end on a multiple of 16 bytes, but what lies behind the last
// element of dx is not this kernel's to write.

struct Params { count: u32 }

alias X = vec4f;
alias Dy = vec4f;
alias Dx = vec4f;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<X>;
@group(0) @binding(2) var<storage, read> dy: array<Dy>;
@group(0) @binding(3) var<storage, read_write> dx: array<Dx>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    if (i < params.count / 4u) {
        dx[i] = Dx(vec4f(dy[i]) * slope(vec4f(x[i])));
    } else if (4u * i < params.count) {
        let value = Dx(vec4f(dy[i]) * slope(vec4f(x[i])));
        for (var j = 0u; j < params.count % 4u; j++) { dx[i][j] = value[j]; }
    }
}
