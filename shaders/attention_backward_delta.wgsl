// delta[head, token] = Σ_d dout · out over the head's components: the part of the softmax gradient
// that all keys of a query share.
//   out, dout [tokens, heads · HEAD_DIM];  delta [heads, tokens].

struct Params { tokens: u32, heads: u32 }

alias Out = f32;
alias Dout = f32;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> out: array<Out>;
@group(0) @binding(2) var<storage, read> dout: array<Dout>;
@group(0) @binding(3) var<storage, read_write> delta: array<f32>;

const HEAD_DIM: u32 = 64u;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    if (i >= params.tokens * params.heads) { return; }
    let head = i / params.tokens;
    let token = i % params.tokens;
    let origin = (token * params.heads + head) * HEAD_DIM;
    var sum = 0.0;
    for (var d = 0u; d < HEAD_DIM; d++) { sum += f32(out[origin + d]) * f32(dout[origin + d]); }
    delta[i] = sum;
}
