// A random mask: for each head and query, `keep` keys of its sequence drawn at random, as a control for
// row top-k. Each key has a random word, and those with the highest words are kept; among equals the
// lowest key wins. The words are a function of the seeds, the step, the layer, the sequence and the two
// places; at step 0, which is evaluation, not of the sequence, so that a sentence is judged alike
// whichever batch it is in.
//   bits: bits[(head · pairs + pair) · BLOCK + query row] has bit j set where the row keeps the j-th
//   key of the pair's key block.
// One workgroup a head and query block, one invocation a query.

struct Params {
    pairs: u32,
    mask_seed: u32, // that of the rule
    seed: u32, seed_high: u32, step: u32, layer: u32,
}

// A block of up to BLOCK consecutive tokens of one sequence.
struct Block {
    first: u32, // its first token
    length: u32, // its tokens
    sequence_first: u32, // first token of its sequence
    sequence: u32, // its sequence
    blocks_first: u32, // first block of its sequence
    blocks: u32, // blocks of its sequence
    pairs_first: u32, // number of the first pair that it visits
    keep: u32, // how many keys (or key blocks) a row (or block) keeps
    visits_first: u32, // first word of its row of visits
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> blocks: array<Block>;
@group(0) @binding(2) var<storage, read_write> bits: array<u32>;

const BLOCK: u32 = 16u; // largest length of a block

// Four random words from four counter words: the pcg4d permutation of Jarzynski and Olano, "Hash
// Functions for GPU Rendering" (JCGT 2020).
fn random(counter: vec4u) -> vec4u {
    var v = counter * 1664525u + 1013904223u;
    v.x += v.y * v.w; v.y += v.z * v.x; v.z += v.x * v.y; v.w += v.y * v.z;
    v ^= v >> vec4u(16u);
    v.x += v.y * v.w; v.y += v.z * v.x; v.z += v.x * v.y; v.w += v.y * v.z;
    return v;
}

// The word that decides whether a query keeps a key. Dropout takes the generator's first word for the
// same counters, this the second.
fn word(head: u32, sequence: u32, query: u32, key: u32) -> u32 {
    let place = select(sequence, 0u, params.step == 0u);
    return random(vec4u(params.seed ^ (params.layer << 16u) ^ (params.mask_seed * 0x9e3779b9u),
        params.seed_high ^ params.step, (place << 16u) | query, (head << 16u) | key)).y;
}

fn sum(x: vec4u) -> u32 { return (x.x + x.y) + (x.z + x.w); }

fn largest(x: vec4u) -> u32 { return max(max(x.x, x.y), max(x.z, x.w)); }

// How many scores reach each of 16 thresholds, lowest first.
struct Reached { a: vec4u, b: vec4u, c: vec4u, d: vec4u }

fn add(reached: Reached, score: u32, threshold: u32, shift: u32) -> Reached {
    let one = vec4u(1u);
    let step = vec4u(1u, 2u, 3u, 4u) << vec4u(shift);
    let first = vec4u(threshold) + step - (one << vec4u(shift));
    let four = vec4u(4u) << vec4u(shift);
    return Reached(
        reached.a + select(vec4u(0u), one, vec4u(score) >= first),
        reached.b + select(vec4u(0u), one, vec4u(score) >= first + four),
        reached.c + select(vec4u(0u), one, vec4u(score) >= first + 2u * four),
        reached.d + select(vec4u(0u), one, vec4u(score) >= first + 3u * four),
    );
}

// Where the cut lies: the lowest score that is kept, and how many scores lie above.
struct Cut { threshold: u32, above: u32 }

// The next four bits of the cut: the largest threshold that at least `keep` scores reach.
fn refine(cut: Cut, reached: Reached, shift: u32, keep: u32) -> Cut {
    let k = vec4u(keep);
    let one = vec4u(1u);
    let enough = sum(select(vec4u(0u), one, reached.a >= k) + select(vec4u(0u), one, reached.b >= k)
        + select(vec4u(0u), one, reached.c >= k) + select(vec4u(0u), one, reached.d >= k));
    let short = max(
        max(select(reached.a, vec4u(0u), reached.a >= k), select(reached.b, vec4u(0u), reached.b >= k)),
        max(select(reached.c, vec4u(0u), reached.c >= k), select(reached.d, vec4u(0u), reached.d >= k)),
    );
    // As many reach the threshold so far as before, so at least the first of the 16 is reached.
    return Cut(cut.threshold + ((enough - 1u) << shift), max(cut.above, largest(short)));
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
