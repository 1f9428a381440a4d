// A block of consecutive tokens of one sequence; `Block` in src/sparsity/block_mask.rs.
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
    // Two slices of the batch, numbers 2i and 2i + 1 of all if this is block i: twice the number of
    // the block that a slice is of, and 1 for its second half. 0xffffffff where there is none.
    even_slice: u32,
    odd_slice: u32,
}
