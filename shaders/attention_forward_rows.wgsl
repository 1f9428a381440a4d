// with: attention block dropout qkv random total visits
// Attention forward over a block mask: out = softmax(query·keyᵀ / sqrt(HEAD_DIM)) · value over the
// keys that the mask keeps, with an online softmax; the score matrix is never stored.
//   qkv [tokens, 3 · heads · HEAD_DIM]: query, key and value of a token side by side.
//   out [tokens, heads · HEAD_DIM];  log_sum_exp [heads, tokens], for backward.
// A row that keeps no key gives zero. One workgroup a head and query block, one invocation a query:
// for what octets and CPU adapters have no other kernels for, heads whose size is no multiple of four
// above all.

alias Qkv = f32;
alias Out = f32;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> qkv: array<Qkv>;
@group(0) @binding(2) var<storage, read> blocks: array<Block>;
@group(0) @binding(3) var<storage, read> visits: array<u32>;
@group(0) @binding(4) var<storage, read> bits: array<u32>;
@group(0) @binding(5) var<storage, read_write> out: array<Out>;
@group(0) @binding(6) var<storage, read_write> log_sum_exp: array<f32>;

const HEAD_DIM: u32 = 64u;
const QUADS: u32 = 16u; // vec4 that hold a head: ceil(HEAD_DIM / 4)
const BLOCK: u32 = 16u; // largest length of a block

@compute @workgroup_size(BLOCK)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let head = group.y;
    let block = blocks[group.x];
    if (lane >= block.length) { return; }
    let width = params.heads * HEAD_DIM;
    let token = block.first + lane;
    var query: array<vec4f, QUADS>;
    var sum: array<vec4f, QUADS>;
    for (var d = 0u; d < QUADS; d++) {
        query[d] = SCALE * load_qkv(token * 3u * width + head * HEAD_DIM, d);
        sum[d] = vec4f(0.0);
    }
    var largest = -3.0e38;
    var scale = 0.0; // Σ exp(score - largest)
    let row = head * params.visits_stride + block.visits_first;
    var pair = block.pairs_first;
    for (var other = next_visit(row, 0u, block.blocks); other < block.blocks;
        other = next_visit(row, other + 1u, block.blocks)) {
        let keys = blocks[block.blocks_first + other];
        var row_bits = 0xffffffffu;
        if (BITS) {
            row_bits = bits[head * params.bits_stride + pair * BLOCK + lane];
        }
        for (var j = 0u; j < keys.length; j++) {
            let key = (keys.first + j) * 3u * width + width + head * HEAD_DIM;
            var product = vec4f(0.0);
            for (var d = 0u; d < QUADS; d++) { product += query[d] * load_qkv(key, d); }
            let score = total(product);
            if (((row_bits >> j) & 1u) == 1u) {
                let larger = max(largest, score);
                let shrink = exp(largest - larger);
                let weight = exp(score - larger);
                let dropped = weight * weight_factor(head, block.sequence,
                    token - block.sequence_first, keys.first + j - keys.sequence_first);
                scale = scale * shrink + weight;
                for (var d = 0u; d < QUADS; d++) {
                    sum[d] = sum[d] * shrink + dropped * load_qkv(key + width, d);
                }
                largest = larger;
            }
        }
        pair += 1u;
    }
    // 1e30 makes exp(score - log_sum_exp) zero in backward for a row without keys.
    log_sum_exp[head * params.tokens + token] = select(1.0e30, largest + log(scale), scale > 0.0);
    let normalize = select(0.0, 1.0 / scale, scale > 0.0);
    for (var d = 0u; d < QUADS; d++) {
        let to = token * width + head * HEAD_DIM + 4u * d;
        let values = sum[d] * normalize;
        out[to] = Out(values.x);
        if (4u * d + 1u < HEAD_DIM) { out[to + 1u] = Out(values.y); }
        if (4u * d + 2u < HEAD_DIM) { out[to + 2u] = Out(values.z); }
        if (4u * d + 3u < HEAD_DIM) { out[to + 3u] = Out(values.w); }
    }
}
