// Gradient of the word embedding, by rows: for each distinct id of the batch, the sum over its
// tokens. The host has sorted the tokens by id, so the sum has a fixed order and needs no atomics.
//   dy [tokens, columns], drows [distinct, columns];  sorted_tokens [tokens];
//   segments [distinct + 1]: where each id's tokens start in sorted_tokens.

struct Params { distinct: u32, columns: u32 }

alias Dy = f32;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> dy: array<Dy>;
@group(0) @binding(2) var<storage, read> sorted_tokens: array<u32>;
@group(0) @binding(3) var<storage, read> segments: array<u32>;
@group(0) @binding(4) var<storage, read_write> drows: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    let segment = i / params.columns;
    if (segment >= params.distinct) { return; }
    let column = i % params.columns;
    var sum = 0.0;
    for (var at = segments[segment]; at < segments[segment + 1u]; at++) {
        sum += f32(dy[sorted_tokens[at] * params.columns + column]);
    }
    drows[i] = sum;
}
