// Block top-k: for each head and query block, the `keep` key blocks of its sequence with the highest
// product of mean query and mean key; among equals the lowest block wins. The selection is a constant:
// no gradient flows through it.
//   pooled [blocks, 2 · heads · HEAD_DIM]: mean query and mean key;
//   visits [heads, visit words]: for each query block a bit for each key block that is kept;
//   scores [workgroups, longest, ROWS]: room for the rows at work.
// One invocation a head and query block at a time. It goes on with others, so that the room for scores
// grows with the length of a sequence and not with its square.

struct Params {
    heads: u32, blocks: u32,
    visits: u32, // words of the visits of one head
    longest: u32, // blocks of the longest sequence that there is room for
}

// A block of consecutive tokens of one sequence.
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
@group(0) @binding(1) var<storage, read> pooled: array<f32>;
@group(0) @binding(2) var<storage, read> blocks: array<Block>;
@group(0) @binding(3) var<storage, read_write> scores: array<u32>;
@group(0) @binding(4) var<storage, read_write> visits: array<u32>;

const HEAD_DIM: u32 = 64u;
const ROWS: u32 = 64u; // rows of scores side by side: the invocations of a workgroup

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

@compute @workgroup_size(ROWS)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let width = params.heads * HEAD_DIM;
    let base = group.x * params.longest * ROWS + lane;
    for (var item = group.x * ROWS + lane; item < params.heads * params.blocks;
        item += groups.x * ROWS) {
        let head = item / params.blocks;
        let index = item % params.blocks;
        let block = blocks[index];
        for (var other = 0u; other < block.blocks; other++) {
            let query = index * 2u * width + head * HEAD_DIM;
            let key = (block.blocks_first + other) * 2u * width + width + head * HEAD_DIM;
            var score = 0.0;
            for (var d = 0u; d < HEAD_DIM; d++) { score += pooled[query + d] * pooled[key + d]; }
            scores[base + other * ROWS] = ordered(score);
        }
        let cut = find_cut(base, block.blocks, block.keep);
        // Above the cut all are kept; of the equals the lowest blocks, as many as are still wanted.
        var ties = block.keep - min(cut.above, block.keep);
        let row = head * params.visits + block.visits_first;
        for (var first = 0u; first < block.blocks; first += 32u) {
            var word = 0u;
            for (var other = first; other < min(first + 32u, block.blocks); other++) {
                let score = scores[base + other * ROWS];
                let equal = score == cut.threshold && ties > 0u;
                word |= select(0u, 1u << (other - first), equal || score > cut.threshold);
                ties -= select(0u, 1u, equal);
            }
            visits[row + first / 32u] = word;
        }
    }
}
