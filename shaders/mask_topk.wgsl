// with: block ordered qkv scores select total
// Row top-k: for each head and query, the `keep` keys of its sequence with the highest query·key
// score; among equals the lowest key wins, so a row keeps exactly that many. The selection is a
// constant: no gradient flows through it.
//   qkv [tokens, 3 · heads · HEAD_DIM]: query, key and value of a token side by side.
//   bits: bits[(head · pairs + pair) · BLOCK + query row] has bit j set where the row keeps the
//   j-th key of the pair's key block;  scores [workgroups, longest, ROWS]: room for the rows at
//   work.
// One workgroup a head and query block at a time, one invocation a query; an invocation reads only
// the scores that it wrote itself, so no barrier is needed. A workgroup goes on with other blocks,
// so that the room for scores grows with the length of a sequence and not with its square.

struct Params {
    heads: u32, pairs: u32, blocks: u32,
    longest: u32, // tokens of the longest sequence that there is room for
}

alias Qkv = f32;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> qkv: array<Qkv>;
@group(0) @binding(2) var<storage, read> blocks: array<Block>;
@group(0) @binding(3) var<storage, read_write> scores: array<u32>;
@group(0) @binding(4) var<storage, read_write> bits: array<u32>;

const HEAD_DIM: u32 = 64u;
const QUADS: u32 = 16u; // vec4 that hold a head: ceil(HEAD_DIM / 4)
const BLOCK: u32 = 16u; // largest length of a block
const ROWS: u32 = BLOCK; // rows of scores side by side

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
                = ordered(total(product));
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
