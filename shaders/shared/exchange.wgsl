// How the invocations of an octet exchange values where there are no subgroup functions: through
// workgroup memory.
var<workgroup> exchanged: array<vec4f, INVOCATIONS>;

// Sums each component over the octet; component lane % 4 of the sum.
fn octet_sum(x: vec4f, index: u32) -> f32 {
    let octet = index - index % LANES;
    workgroupBarrier();
    exchanged[index] = x;
    workgroupBarrier();
    var sum = 0.0;
    for (var i = 0u; i < LANES; i++) { sum += exchanged[octet + i][index % 4u]; }
    return sum;
}

// The values of the four pairs.
fn quad_values(x: f32, index: u32) -> vec4f {
    let quad = index - index % 4u;
    workgroupBarrier();
    exchanged[index].x = x;
    workgroupBarrier();
    return vec4f(exchanged[quad].x, exchanged[quad + 1u].x, exchanged[quad + 2u].x,
        exchanged[quad + 3u].x);
}

// The value of the invocation whose lane differs by 2.
fn partner(x: f32, index: u32) -> f32 {
    workgroupBarrier();
    exchanged[index].x = x;
    workgroupBarrier();
    return exchanged[index ^ 2u].x;
}
