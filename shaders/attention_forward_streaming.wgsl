// with: attention block dropout random texels total visits
// Attention forward over a block mask, for CPU adapters: out = softmax(query·keyᵀ / sqrt(HEAD_DIM))
// · value over the keys that the mask keeps, with an online softmax; the score matrix is never
// stored.
//   qkv [tokens, 3 · heads · HEAD_DIM]: query, key and value of a token side by side, as texels.
//   out [tokens, heads · HEAD_DIM];  log_sum_exp [heads, tokens], for backward.
// A row that keeps no key gives zero. One workgroup, one SIMD vector, a head and query block: each
// invocation takes ROWS queries. A software driver turns a texel load of 8 invocations into plain
// vector loads, and a buffer load into a loop over the invocations. KEYS keys are taken at a time,
// so that the sums, which live across the loop, are touched less often.

alias Out = vec4f;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var qkv: texture_storage_2d<rgba32float, read>;
@group(0) @binding(2) var<storage, read> blocks: array<Block>;
@group(0) @binding(3) var<storage, read> visits: array<u32>;
@group(0) @binding(4) var<storage, read> bits: array<u32>;
@group(0) @binding(5) var<storage, read_write> out: array<Out>;
@group(0) @binding(6) var<storage, read_write> log_sum_exp: array<f32>;

const HEAD_DIM: u32 = 64u; // a multiple of 4
const QUADS: u32 = 16u; // vec4 that hold a head: HEAD_DIM / 4
const BLOCK: u32 = 16u; // largest length of a block, a multiple of LANES
const LANES: u32 = 8u;
const ROWS: u32 = BLOCK / LANES; // rows of the block per invocation
const KEYS: u32 = 4u; // keys taken at a time
const LOWEST: f32 = -3.0e38;

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let head = group.y;
    let block = blocks[group.x];
    let width = params.heads * QUADS; // in texels
    let of_keys = width + head * QUADS; // the first texel of a key within its row
    var query: array<array<vec4f, QUADS>, ROWS>;
    var sum: array<array<vec4f, QUADS>, ROWS>;
    var largest: array<f32, ROWS>;
    var scale: array<f32, ROWS>; // Σ exp(score - largest)
    for (var r = 0u; r < ROWS; r++) {
        // Rows beyond the block repeat its last one, and are not written.
        let token = block.first + min(lane + r * LANES, block.length - 1u);
        for (var d = 0u; d < QUADS; d++) {
            query[r][d] =
                SCALE * textureLoad(qkv, coordinates(token, head * QUADS + d, 3u * width));
            sum[r][d] = vec4f(0.0);
        }
        largest[r] = LOWEST;
        scale[r] = 0.0;
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
            for (var d = 0u; d < QUADS; d++) {
                for (var g = 0u; g < KEYS; g++) {
                    let of_key = textureLoad(qkv, coordinates(key[g], of_keys + d, 3u * width));
                    for (var r = 0u; r < ROWS; r++) { product[r][g] += query[r][d] * of_key; }
                }
            }
            var weight: array<array<f32, KEYS>, ROWS>;
            var shrink: array<f32, ROWS>;
            for (var r = 0u; r < ROWS; r++) {
                var larger = largest[r];
                var keeps: array<bool, KEYS>;
                for (var g = 0u; g < KEYS; g++) {
                    keeps[g] = j + g < keys.length && ((row_bits[r] >> (j + g)) & 1u) == 1u;
                    larger = max(larger, select(LOWEST, total(product[r][g]), keeps[g]));
                }
                shrink[r] = exp(largest[r] - larger);
                scale[r] *= shrink[r];
                largest[r] = larger;
                let token = block.first + lane + r * LANES;
                for (var g = 0u; g < KEYS; g++) {
                    let of_key = select(0.0, exp(total(product[r][g]) - larger), keeps[g]);
                    scale[r] += of_key;
                    weight[r][g] = of_key * weight_factor(head, block.sequence,
                        token - block.sequence_first, keys.first + j + g - keys.sequence_first);
                }
            }
            for (var d = 0u; d < QUADS; d++) {
                for (var r = 0u; r < ROWS; r++) { sum[r][d] *= shrink[r]; }
                for (var g = 0u; g < KEYS; g++) {
                    let texel = of_keys + width + d;
                    let value = textureLoad(qkv, coordinates(key[g], texel, 3u * width));
                    for (var r = 0u; r < ROWS; r++) { sum[r][d] += weight[r][g] * value; }
                }
            }
        }
        pair += 1u;
    }
    for (var r = 0u; r < ROWS; r++) {
        let row = lane + r * LANES;
        if (row < block.length) {
            let token = block.first + row;
            // 1e30 makes exp(score - log_sum_exp) zero in backward for a row without keys.
            log_sum_exp[head * params.tokens + token] =
                select(1.0e30, largest[r] + log(scale[r]), scale[r] > 0.0);
            let normalize = select(0.0, 1.0 / scale[r], scale[r] > 0.0);
            for (var d = 0u; d < QUADS; d++) {
                out[token * width + head * QUADS + d] = Out(sum[r][d] * normalize);
            }
        }
    }
}
