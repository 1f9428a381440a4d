// Gradient of the position embedding: for each position, the sum over the sequences that reach it,
// in their order; zero where none does.
//   dy [tokens, columns], dpositions [positions, columns];  offsets [sequences + 1].

struct Params {
    positions: u32, columns: u32, sequences: u32,
    longest: u32, // tokens of the longest sequence: no position from there on is reached
}

alias Dy = f32;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> dy: array<Dy>;
@group(0) @binding(2) var<storage, read> offsets: array<u32>;
@group(0) @binding(3) var<storage, read_write> dpositions: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    let position = i / params.columns;
    if (position >= params.positions) { return; }
    let column = i % params.columns;
    var sum = 0.0;
    let sequences = select(0u, params.sequences, position < params.longest);
    for (var sequence = 0u; sequence < sequences; sequence++) {
        let token = offsets[sequence] + position;
        if (token < offsets[sequence + 1u]) { sum += f32(dy[token * params.columns + column]); }
    }
    dpositions[i] = sum;
}
