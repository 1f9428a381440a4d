// How the invocations of an octet exchange values by subgroup functions. No subgroup has less than
// eight invocations, and those of an octet are neighbours in one.

// Sums each component over the octet; component lane % 4 of the sum.
fn octet_sum(x: vec4f, index: u32) -> f32 {
    let odd = index % 2u == 1u;
    let pairs = select(x.xz, x.yw, odd) + quadSwapX(select(x.yw, x.xz, odd));
    let high = index % 4u > 1u;
    let sum = select(pairs.x, pairs.y, high) + quadSwapY(select(pairs.y, pairs.x, high));
    if (LANES == 4u) { return sum; }
    return sum + subgroupShuffleXor(sum, 4u);
}

// The values of the four pairs.
fn quad_values(x: f32, index: u32) -> vec4f {
    return vec4f(quadBroadcast(x, 0u), quadBroadcast(x, 1u), quadBroadcast(x, 2u),
        quadBroadcast(x, 3u));
}

// The value of the invocation whose lane differs by 2.
fn partner(x: f32, index: u32) -> f32 { return quadSwapY(x); }
