// What the attention kernels share, with `dropout`: their parameters, and the mask that they walk.
// The mask: for each head and query block a row of visits, from visits_first on, with a bit for
// each key block of its sequence. With BITS, of a visited pair of blocks only those pairs of tokens
// count that are in the bits: bits[pair · BLOCK + query row] has bit j set where the row keeps
// the j-th key. Pairs are numbered from pairs_first on, in the order of the row's visits.

// `parameters` in src/kernels/attention.rs.
struct Params {
    tokens: u32, blocks: u32, heads: u32,
    visits_stride: u32, // words from one head's visits to the next's; 0 where all heads share them
    bits_stride: u32, // likewise for the bits
    seed: u32, seed_high: u32, step: u32, site: u32,
    probability: f32, // of dropping a weight
}

const SCALE: f32 = 0.125; // 1 / sqrt(HEAD_DIM)
const DROPOUT: bool = false;
const BITS: bool = false;

// What dropout makes of the weight that a query gives a key: 0, or 1 / (1 - p).
fn weight_factor(head: u32, sequence: u32, query: u32, key: u32) -> f32 {
    if (!DROPOUT) { return 1.0; }
    return dropout_factors((sequence << 16u) | query, (head << 16u) | key).x;
}
