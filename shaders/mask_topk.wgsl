// Row top-k: for each head and query, the `keep` keys of its sequence with the highest query·key score;
// among equals the lowest key wins, so a row keeps exactly that many. The selection is a constant: no
// gradient flows through it.
//   qkv [tokens, 3 · heads · HEAD_DIM]: query, key and value of a token side by side.
//   bits: bits[(head · pairs + pair) · BLOCK + query row] has bit j set where the row keeps the j-th
//   key of the pair's key block;  scores: room for one row of scores per head and query,
//   [heads, pairs · BLOCK, BLOCK].
// One workgroup a head and query block, one invocation a query; an invocation reads only the scores
// that it wrote itself, so no barrier is needed.

struct Params { heads: u32, pairs: u32 }

// A block of up to BLOCK consecutive tokens of one sequence.
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
@group(0) @binding(1) var<storage, read> qkv: array<f32>;
@group(0) @binding(2) var<storage, read> blocks: array<Block>;
@group(0) @binding(3) var<storage, read_write> scores: array<u32>;
@group(0) @binding(4) var<storage, read_write> bits: array<u32>;

const HEAD_DIM: u32 = 64u;
const QUADS: u32 = 16u; // vec4 that hold a head: ceil(HEAD_DIM / 4)
const BLOCK: u32 = 16u; // largest length of a block

// Four components from `origin + 4 · quad` on; what lies beyond the head counts as zero.
fn load_qkv(origin: u32, quad: u32) -> vec4f {
    let i = origin + quad * 4u;
    if (HEAD_DIM % 4u == 0u) { return vec4f(qkv[i], qkv[i + 1u], qkv[i + 2u], qkv[i + 3u]); }
    var value = vec4f(qkv[i], 0.0, 0.0, 0.0);
    if (quad * 4u + 1u < HEAD_DIM) { value.y = qkv[i + 1u]; }
    if (quad * 4u + 2u < HEAD_DIM) { value.z = qkv[i + 2u]; }
    if (quad * 4u + 3u < HEAD_DIM) { value.w = qkv[i + 3u]; }
    return value;
}

// A score as an integer of the same order: larger score, larger integer. Both zeros are one.
fn ordered(score: f32) -> u32 {
    let word = bitcast<u32>(select(score, 0.0, score == 0.0));
    return select(word | 0x80000000u, ~word, (word >> 31u) == 1u);
}

@compute @workgroup_size(BLOCK)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let head = group.y;
    let block = blocks[group.x];
    if (lane >= block.length) { return; }
    let width = params.heads * HEAD_DIM;
    let first_pair = head * params.pairs + block.pairs_first;
    var query: array<vec4f, QUADS>;
    for (var d = 0u; d < QUADS; d++) {
        query[d] = load_qkv((block.first + lane) * 3u * width + head * HEAD_DIM, d);
    }
    for (var other = 0u; other < block.blocks; other++) {
        let keys = blocks[block.blocks_first + other];
        for (var j = 0u; j < keys.length; j++) {
            let key = (keys.first + j) * 3u * width + width + head * HEAD_DIM;
            var product = vec4f(0.0);
            for (var d = 0u; d < QUADS; d++) { product += query[d] * load_qkv(key, d); }
            scores[((first_pair + other) * BLOCK + lane) * BLOCK + j]
                = ordered((product.x + product.y) + (product.z + product.w));
        }
    }
    // The keep-th largest score, bit by bit from the top: the largest threshold that at least `keep`
    // scores reach.
    var threshold = 0u;
    for (var bit = 0u; bit < 32u; bit++) {
        let candidate = threshold | (0x80000000u >> bit);
        var reached = 0u;
        for (var other = 0u; other < block.blocks; other++) {
            let length = blocks[block.blocks_first + other].length;
            for (var j = 0u; j < length; j++) {
                let score = scores[((first_pair + other) * BLOCK + lane) * BLOCK + j];
                reached += select(0u, 1u, score >= candidate);
            }
        }
        if (reached >= block.keep) { threshold = candidate; }
    }
    var above = 0u;
    for (var other = 0u; other < block.blocks; other++) {
        let length = blocks[block.blocks_first + other].length;
        for (var j = 0u; j < length; j++) {
            let score = scores[((first_pair + other) * BLOCK + lane) * BLOCK + j];
            above += select(0u, 1u, score > threshold);
        }
    }
    var ties = block.keep - min(above, block.keep); // how many equals are still wanted
    for (var other = 0u; other < block.blocks; other++) {
        let length = blocks[block.blocks_first + other].length;
        var row_bits = 0u;
        for (var j = 0u; j < length; j++) {
            let score = scores[((first_pair + other) * BLOCK + lane) * BLOCK + j];
            if (score > threshold) {
                row_bits |= 1u << j;
            } else if (score == threshold && ties > 0u) {
                row_bits |= 1u << j;
                ties -= 1u;
            }
        }
        bits[(first_pair + other) * BLOCK + lane] = row_bits;
    }
}
