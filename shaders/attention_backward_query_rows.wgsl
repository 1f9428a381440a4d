// with: attention block dout dropout qkv random total visits
// Attention backward with respect to the query, walking the key blocks that the mask keeps:
//   p = exp(score - log_sum_exp);  dscore = p · (dropout(dout·value) - delta)
//   dquery = Σ dscore · key / sqrt(HEAD_DIM)
//   qkv [tokens, 3 · heads · HEAD_DIM]: query, key and value of a token side by side.
//   dout [tokens, heads · HEAD_DIM];  log_sum_exp, delta [heads, tokens];
//   dqkv [tokens, 3 · heads · HEAD_DIM], of which this kernel writes the query's part.
// One workgroup a head and query block, one invocation a query; `attention_forward_rows` says when.

alias Qkv = f32;
alias Dout = f32;
alias Dqkv = f32;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> qkv: array<Qkv>;
@group(0) @binding(2) var<storage, read> dout: array<Dout>;
@group(0) @binding(3) var<storage, read> log_sum_exp: array<f32>;
@group(0) @binding(4) var<storage, read> delta: array<f32>;
@group(0) @binding(5) var<storage, read> blocks: array<Block>;
@group(0) @binding(6) var<storage, read> visits: array<u32>;
@group(0) @binding(7) var<storage, read> bits: array<u32>;
@group(0) @binding(8) var<storage, read_write> dqkv: array<Dqkv>;

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
    let query_origin = token * 3u * width + head * HEAD_DIM;
    var query: array<vec4f, QUADS>;
    var dvalue: array<vec4f, QUADS>; // dout of this query
    var sum: array<vec4f, QUADS>;
    for (var d = 0u; d < QUADS; d++) {
        query[d] = SCALE * load_qkv(query_origin, d);
        dvalue[d] = load_dout(token * width + head * HEAD_DIM, d);
        sum[d] = vec4f(0.0);
    }
    let row_lse = log_sum_exp[head * params.tokens + token];
    let row_delta = delta[head * params.tokens + token];
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
            var dproduct = vec4f(0.0);
            for (var d = 0u; d < QUADS; d++) {
                product += query[d] * load_qkv(key, d);
                dproduct += dvalue[d] * load_qkv(key + width, d);
            }
            if (((row_bits >> j) & 1u) == 1u) {
                let score = total(product);
                let dweight = total(dproduct)
                    * weight_factor(head, block.sequence, token - block.sequence_first,
                        keys.first + j - keys.sequence_first);
                let dscore = SCALE * exp(score - row_lse) * (dweight - row_delta);
                for (var d = 0u; d < QUADS; d++) { sum[d] += dscore * load_qkv(key, d); }
            }
        }
        pair += 1u;
    }
    for (var d = 0u; d < QUADS; d++) { write_dqkv(query_origin, d, sum[d]); }
}
