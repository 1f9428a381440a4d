// The transposed lists of a mask: for each head and key block, the query blocks that visit it.
//   lists, transposed [heads, pairs + blocks]: `count, blocks…` of each block, ascending, from
//   pairs_first + block's index on.
// One invocation a head and key block.

struct Params { pairs: u32, blocks: u32 }

// A block of consecutive tokens of one sequence.
struct Block {
    first: u32, // its first token
    length: u32, // its tokens
    sequence_first: u32, // first token of its sequence
    sequence: u32, // its sequence
    blocks_first: u32, // first block of its sequence
    blocks: u32, // blocks of its sequence
    pairs_first: u32, // its first pair: pairs (this block, j-th block of the sequence) lie in a row
    keep: u32, // how many keys (or key blocks) a row (or block) keeps under the policy
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> blocks: array<Block>;
@group(0) @binding(2) var<storage, read> lists: array<u32>;
@group(0) @binding(3) var<storage, read_write> transposed: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group.x * 64u + lane;
    if (index >= params.blocks) { return; }
    let block = blocks[index];
    let head = group.y * (params.pairs + params.blocks);
    let to = head + block.pairs_first + index;
    var count = 0u;
    for (var other = 0u; other < block.blocks; other++) {
        let query = block.blocks_first + other;
        let list = head + blocks[query].pairs_first + query;
        for (var entry = 1u; entry <= lists[list]; entry++) {
            if (lists[list + entry] == index) {
                count += 1u;
                transposed[to + count] = query;
            }
        }
    }
    transposed[to] = count;
}
