// with: block ordered
// Top-k, for GPUs: for each head and row, the `keep` keys of its sequence with the highest
// query·key score; among equals the lowest key wins, so a row keeps exactly that many. The
// selection is a constant: no gradient flows through it.
// Rows and keys are tokens (row top-k), or with OF_BLOCKS blocks of tokens (block top-k):
//   source [tokens, 3 · heads · HEAD_DIM]: query, key and value of a token side by side; or
//   [blocks, 2 · heads · HEAD_DIM]: mean query and mean key of a block.
//   chosen: bits[(head · stride + pair) · BLOCK + query row] has bit j set where the row keeps the
//   j-th key of the pair's key block; or visits[head · stride + word of the row's visits].
//   scores [workgroups, ROWS, longest]: room for the rows at work.
// A workgroup takes ROWS rows of one head and sequence at a time: an invocation a key for the
// scores, then 32 invocations a row, which find the lowest score that is kept eight bits at a time
// by counting. Counts do not depend on an order, so atomics are exact here.

struct Params {
    heads: u32, blocks: u32,
    stride: u32, // from one head's choice to the next's: pairs, or words of visits
    longest: u32, // keys of the longest sequence that there is room for
}

alias Source = vec4f;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> source: array<Source>;
@group(0) @binding(2) var<storage, read> blocks: array<Block>;
@group(0) @binding(3) var<storage, read_write> scores: array<u32>;
@group(0) @binding(4) var<storage, read_write> chosen: array<u32>;

const OF_BLOCKS: bool = false;
const HEAD_DIM: u32 = 64u; // a multiple of 4, 128 at most
const BLOCK: u32 = 16u; // largest length of a block
const ROWS: u32 = 16u; // 4, 8 or 16; of a block of tokens, BLOCK / ROWS workgroups take a part each
const THREADS: u32 = 128u;
const TEAMS: u32 = 4u; // of 32 invocations
const BINS: u32 = 256u;
const ROW_QUADS: u32 = ROWS / 4u;

var<workgroup> query: array<vec4f, HEAD_DIM * ROW_QUADS>; // [HEAD_DIM, ROWS]
var<workgroup> counts: array<atomic<u32>, TEAMS * BINS>;
var<workgroup> sums: array<u32, THREADS>;
var<workgroup> cuts: array<vec2u, TEAMS>; // of each row: a bin, and how many scores lie above it
var<workgroup> last_ties: array<u32, TEAMS>;

fn query_value(at: u32, d: u32) -> f32 {
    let four = vec4f(source[at / 4u + d / 4u]);
    let low = select(four.x, four.y, d % 4u == 1u);
    let high = select(four.z, four.w, d % 4u == 3u);
    return select(low, high, d % 4u >= 2u);
}

