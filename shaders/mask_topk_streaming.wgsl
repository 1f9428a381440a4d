// Row top-k, for CPU adapters: for each head and query, the `keep` keys of its sequence with the highest
// query·key score; among equals the lowest key wins, so a row keeps exactly that many. The selection is
// a constant: no gradient flows through it.
//   qkv [tokens, 3 · heads · HEAD_DIM]: query, key and value of a token side by side, as texels.
//   bits: bits[(head · pairs + pair) · BLOCK + query row] has bit j set where the row keeps the j-th
//   key of the pair's key block;  scores [workgroups, longest, ROWS]: room for the rows at work.
// One workgroup, one SIMD vector, a head and query block at a time: each invocation takes ROWS / LANES
// queries, and KEYS keys at a time. A workgroup goes on with other blocks, so that the room for scores
// grows with the length of a sequence and not with its square.

struct Params {
    heads: u32, pairs: u32, blocks: u32,
    longest: u32, // tokens of the longest sequence that there is room for
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
@group(0) @binding(1) var qkv: texture_storage_2d<rgba32float, read>;
@group(0) @binding(2) var<storage, read> blocks: array<Block>;
@group(0) @binding(3) var<storage, read_write> scores: array<u32>;
@group(0) @binding(4) var<storage, read_write> bits: array<u32>;

const HEAD_DIM: u32 = 64u; // a multiple of 4
const QUADS: u32 = 16u; // vec4 that hold a head: HEAD_DIM / 4
const BLOCK: u32 = 16u; // largest length of a block, a multiple of LANES
const ROWS: u32 = BLOCK; // rows of scores side by side
const WIDTH: u32 = 2048u; // texels in a row of a texture
const LANES: u32 = 8u;
const OWN: u32 = BLOCK / LANES; // rows of the block per invocation
const KEYS: u32 = 4u; // keys taken at a time

fn load_qkv(texel: u32) -> vec4f { return textureLoad(qkv, vec2u(texel % WIDTH, texel / WIDTH)); }

fn total(x: vec4f) -> f32 { return (x.x + x.y) + (x.z + x.w); }

// A score as an integer of the same order: larger score, larger integer. Both zeros are one.
fn ordered(score: f32) -> u32 {
    let word = bitcast<u32>(select(score, 0.0, score == 0.0));
    return select(word | 0x80000000u, ~word, (word >> 31u) == 1u);
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

// The cut between the `keep` largest of `count` scores and the others. Score i is scores[base + i · ROWS].
fn find_cut(base: u32, count: u32, keep: u32) -> Cut {
    var cut = Cut(0u, 0u);
    for (var digit = 0u; digit < 8u; digit++) {
        let shift = 28u - 4u * digit;
        var reached = Reached();
        for (var i = 0u; i < count; i++) {
            reached = add(reached, scores[base + i * ROWS], cut.threshold, shift);
        }
        cut = refine(cut, reached, shift, keep);
    }
    return cut;
}

@compute @workgroup_size(8)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let width = params.heads * QUADS; // in texels
    let base = group.x * params.longest * ROWS + lane;
    for (var item = group.x; item < params.heads * params.blocks; item += groups.x) {
        let head = item / params.blocks;
        let block = blocks[item % params.blocks];
        let first_pair = head * params.pairs + block.pairs_first;
        let last = blocks[block.blocks_first + block.blocks - 1u];
        let count = last.first + last.length - block.sequence_first;
        var query: array<array<vec4f, QUADS>, OWN>;
        for (var r = 0u; r < OWN; r++) {
            // Rows beyond the block repeat its last one; nobody looks at their bits.
            let token = block.first + min(lane + r * LANES, block.length - 1u);
            for (var d = 0u; d < QUADS; d++) {
                query[r][d] = load_qkv(token * 3u * width + head * QUADS + d);
            }
        }
        for (var i = 0u; i < count; i += KEYS) {
            var product: array<array<vec4f, KEYS>, OWN>;
            for (var d = 0u; d < QUADS; d++) {
                for (var g = 0u; g < KEYS; g++) {
                    let token = block.sequence_first + min(i + g, count - 1u);
                    let key = load_qkv(token * 3u * width + width + head * QUADS + d);
                    for (var r = 0u; r < OWN; r++) { product[r][g] += query[r][d] * key; }
                }
            }
            for (var g = 0u; g < KEYS; g++) {
                for (var r = 0u; r < OWN; r++) {
                    // The last keys are repeated too: the same score in the same place.
                    scores[base + min(i + g, count - 1u) * ROWS + r * LANES]
                        = ordered(total(product[r][g]));
                }
            }
        }
        for (var r = 0u; r < OWN; r++) {
            let cut = find_cut(base + r * LANES, count, block.keep);
            // Above the cut all are kept; of the equals the lowest keys, as many as are still wanted.
            var ties = block.keep - min(cut.above, block.keep);
            for (var other = 0u; other < block.blocks; other++) {
                let length = blocks[block.blocks_first + other].length;
                var row_bits = 0u;
                for (var j = 0u; j < length; j++) {
                    let score = scores[base + (other * BLOCK + j) * ROWS + r * LANES];
                    let equal = score == cut.threshold && ties > 0u;
                    row_bits |= select(0u, 1u << j, equal || score > cut.threshold);
                    ties -= select(0u, 1u, equal);
                }
                bits[(first_pair + other) * BLOCK + lane + r * LANES] = row_bits;
            }
        }
    }
}
