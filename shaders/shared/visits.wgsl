// Walking the key blocks that a query block visits; reads `visits`.

// The first block from `start` on in a row of visits; `count`, the blocks of the sequence, if there
// is none.
fn next_visit(row: u32, start: u32, count: u32) -> u32 {
    var word = start / 32u;
    var rest = 0u;
    if (start < count) { rest = visits[row + word] & (0xffffffffu << (start % 32u)); }
    while (rest == 0u && (word + 1u) * 32u < count) {
        word += 1u;
        rest = visits[row + word];
    }
    return select(word * 32u + firstTrailingBit(rest), count, rest == 0u);
}
