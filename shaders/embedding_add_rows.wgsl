// Adds gradients of rows of the word embedding to what other parts of a step have left of them.
//   drows [rows, columns];  ids [rows]: the words;  sum [vocabulary, columns].

struct Params { rows: u32, columns: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> drows: array<f32>;
@group(0) @binding(2) var<storage, read> ids: array<u32>;
@group(0) @binding(3) var<storage, read_write> sum: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    let row = i / params.columns;
    if (row < params.rows) { sum[ids[row] * params.columns + i % params.columns] += drows[i]; }
}
