// with: attention block dropout random texels total visitors
// Attention backward with respect to key and value, for CPU adapters, walking the query blocks that
// visit a key block:
//   p = exp(score - log_sum_exp);  dvalue = Σ dropout(p) · dout
//   dscore = p · (dropout(dout·value) - delta);  dkey = Σ dscore · query / sqrt(HEAD_DIM)
//   qkv [tokens, 3 · heads · HEAD_DIM]: query, key and value of a token side by side, as texels.
//   dout [tokens, heads · HEAD_DIM], as texels;  log_sum_exp, delta [heads, tokens];
//   dqkv [tokens, 3 · heads · HEAD_DIM], of which this kernel writes the parts of key and value.
// One workgroup, one SIMD vector, a head and key block: each invocation takes ROWS keys. QUERIES
// queries are taken at a time, so that the sums, which live across the loop, are touched
// less often.

alias Dqkv = vec4f;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var qkv: texture_storage_2d<rgba32float, read>;
@group(0) @binding(2) var dout: texture_storage_2d<rgba32float, read>;
@group(0) @binding(3) var<storage, read> log_sum_exp: array<f32>;
@group(0) @binding(4) var<storage, read> delta: array<f32>;
@group(0) @binding(5) var<storage, read> blocks: array<Block>;
@group(0) @binding(6) var<storage, read> visits: array<u32>;
@group(0) @binding(7) var<storage, read> bits: array<u32>;
@group(0) @binding(8) var<storage, read_write> dqkv: array<Dqkv>;

const HEAD_DIM: u32 = 64u; // a multiple of 4
const QUADS: u32 = 16u; // vec4 that hold a head: HEAD_DIM / 4
const BLOCK: u32 = 16u; // largest length of a block, a multiple of LANES
const LANES: u32 = 8u;
const ROWS: u32 = BLOCK / LANES; // rows of the block per invocation
const QUERIES: u32 = 2u; // queries taken at a time

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let head = group.y;
    let block = blocks[group.x];
    let width = params.heads * QUADS; // in texels
    var key: array<array<vec4f, QUADS>, ROWS>;
    var value: array<array<vec4f, QUADS>, ROWS>;
    var dkey: array<array<vec4f, QUADS>, ROWS>;
    var dvalue: array<array<vec4f, QUADS>, ROWS>;
    for (var r = 0u; r < ROWS; r++) {
        // Rows beyond the block repeat its last one, and are not written.
        let token = block.first + min(lane + r * LANES, block.length - 1u);
        let first = width + head * QUADS;
        for (var d = 0u; d < QUADS; d++) {
            key[r][d] = SCALE * textureLoad(qkv, coordinates(token, first + d, 3u * width));
            value[r][d] = textureLoad(qkv, coordinates(token, first + width + d, 3u * width));
            dkey[r][d] = vec4f(0.0);
            dvalue[r][d] = vec4f(0.0);
        }
    }
    let head_visits = head * params.visits_stride;
    let rows = head_visits + blocks[block.blocks_first].visits_first;
    let place = group.x - block.blocks_first;
    for (var other = next_visitor(rows, place, 0u, block.blocks); other < block.blocks;
        other = next_visitor(rows, place, other + 1u, block.blocks)) {
        let queries = blocks[block.blocks_first + other];
        var pair = 0u;
        if (BITS) { pair = queries.pairs_first + rank(head_visits + queries.visits_first, place); }
        for (var i = 0u; i < queries.length; i += QUERIES) {
            var product: array<array<vec4f, QUERIES>, ROWS>;
            var dproduct: array<array<vec4f, QUERIES>, ROWS>;
            for (var d = 0u; d < QUADS; d++) {
                for (var g = 0u; g < QUERIES; g++) {
                    let token = queries.first + min(i + g, queries.length - 1u);
                    let query =
                        textureLoad(qkv, coordinates(token, head * QUADS + d, 3u * width));
                    let of_out = textureLoad(dout, coordinates(token, head * QUADS + d, width));
                    for (var r = 0u; r < ROWS; r++) {
                        product[r][g] += key[r][d] * query;
                        dproduct[r][g] += value[r][d] * of_out;
                    }
                }
            }
            var weight: array<array<f32, QUERIES>, ROWS>; // after dropout
            var dscore: array<array<f32, QUERIES>, ROWS>;
            for (var g = 0u; g < QUERIES; g++) {
                let row = min(i + g, queries.length - 1u);
                let at = head * params.tokens + queries.first + row;
                let row_lse = log_sum_exp[at];
                let row_delta = delta[at];
                var row_bits = select(0u, 0xffffffffu, i + g < queries.length);
                if (BITS) {
                    row_bits &= bits[head * params.bits_stride + pair * BLOCK + row];
                }
                for (var r = 0u; r < ROWS; r++) {
                    let keeps = ((row_bits >> (lane + r * LANES)) & 1u) == 1u;
                    let of_row = select(0.0, exp(total(product[r][g]) - row_lse), keeps);
                    let keep = weight_factor(head, block.sequence,
                        queries.first + row - block.sequence_first,
                        block.first + lane + r * LANES - block.sequence_first);
                    weight[r][g] = of_row * keep;
                    dscore[r][g] = SCALE * of_row * (total(dproduct[r][g]) * keep - row_delta);
                }
            }
            for (var d = 0u; d < QUADS; d++) {
                for (var g = 0u; g < QUERIES; g++) {
                    let token = queries.first + min(i + g, queries.length - 1u);
                    let query =
                        textureLoad(qkv, coordinates(token, head * QUADS + d, 3u * width));
                    let of_out = textureLoad(dout, coordinates(token, head * QUADS + d, width));
                    for (var r = 0u; r < ROWS; r++) {
                        dvalue[r][d] += weight[r][g] * of_out;
                        dkey[r][d] += dscore[r][g] * query;
                    }
                }
            }
        }
    }
    for (var r = 0u; r < ROWS; r++) {
        let row = lane + r * LANES;
        if (row < block.length) {
            let origin = (block.first + row) * 3u * width + width + head * QUADS;
            for (var d = 0u; d < QUADS; d++) {
                dqkv[origin + d] = Dqkv(dkey[r][d]);
                dqkv[origin + width + d] = Dqkv(dvalue[r][d]);
            }
        }
    }
}
