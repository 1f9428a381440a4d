// Block top-k: for each head and query block, the `keep` key blocks of its sequence with the highest
// product of mean query and mean key; among equals the lowest block wins. The selection is a constant:
// no gradient flows through it.
//   pooled [blocks, 2 · heads · HEAD_DIM]: mean query and mean key;
//   lists [heads, pairs + blocks]: `count, key blocks…` of each query block, ascending, from
//   pairs_first + block's index on;  scores [heads, pairs]: room for the scores.
// One invocation a head and query block.

struct Params { heads: u32, pairs: u32, blocks: u32 }

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
@group(0) @binding(1) var<storage, read> pooled: array<f32>;
@group(0) @binding(2) var<storage, read> blocks: array<Block>;
@group(0) @binding(3) var<storage, read_write> scores: array<u32>;
@group(0) @binding(4) var<storage, read_write> lists: array<u32>;

const HEAD_DIM: u32 = 64u;

// A score as an integer of the same order: larger score, larger integer. Both zeros are one.
fn ordered(score: f32) -> u32 {
    let word = bitcast<u32>(select(score, 0.0, score == 0.0));
    return select(word | 0x80000000u, ~word, (word >> 31u) == 1u);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let head = group.y;
    let index = group.x * 64u + lane;
    if (index >= params.blocks) { return; }
    let block = blocks[index];
    let width = params.heads * HEAD_DIM;
    let first = head * params.pairs + block.pairs_first;
    for (var other = 0u; other < block.blocks; other++) {
        let query = index * 2u * width + head * HEAD_DIM;
        let key = (block.blocks_first + other) * 2u * width + width + head * HEAD_DIM;
        var score = 0.0;
        for (var d = 0u; d < HEAD_DIM; d++) { score += pooled[query + d] * pooled[key + d]; }
        scores[first + other] = ordered(score);
    }
    // The keep-th largest score, bit by bit from the top: the largest threshold that at least `keep`
    // scores reach.
    var threshold = 0u;
    for (var bit = 0u; bit < 32u; bit++) {
        let candidate = threshold | (0x80000000u >> bit);
        var reached = 0u;
        for (var other = 0u; other < block.blocks; other++) {
            reached += select(0u, 1u, scores[first + other] >= candidate);
        }
        if (reached >= block.keep) { threshold = candidate; }
    }
    var above = 0u;
    for (var other = 0u; other < block.blocks; other++) {
        above += select(0u, 1u, scores[first + other] > threshold);
    }
    var ties = block.keep - min(above, block.keep); // how many equals are still wanted
    let list = head * (params.pairs + params.blocks) + block.pairs_first + index;
    var count = 0u;
    for (var other = 0u; other < block.blocks; other++) {
        var wanted = scores[first + other] > threshold;
        if (scores[first + other] == threshold && ties > 0u) {
            wanted = true;
            ties -= 1u;
        }
        if (wanted) {
            count += 1u;
            lists[list + count] = block.blocks_first + other;
        }
    }
    lists[list] = count;
}
