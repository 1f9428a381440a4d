// The hidden state of each sequence's first token: y[s] = x[offsets[s]].
//   x [tokens, columns], y [sequences, columns];  offsets [sequences + 1].

struct Params { sequences: u32, columns: u32 }

alias X = f32;
alias Y = f32;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<X>;
@group(0) @binding(2) var<storage, read> offsets: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<Y>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    let sequence = i / params.columns;
    if (sequence >= params.sequences) { return; }
    y[i] = Y(f32(x[offsets[sequence] * params.columns + i % params.columns]));
}
