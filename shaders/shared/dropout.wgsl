// Dropout, with `random`: a function of the seed, the step, the site and two counters, drawn again
// in backward and stored nowhere. Reads params: seed, seed_high, step, site, probability.

// What dropout makes of four values, the `quad`-th at a place: 0, or 1 / (1 - p), each.
fn dropout_factors(place: u32, quad: u32) -> vec4f {
    let word = random(vec4u(params.seed ^ (params.site << 16u), params.seed_high ^ params.step,
        place, quad));
    // 24 bits, as many as a float32 holds exactly.
    let uniform = vec4f(word >> vec4u(8u)) * (1.0 / 16777216.0);
    let scale = vec4f(1.0 / (1.0 - params.probability));
    return select(vec4f(0.0), scale, uniform >= vec4f(params.probability));
}
