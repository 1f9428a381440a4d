// Octets: LANES neighbouring invocations, eight for most heads, share rows of a head. Each holds
// PARTS vec4 of a row, those numbered lane, lane + LANES and so on: together they read a row in one
// piece, and each has registers for several rows. With `exchange` and `total`.
const LANES: u32 = 8u; // a power of two, at least 4
const PARTS: u32 = 2u; // at most 4
const ROWS: u32 = 4u; // of their own: 1, 2 or 4

// What one invocation holds of a row; what lies beyond PARTS is not used.
struct Row { a: vec4f, b: vec4f, c: vec4f, d: vec4f }

// What one invocation holds of several rows; what lies beyond their number is not used.
struct Rows { a: Row, b: Row, c: Row, d: Row }

// This invocation's part of a product of two rows.
fn product(x: Row, y: Row) -> f32 {
    var sum = x.a * y.a;
    if (PARTS > 1u) { sum = fma(x.b, y.b, sum); }
    if (PARTS > 2u) { sum = fma(x.c, y.c, sum); }
    if (PARTS > 3u) { sum = fma(x.d, y.d, sum); }
    return total(sum);
}

fn plus(sum: Row, factor: f32, y: Row) -> Row {
    let f = vec4f(factor);
    var more = sum;
    more.a = fma(f, y.a, sum.a);
    if (PARTS > 1u) { more.b = fma(f, y.b, sum.b); }
    if (PARTS > 2u) { more.c = fma(f, y.c, sum.c); }
    if (PARTS > 3u) { more.d = fma(f, y.d, sum.d); }
    return more;
}

fn times(x: Row, factor: f32) -> Row {
    return Row(x.a * factor, x.b * factor, x.c * factor, x.d * factor);
}

// Own rows, each with a factor.
fn times_own(x: Rows, factors: vec4f) -> Rows {
    return Rows(times(x.a, factors.x), times(x.b, factors.y), times(x.c, factors.z),
        times(x.d, factors.w));
}
