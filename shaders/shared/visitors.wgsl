// Walking the query blocks that visit a key block; reads `visits`.

// The first query block from `start` on that visits a key block, both numbered within the sequence,
// whose rows of visits begin at `rows`; `count`, the blocks of the sequence, if there is none.
fn next_visitor(rows: u32, key: u32, start: u32, count: u32) -> u32 {
    let words = (count + 31u) / 32u;
    var query = start;
    while (query < count
        && ((visits[rows + query * words + key / 32u] >> (key % 32u)) & 1u) == 0u) {
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
