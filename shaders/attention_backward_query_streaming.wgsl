// with: attention block dropout random texels total visits
// Attention backward with respect to the query, for CPU adapters, walking the key blocks that the
// mask keeps:
//   p = exp(score - log_sum_exp);  dscore = p · (dropout(dout·value) - delta)
//   dquery = Σ dscore · key / sqrt(HEAD_DIM)
//   qkv [tokens, 3 · heads · HEAD_DIM]: query, key and value of a token side by side, as texels.
//   dout [tokens, heads · HEAD_DIM], as texels;  log_sum_exp, delta [heads, tokens];
//   dqkv [tokens, 3 · heads · HEAD_DIM], of which this kernel writes the query's part.
// One workgroup, one SIMD vector, a head and query block: each invocation takes ROWS queries. KEYS
// keys are taken at a time, so that the sums, which live across the loop, are touched less often.

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
const KEYS: u32 = 2u; // keys taken at a time

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let head = group.y;
    let block = blocks[group.x];
    let width = params.heads * QUADS; // in texels
    let of_keys = width + head * QUADS; // the first texel of a key within its row
    var query: array<array<vec4f, QUADS>, ROWS>;
    var dvalue: array<array<vec4f, QUADS>, ROWS>; // dout of this query
    var sum: array<array<vec4f, QUADS>, ROWS>;
    var row_lse: array<f32, ROWS>;
    var row_delta: array<f32, ROWS>;
    for (var r = 0u; r < ROWS; r++) {
        // Rows beyond the block repeat its last one, and are not written.
        let token = block.first + min(lane + r * LANES, block.length - 1u);
        for (var d = 0u; d < QUADS; d++) {
            query[r][d] =
                SCALE * textureLoad(qkv, coordinates(token, head * QUADS + d, 3u * width));
            dvalue[r][d] = textureLoad(dout, coordinates(token, head * QUADS + d, width));
            sum[r][d] = vec4f(0.0);
        }
        row_lse[r] = log_sum_exp[head * params.tokens + token];
        row_delta[r] = delta[head * params.tokens + token];
    }
    let row = head * params.visits_stride + block.visits_first;
    var pair = block.pairs_first;
    for (var other = next_visit(row, 0u, block.blocks); other < block.blocks;
        other = next_visit(row, other + 1u, block.blocks)) {
        let keys = blocks[block.blocks_first + other];
        var row_bits: array<u32, ROWS>;
        for (var r = 0u; r < ROWS; r++) {
            row_bits[r] = 0xffffffffu;
            if (BITS) {
                row_bits[r] = bits[head * params.bits_stride + pair * BLOCK + lane + r * LANES];
            }
        }
        for (var j = 0u; j < keys.length; j += KEYS) {
            var key: array<u32, KEYS>; // their tokens
            for (var g = 0u; g < KEYS; g++) {
                key[g] = keys.first + min(j + g, keys.length - 1u);
            }
            var product: array<array<vec4f, KEYS>, ROWS>;
            var dproduct: array<array<vec4f, KEYS>, ROWS>;
            for (var d = 0u; d < QUADS; d++) {
                for (var g = 0u; g < KEYS; g++) {
                    let of_key = textureLoad(qkv, coordinates(key[g], of_keys + d, 3u * width));
                    let texel = of_keys + width + d;
                    let value = textureLoad(qkv, coordinates(key[g], texel, 3u * width));
                    for (var r = 0u; r < ROWS; r++) {
                        product[r][g] += query[r][d] * of_key;
                        dproduct[r][g] += dvalue[r][d] * value;
                    }
                }
            }
            var dscore: array<array<f32, KEYS>, ROWS>;
            for (var r = 0u; r < ROWS; r++) {
                let token = block.first + lane + r * LANES;
                for (var g = 0u; g < KEYS; g++) {
                    let keeps = j + g < keys.length && ((row_bits[r] >> (j + g)) & 1u) == 1u;
                    let dweight = total(dproduct[r][g]) * weight_factor(head, block.sequence,
                        token - block.sequence_first, keys.first + j + g - keys.sequence_first);
                    let weight = exp(total(product[r][g]) - row_lse[r]);
                    dscore[r][g] = select(0.0, SCALE * weight * (dweight - row_delta[r]), keeps);
                }
            }
            for (var d = 0u; d < QUADS; d++) {
                for (var g = 0u; g < KEYS; g++) {
                    let of_key = textureLoad(qkv, coordinates(key[g], of_keys + d, 3u * width));
                    for (var r = 0u; r < ROWS; r++) { sum[r][d] += dscore[r][g] * of_key; }
                }
            }
        }
        pair += 1u;
    }
    for (var r = 0u; r < ROWS; r++) {
        let row = lane + r * LANES;
        if (row < block.length) {
            let token = block.first + row;
            for (var d = 0u; d < QUADS; d++) {
                dqkv[token * 3u * width + head * QUADS + d] = Dqkv(sum[r][d]);
            }
        }
    }
}
