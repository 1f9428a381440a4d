// Row top-k: for each head and query, the `keep` keys of its sequence with the highest query·key score;
// among equals the lowest key wins, so a row keeps exactly that many. The selection is a constant: no
// gradient flows through it.
//   qkv [tokens, 3 · heads · HEAD_DIM]: query, key and value of a token side by side.
//   bits: bits[(head · pairs + pair) · BLOCK + query row] has bit j set where the row keeps the j-th
//   key of the pair's key block;  scores [workgroups, longest, ROWS]: room for the rows at work.
// One workgroup a head and query block at a time, one invocation a query; an invocation reads only the
// scores that it wrote itself, so no barrier is needed. A workgroup goes on with other blocks, so that
// the room for scores grows with the length of a sequence and not with its square.

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
@group(0) @binding(1) var<storage, read> qkv: array<f32>;
@group(0) @binding(2) var<storage, read> blocks: array<Block>;
@group(0) @binding(3) var<storage, read_write> scores: array<u32>;
@group(0) @binding(4) var<storage, read_write> bits: array<u32>;

const HEAD_DIM: u32 = 64u;
const QUADS: u32 = 16u; // vec4 that hold a head: ceil(HEAD_DIM / 4)
const BLOCK: u32 = 16u; // largest length of a block
const ROWS: u32 = BLOCK; // rows of scores side by side

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

@compute @workgroup_size(BLOCK)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let width = params.heads * HEAD_DIM;
    let base = group.x * params.longest * ROWS + lane;
    for (var item = group.x; item < params.heads * params.blocks; item += groups.x) {
        let head = item / params.blocks;
        let block = blocks[item % params.blocks];
        if (lane >= block.length) { continue; }
        let first_pair = head * params.pairs + block.pairs_first;
        var query: array<vec4f, QUADS>;
        for (var d = 0u; d < QUADS; d++) {
            query[d] = load_qkv((block.first + lane) * 3u * width + head * HEAD_DIM, d);
        }
        let last = blocks[block.blocks_first + block.blocks - 1u];
        let count = last.first + last.length - block.sequence_first;
        for (var i = 0u; i < count; i++) {
            let key = (block.sequence_first + i) * 3u * width + width + head * HEAD_DIM;
            var product = vec4f(0.0);
            for (var d = 0u; d < QUADS; d++) { product += query[d] * load_qkv(key, d); }
            scores[base + i * ROWS]
                = ordered((product.x + product.y) + (product.z + product.w));
        }
        let cut = find_cut(base, count, block.keep);
        // Above the cut all are kept; of the equals the lowest keys, as many as are still wanted.
        var ties = block.keep - min(cut.above, block.keep);
        for (var other = 0u; other < block.blocks; other++) {
            let length = blocks[block.blocks_first + other].length;
            var row_bits = 0u;
            for (var j = 0u; j < length; j++) {
                let score = scores[base + (other * BLOCK + j) * ROWS];
                let equal = score == cut.threshold && ties > 0u;
                row_bits |= select(0u, 1u << j, equal || score > cut.threshold);
                ties -= select(0u, 1u, equal);
            }
            bits[(first_pair + other) * BLOCK + lane] = row_bits;
        }
    }
}
