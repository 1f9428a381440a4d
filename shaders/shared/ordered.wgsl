// A score as an integer of the same order: larger score, larger integer. Both zeros are one.
fn ordered(score: f32) -> u32 {
    let word = bitcast<u32>(select(score, 0.0, score == 0.0));
    return select(word | 0x80000000u, ~word, (word >> 31u) == 1u);
}
