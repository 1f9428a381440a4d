// with: block random select
// A random mask: for each head and query, `keep` keys of its sequence drawn at random, as a control
// for row top-k. Each key has a random word, and those with the highest words are kept; among
// equals the lowest key wins. The words are a function of the seeds, the step, the layer, the
// sequence and the two places; at step 0, which is evaluation, not of the sequence, so that a
// sentence is judged alike whichever batch it is in.
//   bits: bits[(head · pairs + pair) · BLOCK + query row] has bit j set where the row keeps the
//   j-th key of the pair's key block.
// One workgroup a head and query block, one invocation a query.

struct Params {
    pairs: u32,
    mask_seed: u32, // that of the rule
    seed: u32, seed_high: u32, step: u32, layer: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> blocks: array<Block>;
@group(0) @binding(2) var<storage, read_write> bits: array<u32>;

const BLOCK: u32 = 16u; // largest length of a block

// The word that decides whether a query keeps a key. Dropout takes the generator's first word for
// the same counters, this the second.
fn word(head: u32, sequence: u32, query: u32, key: u32) -> u32 {
    let place = select(sequence, 0u, params.step == 0u);
    return random(vec4u(params.seed ^ (params.layer << 16u) ^ (params.mask_seed * 0x9e3779b9u),
        params.seed_high ^ params.step, (place << 16u) | query, (head << 16u) | key)).y;
}

@compute @workgroup_size(BLOCK)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let head = group.y;
    let block = blocks[group.x];
    if (lane >= block.length) { return; }
    let query = block.first + lane - block.sequence_first;
    let last = blocks[block.blocks_first + block.blocks - 1u];
    let count = last.first + last.length - block.sequence_first;
    var cut = Cut(0u, 0u);
    for (var digit = 0u; digit < 8u; digit++) {
        let shift = 28u - 4u * digit;
        var reached = Reached();
        for (var key = 0u; key < count; key++) {
            reached = add(reached, word(head, block.sequence, query, key), cut.threshold, shift);
        }
        cut = refine(cut, reached, shift, block.keep);
    }
    var ties = block.keep - min(cut.above, block.keep);
    for (var other = 0u; other < block.blocks; other++) {
        let length = blocks[block.blocks_first + other].length;
        var row_bits = 0u;
        for (var j = 0u; j < length; j++) {
            let score = word(head, block.sequence, query, other * BLOCK + j);
            let equal = score == cut.threshold && ties > 0u;
            row_bits |= select(0u, 1u << j, equal || score > cut.threshold);
            ties -= select(0u, 1u, equal);
        }
        bits[(head * params.pairs + block.pairs_first + other) * BLOCK + lane] = row_bits;
    }
}
