// Attention backward with respect to key and value, walking the query blocks that visit a key block:
//   p = exp(score - log_sum_exp);  dvalue = Σ dropout(p) · dout
//   dscore = p · (dropout(dout·value) - delta);  dkey = Σ dscore · query / sqrt(HEAD_DIM)
//   qkv [tokens, 3 · heads · HEAD_DIM]: query, key and value of a token side by side.
//   dout [tokens, heads · HEAD_DIM];  log_sum_exp, delta [heads, tokens];
//   dqkv [tokens, 3 · heads · HEAD_DIM], of which this kernel writes the key's and the value's part.
// The mask: for each head and query block a row of visits, from visits_first on, with a bit for each key
// block of its sequence. With BITS, of a visited pair of blocks only those pairs of tokens count that are
// in the bits: bits[pair · BLOCK + query row] has bit j set where the row keeps the j-th key. Pairs are
// numbered from pairs_first on, in the order of the row's visits.
// One workgroup a head and key block, one invocation a key.

struct Params {
    tokens: u32, blocks: u32, heads: u32,
    visits_stride: u32, // words from one head's visits to the next's; 0 where all heads share them
    bits_stride: u32, // likewise for the bits
    seed: u32, seed_high: u32, step: u32, site: u32,
    probability: f32, // of dropping a weight
}

// A block of up to BLOCK consecutive tokens of one sequence.
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
@group(0) @binding(1) var<storage, read> qkv: array<f32>;
@group(0) @binding(2) var<storage, read> dout: array<f32>;
@group(0) @binding(3) var<storage, read> log_sum_exp: array<f32>;
@group(0) @binding(4) var<storage, read> delta: array<f32>;
@group(0) @binding(5) var<storage, read> blocks: array<Block>;
@group(0) @binding(6) var<storage, read> visits: array<u32>;
@group(0) @binding(7) var<storage, read> bits: array<u32>;
@group(0) @binding(8) var<storage, read_write> dqkv: array<f32>;

const HEAD_DIM: u32 = 64u;
const QUADS: u32 = 16u; // vec4 that hold a head: ceil(HEAD_DIM / 4)
const SCALE: f32 = 0.125; // 1 / sqrt(HEAD_DIM)
const DROPOUT: bool = false;
const BLOCK: u32 = 16u; // largest length of a block
const BITS: bool = false;

// Four components from `origin + 4 · quad` on; what lies beyond the head counts as zero.
fn load_qkv(origin: u32, quad: u32) -> vec4f {
    let i = origin + quad * 4u;
    if (HEAD_DIM % 4u == 0u) { return vec4f(qkv[i], qkv[i + 1u], qkv[i + 2u], qkv[i + 3u]); }
    var value = vec4f(qkv[i], 0.0, 0.0, 0.0);
    if (quad * 4u + 1u < HEAD_DIM) { value.y = qkv[i + 1u]; }
    if (quad * 4u + 2u < HEAD_DIM) { value.z = qkv[i + 2u]; }
    if (quad * 4u + 3u < HEAD_DIM) { value.w = qkv[i + 3u]; }
    return value;
}

// Four components from `origin + 4 · quad` on; what lies beyond the head counts as zero.
fn load_dout(origin: u32, quad: u32) -> vec4f {
    let i = origin + quad * 4u;
    if (HEAD_DIM % 4u == 0u) { return vec4f(dout[i], dout[i + 1u], dout[i + 2u], dout[i + 3u]); }
    var value = vec4f(dout[i], 0.0, 0.0, 0.0);
    if (quad * 4u + 1u < HEAD_DIM) { value.y = dout[i + 1u]; }
    if (quad * 4u + 2u < HEAD_DIM) { value.z = dout[i + 2u]; }
    if (quad * 4u + 3u < HEAD_DIM) { value.w = dout[i + 3u]; }
    return value;
}

// Four random words from four counter words: the pcg4d permutation of Jarzynski and Olano, "Hash
// Functions for GPU Rendering" (JCGT 2020).
fn random(counter: vec4u) -> vec4u {
    var v = counter * 1664525u + 1013904223u;
    v.x += v.y * v.w; v.y += v.z * v.x; v.z += v.x * v.y; v.w += v.y * v.z;
    v ^= v >> vec4u(16u);
    v.x += v.y * v.w; v.y += v.z * v.x; v.z += v.x * v.y; v.w += v.y * v.z;
    return v;
}

// What dropout makes of the weight that a query gives a key: 0, or 1 / (1 - p). A function of the
// seed, the step, the site and the two places, found again in backward and stored nowhere.
fn kept(head: u32, sequence: u32, query: u32, key: u32) -> f32 {
    if (!DROPOUT) { return 1.0; }
    let word = random(vec4u(params.seed ^ (params.site << 16u), params.seed_high ^ params.step,
        (sequence << 16u) | query, (head << 16u) | key)).x;
    let uniform = f32(word >> 8u) * (1.0 / 16777216.0);
    return select(0.0, 1.0 / (1.0 - params.probability), uniform >= params.probability);
}

// The first query block from `start` on that visits a key block, both numbered within the sequence, whose
// rows of visits begin at `rows`; `count`, the blocks of the sequence, if there is none.
fn next_visitor(rows: u32, key: u32, start: u32, count: u32) -> u32 {
    let words = (count + 31u) / 32u;
    var query = start;
    while (query < count && ((visits[rows + query * words + key / 32u] >> (key % 32u)) & 1u) == 0u) {
        query += 1u;
    }
    return query;
}

// How many blocks of a row of visits lie before a block: its place among the pairs of the row.
fn rank(row: u32, block: u32) -> u32 {
    var before = countOneBits(visits[row + block / 32u] & ((1u << (block % 32u)) - 1u));
    for (var word = 0u; word < block / 32u; word++) { before += countOneBits(visits[row + word]); }
    return before;
}

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
                let score = (product.x + product.y) + (product.z + product.w);
                let weight = exp(score - log_sum_exp[row]);
                let keep = kept(head, block.sequence, query_token - block.sequence_first,
                    token - block.sequence_first);
                let dweight = ((dproduct.x + dproduct.y) + (dproduct.z + dproduct.w)) * keep;
                let dscore = SCALE * weight * (dweight - delta[row]);
                for (var d = 0u; d < QUADS; d++) {
                    dvalue[d] += weight * keep * load_dout(dout_origin, d);
                    dkey[d] += dscore * load_qkv(query, d);
                }
            }
        }
    }
    for (var d = 0u; d < HEAD_DIM; d++) {
        dqkv[key_origin + d] = dkey[d / 4u][d % 4u];
        dqkv[key_origin + width + d] = dvalue[d / 4u][d % 4u];
    }
}
