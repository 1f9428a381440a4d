// with: block ordered scores select texels total
// Row top-k, for CPU adapters: for each head and query, the `keep` keys of its sequence with the
// highest query·key score; among equals the lowest key wins, so a row keeps exactly that many. The
// selection is a constant: no gradient flows through it.
//   qkv [tokens, 3 · heads · HEAD_DIM]: query, key and value of a token side by side, as texels.
//   bits: bits[(head · pairs + pair) · BLOCK + query row] has bit j set where the row keeps the
//   j-th key of the pair's key block;  scores [workgroups, longest, ROWS]: room for the rows at
//   work.
// One workgroup, one SIMD vector, a head and query block at a time: each invocation takes ROWS /
// LANES queries, and KEYS keys at a time. A workgroup goes on with other blocks, so that the room
// for scores grows with the length of a sequence and not with its square.

struct Params {
    heads: u32, pairs: u32, blocks: u32,
    longest: u32, // tokens of the longest sequence that there is room for
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
const LANES: u32 = 8u;
const OWN: u32 = BLOCK / LANES; // rows of the block per invocation
const KEYS: u32 = 4u; // keys taken at a time

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
                query[r][d] = textureLoad(qkv, coordinates(token, head * QUADS + d, 3u * width));
            }
        }
        for (var i = 0u; i < count; i += KEYS) {
            var product: array<array<vec4f, KEYS>, OWN>;
            for (var d = 0u; d < QUADS; d++) {
                for (var g = 0u; g < KEYS; g++) {
                    let token = block.sequence_first + min(i + g, count - 1u);
                    let texel = width + head * QUADS + d;
                    let key = textureLoad(qkv, coordinates(token, texel, 3u * width));
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
            // Above the cut all are kept; of the equals the lowest keys, as many as are
            // still wanted.
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
