// The cut between the `keep` largest of many words and the others, without sorting: four bits of it
// at a time, from the highest on, by counting how many words reach each of 16 thresholds.

fn sum(x: vec4u) -> u32 { return (x.x + x.y) + (x.z + x.w); }

fn largest(x: vec4u) -> u32 { return max(max(x.x, x.y), max(x.z, x.w)); }

// How many scores reach each of 16 thresholds, lowest first.
struct Reached { a: vec4u, b: vec4u, c: vec4u, d: vec4u }

fn add(reached: Reached, score: u32, threshold: u32, shift: u32) -> Reached {
    let one = vec4u(1u);
    let step = vec4u(1u, 2u, 3u, 4u) << vec4u(shift);
    let first = vec4u(threshold) + step - (one << vec4u(shift));
    let four = vec4u(4u) << vec4u(shift);
    return Reached(
        reached.a + select(vec4u(0u), one, vec4u(score) >= first),
        reached.b + select(vec4u(0u), one, vec4u(score) >= first + four),
        reached.c + select(vec4u(0u), one, vec4u(score) >= first + 2u * four),
        reached.d + select(vec4u(0u), one, vec4u(score) >= first + 3u * four),
    );
}

// Where the cut lies: the lowest score that is kept, and how many scores lie above.
struct Cut { threshold: u32, above: u32 }

// The next four bits of the cut: the largest threshold that at least `keep` scores reach.
fn refine(cut: Cut, reached: Reached, shift: u32, keep: u32) -> Cut {
    let k = vec4u(keep);
    let one = vec4u(1u);
    let enough = sum(select(vec4u(0u), one, reached.a >= k) + select(vec4u(0u), one, reached.b >= k)
        + select(vec4u(0u), one, reached.c >= k) + select(vec4u(0u), one, reached.d >= k));
    let none = vec4u(0u);
    let short = max(
        max(select(reached.a, none, reached.a >= k), select(reached.b, none, reached.b >= k)),
        max(select(reached.c, none, reached.c >= k), select(reached.d, none, reached.d >= k)),
    );
    // As many reach the threshold so far as before, so at least the first of the 16 is reached.
    return Cut(cut.threshold + ((enough - 1u) << shift), max(cut.above, largest(short)));
}
