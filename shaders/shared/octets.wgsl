// Octets: LANES neighbouring invocations, eight for most heads, share rows of a head. Each holds
// PARTS vec4 of a row, those numbered lane, lane + LANES and so on, so that together they read a row
// in one piece, and an invocation has room for several rows. With `exchange` and `total`.
// They compute four pairs of rows at a time: each of ROWS rows of their own with each of OTHERS
// others. Pair i is own row i % ROWS and other row i / ROWS, and belongs to the invocations of which
// lane % 4 is i: what becomes of a score is computed there and nowhere else.
const LANES: u32 = 8u; // a power of two, at least 4
const PARTS: u32 = 2u; // at most 4
const ROWS: u32 = 4u; // 1, 2 or 4
const OTHERS: u32 = 4u / ROWS;

// What one invocation holds of a row; what lies beyond PARTS is not used.
struct Row { a: vec4f, b: vec4f, c: vec4f, d: vec4f }

// Own rows or others; what lies beyond ROWS or OTHERS is not used.
struct Rows { a: Row, b: Row, c: Row, d: Row }

// This invocation's part of a product of two rows.
fn product(x: Row, y: Row) -> f32 {
    var sum = x.a * y.a;
    if (PARTS > 1u) { sum = fma(x.b, y.b, sum); }
    if (PARTS > 2u) { sum = fma(x.c, y.c, sum); }
    if (PARTS > 3u) { sum = fma(x.d, y.d, sum); }
    return total(sum);
}

// This invocation's part of the products of the four pairs.
fn products(own: Rows, others: Rows) -> vec4f {
    let first = product(own.a, others.a);
    if (ROWS == 4u) {
        return vec4f(first, product(own.b, others.a), product(own.c, others.a),
            product(own.d, others.a));
    }
    if (ROWS == 2u) {
        return vec4f(first, product(own.b, others.a), product(own.a, others.b),
            product(own.b, others.b));
    }
    return vec4f(first, product(own.a, others.b), product(own.a, others.c),
        product(own.a, others.d));
}

// This invocation's part of the products of own rows with as many others of their own.
fn own_products(x: Rows, y: Rows) -> vec4f {
    let first = product(x.a, y.a);
    if (ROWS == 1u) { return vec4f(first); }
    let second = product(x.b, y.b);
    if (ROWS == 2u) { return vec4f(first, second, first, second); }
    return vec4f(first, second, product(x.c, y.c), product(x.d, y.d));
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

// Adds to each own row the others, each with the factor of the pair.
fn plus_others(sums: Rows, factors: vec4f, others: Rows) -> Rows {
    var more = sums;
    if (ROWS == 4u) {
        more.a = plus(sums.a, factors.x, others.a);
        more.b = plus(sums.b, factors.y, others.a);
        more.c = plus(sums.c, factors.z, others.a);
        more.d = plus(sums.d, factors.w, others.a);
    } else if (ROWS == 2u) {
        more.a = plus(plus(sums.a, factors.x, others.a), factors.z, others.b);
        more.b = plus(plus(sums.b, factors.y, others.a), factors.w, others.b);
    } else {
        more.a = plus(plus(sums.a, factors.x, others.a), factors.y, others.b);
        more.a = plus(plus(more.a, factors.z, others.c), factors.w, others.d);
    }
    return more;
}

fn times(x: Row, factor: f32) -> Row {
    return Row(x.a * factor, x.b * factor, x.c * factor, x.d * factor);
}

// Own rows, each with the factor of its first pair.
fn times_own(x: Rows, factors: vec4f) -> Rows {
    return Rows(times(x.a, factors.x), times(x.b, factors.y), times(x.c, factors.z),
        times(x.d, factors.w));
}

// Of a value of each pair the largest in the pair's own row.
fn largest_of_row(x: f32, index: u32) -> f32 {
    if (ROWS == 4u) { return x; }
    let all = gather(x, index);
    let of_rows = max(all.xy, all.zw);
    if (ROWS == 1u) { return max(of_rows.x, of_rows.y); }
    return select(of_rows.x, of_rows.y, index % 2u == 1u);
}

// Of a value of each pair the sum over the pair's own row.
fn sum_of_row(x: f32, index: u32) -> f32 {
    if (ROWS == 4u) { return x; }
    let all = gather(x, index);
    let of_rows = all.xy + all.zw;
    if (ROWS == 1u) { return of_rows.x + of_rows.y; }
    return select(of_rows.x, of_rows.y, index % 2u == 1u);
}
