// Attention backward with respect to key and value, for CPU adapters, walking the query blocks that
// visit a key block:
//   p = exp(score - log_sum_exp);  dvalue = Σ dropout(p) · dout
//   dscore = p · (dropout(dout·value) - delta);  dkey = Σ dscore · query / sqrt(HEAD_DIM)
//   qkv [tokens, 3 · heads · HEAD_DIM]: query, key and value of a token side by side, as texels.
//   dout [tokens, heads · HEAD_DIM], as texels;  log_sum_exp, delta [heads, tokens];
//   dqkv [tokens, 3 · heads · HEAD_DIM], of which this kernel writes the parts of key and value.
// The mask: for each head and query block a row of visits, from visits_first on, with a bit for each key
// block of its sequence. With BITS, of a visited pair of blocks only those pairs of tokens count that are
// in the bits: bits[pair · BLOCK + query row] has bit j set where the row keeps the j-th key. Pairs are
// numbered from pairs_first on, in the order of the row's visits.
// One workgroup, one SIMD vector, a head and key block: each invocation takes ROWS keys. QUERIES
// queries are taken at a time, so that the sums, which live across the loop, are touched less often.

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
@group(0) @binding(1) var qkv: texture_storage_2d<rgba32float, read>;
@group(0) @binding(2) var dout: texture_storage_2d<rgba32float, read>;
@group(0) @binding(3) var<storage, read> log_sum_exp: array<f32>;
@group(0) @binding(4) var<storage, read> delta: array<f32>;
@group(0) @binding(5) var<storage, read> blocks: array<Block>;
@group(0) @binding(6) var<storage, read> visits: array<u32>;
@group(0) @binding(7) var<storage, read> bits: array<u32>;
@group(0) @binding(8) var<storage, read_write> dqkv: array<vec4f>;

const HEAD_DIM: u32 = 64u; // a multiple of 4
const QUADS: u32 = 16u; // vec4 that hold a head: HEAD_DIM / 4
const SCALE: f32 = 0.125; // 1 / sqrt(HEAD_DIM)
const DROPOUT: bool = false;
const BLOCK: u32 = 16u; // largest length of a block, a multiple of LANES
const BITS: bool = false;
const WIDTH: u32 = 2048u; // texels in a row of a texture
const LANES: u32 = 8u;
const ROWS: u32 = BLOCK / LANES; // rows of the block per invocation
const QUERIES: u32 = 2u; // queries taken at a time

fn load_qkv(texel: u32) -> vec4f { return textureLoad(qkv, vec2u(texel % WIDTH, texel / WIDTH)); }

fn load_dout(texel: u32) -> vec4f { return textureLoad(dout, vec2u(texel % WIDTH, texel / WIDTH)); }

fn total(x: vec4f) -> f32 { return (x.x + x.y) + (x.z + x.w); }

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
        let origin = token * 3u * width + width + head * QUADS;
        for (var d = 0u; d < QUADS; d++) {
            key[r][d] = SCALE * load_qkv(origin + d);
            value[r][d] = load_qkv(origin + width + d);
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
                    let query = load_qkv(token * 3u * width + head * QUADS + d);
                    let of_out = load_dout(token * width + head * QUADS + d);
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
                    let keep = kept(head, block.sequence,
                        queries.first + row - block.sequence_first,
                        block.first + lane + r * LANES - block.sequence_first);
                    weight[r][g] = of_row * keep;
                    dscore[r][g] = SCALE * of_row * (total(dproduct[r][g]) * keep - row_delta);
                }
            }
            for (var d = 0u; d < QUADS; d++) {
                for (var g = 0u; g < QUERIES; g++) {
                    let token = queries.first + min(i + g, queries.length - 1u);
                    let query = load_qkv(token * 3u * width + head * QUADS + d);
                    let of_out = load_dout(token * width + head * QUADS + d);
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
                dqkv[origin + d] = dkey[r][d];
                dqkv[origin + width + d] = dvalue[r][d];
            }
        }
    }
}
