// Selection among scores in memory, with `select`. Reads `scores`: ROWS rows of them side by side.

// The cut between the `keep` largest of `count` scores and the others. Score i is
// scores[base + i · ROWS].
fn find_cut(base: u32, count: u32, keep: u32) -> Cut {
    var cut = Cut(0u, 0u);
    for (var digit = 0u; digit < 8u; digit++) {
        let shift = 28u - 4u * digit;
        var reached = Reached();
        for (var i = 0u; i < count; i++) {
            reached = add(reached, scores[base + i * ROWS], cut.threshold, shift);
        }
        cut = refine(cut, reached, shift, keep);
    }
    return cut;
}
