// with: block
// The mean query and the mean key of each block, by which block top-k ranks block pairs.
//   qkv [tokens, 3 · width]: query, key and value side by side;  pooled [blocks, 2 · width].

struct Params { blocks: u32, width: u32 }

alias Qkv = f32;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> qkv: array<Qkv>;
@group(0) @binding(2) var<storage, read> blocks: array<Block>;
@group(0) @binding(3) var<storage, read_write> pooled: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    let block = i / (2u * params.width);
    if (block >= params.blocks) { return; }
    let column = i % (2u * params.width);
    let length = blocks[block].length;
    var sum = 0.0;
    for (var row = 0u; row < length; row++) {
        sum += f32(qkv[(blocks[block].first + row) * 3u * params.width + column]);
    }
    pooled[i] = sum / f32(length);
}
