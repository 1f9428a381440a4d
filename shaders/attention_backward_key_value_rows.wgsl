// with: attention block dout dropout qkv random total visitors
// Attention backward with respect to key and value, walking the query blocks that visit
// a key block:
//   p = exp(score - log_sum_exp);  dvalue = Σ dropout(p) · dout
//   dscore = p · (dropout(dout·value) - delta);  dkey = Σ dscore · query / sqrt(HEAD_DIM)
//   qkv [tokens, 3 · heads · HEAD_DIM]: query, key and value of a token side by side.
//   dout [tokens, heads · HEAD_DIM];  log_sum_exp, delta [heads, tokens];
//   dqkv [tokens, 3 · heads · HEAD_DIM], of which this kernel writes the parts of key and value.
// One workgroup a head and key block, one invocation a key; `attention_forward_rows` says when.

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
    let key_origin = token * 3u * width + width + head * HEAD_DIM;
    var key: array<vec4f, QUADS>;
    var value: array<vec4f, QUADS>;
    var dkey: array<vec4f, QUADS>;
    var dvalue: array<vec4f, QUADS>;
    for (var d = 0u; d < QUADS; d++) {
        key[d] = SCALE * load_qkv(key_origin, d);
        value[d] = load_qkv(key_origin + width, d);
        dkey[d] = vec4f(0.0);
        dvalue[d] = vec4f(0.0);
    }
    let head_visits = head * params.visits_stride;
    let rows = head_visits + blocks[block.blocks_first].visits_first;
    let place = group.x - block.blocks_first;
    for (var other = next_visitor(rows, place, 0u, block.blocks); other < block.blocks;
        other = next_visitor(rows, place, other + 1u, block.blocks)) {
        let queries = blocks[block.blocks_first + other];
        var pair = 0u;
        if (BITS) { pair = queries.pairs_first + rank(head_visits + queries.visits_first, place); }
        for (var i = 0u; i < queries.length; i++) {
            let query_token = queries.first + i;
            let query = query_token * 3u * width + head * HEAD_DIM;
            let dout_origin = query_token * width + head * HEAD_DIM;
            var product = vec4f(0.0);
            var dproduct = vec4f(0.0);
            for (var d = 0u; d < QUADS; d++) {
                product += key[d] * load_qkv(query, d);
                dproduct += value[d] * load_dout(dout_origin, d);
            }
            var row_bits = 0xffffffffu;
            if (BITS) {
                row_bits = bits[head * params.bits_stride + pair * BLOCK + i];
            }
            if (((row_bits >> lane) & 1u) == 1u) {
                let row = head * params.tokens + query_token;
                let score = total(product);
                let weight = exp(score - log_sum_exp[row]);
                let keep = weight_factor(head, block.sequence, query_token - block.sequence_first,
                    token - block.sequence_first);
                let dweight = total(dproduct) * keep;
                let dscore = SCALE * weight * (dweight - delta[row]);
                for (var d = 0u; d < QUADS; d++) {
                    dvalue[d] += weight * keep * load_dout(dout_origin, d);
                    dkey[d] += dscore * load_qkv(query, d);
                }
            }
        }
    }
    for (var d = 0u; d < QUADS; d++) {
        write_dqkv(key_origin, d, dkey[d]);
        write_dqkv(key_origin + width, d, dvalue[d]);
    }
}
