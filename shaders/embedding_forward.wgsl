// Word plus position embedding: y[t] = words[id of t] + positions[position of t].
//   words [vocabulary, columns], positions [max positions, columns], y [tokens, columns];
//   placed_ids [tokens, 2]: id, and sequence << 16 | position.

struct Params { tokens: u32, columns: u32 }

alias Y = f32;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> words: array<f32>;
@group(0) @binding(2) var<storage, read> positions: array<f32>;
@group(0) @binding(3) var<storage, read> placed_ids: array<u32>;
@group(0) @binding(4) var<storage, read_write> y: array<Y>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    let token = i / params.columns;
    if (token >= params.tokens) { return; }
    let column = i % params.columns;
    let position = placed_ids[2u * token + 1u] & 0xffffu;
    y[i] = Y(words[placed_ids[2u * token] * params.columns + column]
        + positions[position * params.columns + column]);
}