// The sum of what the invocations of a team before this one have in `sums`.
fn sum_before(index: u32) -> u32 {
    var sum = 0u;
    for (var other = index / 32u * 32u; other < index; other++) { sum += sums[other]; }
    return sum;
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) index: u32,
) {
    let width = params.heads * HEAD_DIM;
    let pitch = select(3u, 2u, OF_BLOCKS) * width;
    let parts = select(BLOCK / ROWS, 1u, OF_BLOCKS);
    let team = index / 32u;
    let lane = index % 32u;
    let per_head = params.blocks * parts;
    for (var item = group.x; item < params.heads * per_head; item += groups.x) {
        let head = item / per_head;
        let number = item % per_head / parts;
        let block = blocks[number];
        // The rows, the keys, and where the first of each lies.
        var row = number;
        var rows = min(block.blocks - (number - block.blocks_first), ROWS);
        var first_key = block.blocks_first;
        var count = block.blocks;
        // The row's place in its block.
        var place = 0u;
        if (OF_BLOCKS) {
            // The first of ROWS blocks of a sequence stands for all of them.
            if ((number - block.blocks_first) % ROWS != 0u) { continue; }
        } else {
            place = item % parts * ROWS;
            if (place >= block.length) { continue; }
            row = block.first + place;
            rows = min(block.length - place, ROWS);
            first_key = block.sequence_first;
            let last = blocks[block.blocks_first + block.blocks - 1u];
            count = last.first + last.length - block.sequence_first;
        }
        let keep = min(block.keep, count);
        workgroupBarrier();
        for (var i = index; i < HEAD_DIM * ROW_QUADS; i += THREADS) {
            let d = i % HEAD_DIM;
            let quad = i / HEAD_DIM;
            // Rows beyond the end repeat the last one.
            let at = row * pitch + head * HEAD_DIM;
            let r = vec4u(4u * quad) + vec4u(0u, 1u, 2u, 3u);
            let row_at = vec4u(at) + min(r, vec4u(rows - 1u)) * pitch;
            query[d * ROW_QUADS + quad] = vec4f(query_value(row_at.x, d), query_value(row_at.y, d),
                query_value(row_at.z, d), query_value(row_at.w, d));
        }
        workgroupBarrier();
        let room = group.x * ROWS * params.longest;
        for (var key = index; key < count; key += THREADS) {
            let at = ((first_key + key) * pitch + width + head * HEAD_DIM) / 4u;
            // Scores of 16 rows.
            var s0 = vec4f(0.0); var s1 = vec4f(0.0); var s2 = vec4f(0.0); var s3 = vec4f(0.0);
            for (var d = 0u; d < HEAD_DIM; d += 4u) {
                let k = vec4f(source[at + d / 4u]);
                let q = d * ROW_QUADS;
                s0 = fma(vec4f(k.x), query[q], s0);
                s0 = fma(vec4f(k.y), query[q + ROW_QUADS], s0);
                s0 = fma(vec4f(k.z), query[q + 2u * ROW_QUADS], s0);
                s0 = fma(vec4f(k.w), query[q + 3u * ROW_QUADS], s0);
                if (ROW_QUADS > 1u) {
                    s1 = fma(vec4f(k.x), query[q + 1u], s1);
                    s1 = fma(vec4f(k.y), query[q + ROW_QUADS + 1u], s1);
                    s1 = fma(vec4f(k.z), query[q + 2u * ROW_QUADS + 1u], s1);
                    s1 = fma(vec4f(k.w), query[q + 3u * ROW_QUADS + 1u], s1);
                }
                if (ROW_QUADS > 2u) {
                    s2 = fma(vec4f(k.x), query[q + 2u], s2);
                    s2 = fma(vec4f(k.y), query[q + ROW_QUADS + 2u], s2);
                    s2 = fma(vec4f(k.z), query[q + 2u * ROW_QUADS + 2u], s2);
                    s2 = fma(vec4f(k.w), query[q + 3u * ROW_QUADS + 2u], s2);
                    s3 = fma(vec4f(k.x), query[q + 3u], s3);
                    s3 = fma(vec4f(k.y), query[q + ROW_QUADS + 3u], s3);
                    s3 = fma(vec4f(k.z), query[q + 2u * ROW_QUADS + 3u], s3);
                    s3 = fma(vec4f(k.w), query[q + 3u * ROW_QUADS + 3u], s3);
                }
            }
            let to = room + key;
            let next = params.longest;
            scores[to] = ordered(s0.x); scores[to + next] = ordered(s0.y);
            scores[to + 2u * next] = ordered(s0.z); scores[to + 3u * next] = ordered(s0.w);
            if (ROW_QUADS > 1u) {
                scores[to + 4u * next] = ordered(s1.x); scores[to + 5u * next] = ordered(s1.y);
                scores[to + 6u * next] = ordered(s1.z); scores[to + 7u * next] = ordered(s1.w);
            }
            if (ROW_QUADS > 2u) {
                scores[to + 8u * next] = ordered(s2.x); scores[to + 9u * next] = ordered(s2.y);
                scores[to + 10u * next] = ordered(s2.z); scores[to + 11u * next] = ordered(s2.w);
                scores[to + 12u * next] = ordered(s3.x); scores[to + 13u * next] = ordered(s3.y);
                scores[to + 14u * next] = ordered(s3.z); scores[to + 15u * next] = ordered(s3.w);
            }
        }
        storageBarrier();
        for (var first = 0u; first < rows; first += TEAMS) {
            let own = first + team;
            let base = room + own * params.longest;
            var threshold = 0u;
            var above = 0u; // scores that are certainly kept
            for (var shift = 32u; shift > 0u; shift -= 8u) {
                for (var bin = lane; bin < BINS; bin += 32u) {
                    atomicStore(&counts[team * BINS + bin], 0u);
                }
                workgroupBarrier();
                for (var key = lane; key < count; key += 32u) {
                    let score = scores[base + key];
                    // The bits that have been decided already; all scores agree on none.
                    if (shift == 32u || (score ^ threshold) >> (shift % 32u) == 0u) {
                        let bin = (score >> (shift - 8u)) % BINS;
                        atomicAdd(&counts[team * BINS + bin], 1u);
                    }
                }
                workgroupBarrier();
                // The first invocation has the highest eight bins.
                let top = team * BINS + BINS - 1u - 8u * lane;
                var sum = 0u;
                for (var bin = 0u; bin < 8u; bin++) { sum += atomicLoad(&counts[top - bin]); }
                sums[index] = sum;
                workgroupBarrier();
                var before = above + sum_before(index);
                for (var bin = 0u; bin < 8u; bin++) {
                    let more = atomicLoad(&counts[top - bin]);
                    if (before < keep && before + more >= keep) {
                        cuts[team] = vec2u(BINS - 1u - 8u * lane - bin, before);
                    }
                    before += more;
                }
                workgroupBarrier();
                threshold |= cuts[team].x << (shift - 8u);
                above = cuts[team].y;
            }
            // Of the scores at the threshold the lowest keys are kept, as many as are still wanted.
            let wanted = keep - above;
            let share = (count + 31u) / 32u;
            let start = lane * share;
            let end = min(start + share, count);
            var equal = 0u;
            for (var key = start; key < end; key++) {
                equal += select(0u, 1u, scores[base + key] == threshold);
            }
            sums[index] = equal;
            workgroupBarrier();
            var ties = sum_before(index);
            if (ties < wanted && ties + equal >= wanted) {
                for (var key = start; key < end; key++) {
                    ties += select(0u, 1u, scores[base + key] == threshold);
                    if (ties == wanted) {
                        last_ties[team] = key;
                        break;
                    }
                }
            }
            workgroupBarrier();
            let last_tie = last_ties[team];
            let keys_of_word = select(BLOCK, 32u, OF_BLOCKS);
            var to = (head * params.stride + block.pairs_first) * BLOCK + place + own;
            var step = BLOCK;
            if (OF_BLOCKS) {
                to = head * params.stride + block.visits_first + own * ((count + 31u) / 32u);
                step = 1u;
            }
            for (var word = lane; word * keys_of_word < count; word += 32u) {
                var bits = 0u;
                let low = word * keys_of_word;
                for (var key = low; key < min(low + keys_of_word, count); key++) {
                    let score = scores[base + key];
                    let kept = score > threshold || (score == threshold && key <= last_tie);
                    bits |= select(0u, 1u << (key - low), kept);
                }
                if (own < rows) { chosen[to + word * step] = bits; }
            }
        }
    }
}
