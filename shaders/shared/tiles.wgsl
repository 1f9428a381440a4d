// The product of two factors by tiles in workgroup memory: `put_a` and `put_b` fill them,
// `multiply` adds their product to sums in registers. The invocations form SLICES groups, each of
// which takes its steps of every tile; in the end `gather` adds their sums up, in order.
const ROWS: u32 = 64u; // rows of the result per workgroup
const COLUMNS: u32 = 64u; // columns of the result per workgroup
const THREAD_ROWS: u32 = 8u; // rows of the result per invocation: 4 or 8
const THREAD_COLUMNS: u32 = 8u; // 4 or 8
const SLICES: u32 = 4u; // 1, 2 or 4
const DEPTH: u32 = 32u; // steps along k per tile: 8, 16 or 32
const DOWN: u32 = ROWS / THREAD_ROWS; // a multiple of 8
const ACROSS: u32 = COLUMNS / THREAD_COLUMNS; // a multiple of 8
const SLICE: u32 = DOWN * ACROSS; // invocations
const THREADS: u32 = SLICE * SLICES;
const STEPS: u32 = DEPTH / SLICES;

// Rows, and columns, of an invocation come in quads, one or two: quad q of invocation i is rows
// 4 (i + q · DOWN) on, so that neighbours read neighbouring vec4 of workgroup memory. Nothing in
// registers is indexed by a variable: a compiler that does not unroll a loop would move it to
// memory.
const TALL: bool = THREAD_ROWS == 8u;
const WIDE: bool = THREAD_COLUMNS == 8u;

// A tile is brought in blocks of 4 × 4, at most one an invocation.
const A_BLOCKS: u32 = ROWS * DEPTH / 16u;
const BLOCKS: u32 = A_BLOCKS + COLUMNS * DEPTH / 16u;

// A [DEPTH, ROWS / 4], then B [DEPTH, COLUMNS / 4]; in the end a quad of rows of every invocation.
var<workgroup> tiles: array<vec4f, max(4u * BLOCKS, 4u * THREADS * min(SLICES - 1u, 1u))>;

// By quad of rows and quad of columns.
var<private> sum_00: mat4x4f;
var<private> sum_01: mat4x4f;
var<private> sum_10: mat4x4f;
var<private> sum_11: mat4x4f;

// Which quad of rows and of columns an invocation computes: of 32 neighbours 8 lie across and 4
// down, so that what they read of the tiles is 128 and 64 bytes.
fn quad_down(index: u32) -> u32 {
    return index % SLICE / 32u / (ACROSS / 8u) * 4u + index % 32u / 8u;
}

fn quad_across(index: u32) -> u32 {
    return index % SLICE / 32u % (ACROSS / 8u) * 8u + index % 8u;
}

// Quads are permuted by their step, so that the blocks that neighbours bring, which may be next to
// each other along k, do not fall into the same banks.
fn place_in_a(quad: u32, step: u32) -> u32 {
    return step * (ROWS / 4u) + (quad ^ (step / 4u * (32u / DEPTH) % 8u));
}

fn place_in_b(quad: u32, step: u32) -> u32 {
    return 4u * A_BLOCKS + step * (COLUMNS / 4u) + (quad ^ (step / 4u * (32u / DEPTH) % 8u));
}

// Four steps from `step` on, zeros from `end` on. Zeros of one factor are enough.
fn cut_block(block: mat4x4f, step: u32, end: u32) -> mat4x4f {
    let zero = vec4f(0.0);
    return mat4x4f(select(zero, block[0], step < end), select(zero, block[1], step + 1u < end),
        select(zero, block[2], step + 2u < end), select(zero, block[3], step + 3u < end));
}

// Puts four steps from `step`, a multiple of 4, on of a quad of rows into the tile of A.
fn put_a(quad: u32, step: u32, block: mat4x4f) {
    let at = place_in_a(quad, step);
    tiles[at] = block[0];
    tiles[at + ROWS / 4u] = block[1];
    tiles[at + 2u * (ROWS / 4u)] = block[2];
    tiles[at + 3u * (ROWS / 4u)] = block[3];
}

fn put_b(quad: u32, step: u32, block: mat4x4f) {
    let at = place_in_b(quad, step);
    tiles[at] = block[0];
    tiles[at + COLUMNS / 4u] = block[1];
    tiles[at + 2u * (COLUMNS / 4u)] = block[2];
    tiles[at + 3u * (COLUMNS / 4u)] = block[3];
}

// Four rows and four columns, [i][j], with the products of x (rows) and y (columns) added.
fn add_products(sum: mat4x4f, x: vec4f, y: vec4f) -> mat4x4f {
    return mat4x4f(fma(vec4f(x.x), y, sum[0]), fma(vec4f(x.y), y, sum[1]),
        fma(vec4f(x.z), y, sum[2]), fma(vec4f(x.w), y, sum[3]));
}

fn multiply(index: u32) {
    let down = quad_down(index);
    let across = quad_across(index);
    let first = index / SLICE * STEPS;
    for (var each = 0u; each < STEPS; each++) {
        let x_at = place_in_a(down, first + each);
        let y_at = place_in_b(across, first + each);
        let x = tiles[x_at];
        let y = tiles[y_at];
        sum_00 = add_products(sum_00, x, y);
        if (WIDE) {
            let y_far = tiles[y_at + ACROSS];
            sum_01 = add_products(sum_01, x, y_far);
            if (TALL) { sum_11 = add_products(sum_11, tiles[x_at + DOWN], y_far); }
        }
        if (TALL) { sum_10 = add_products(sum_10, tiles[x_at + DOWN], y); }
    }
}

// The rows of a quad that an invocation finishes: so many, from this one on.
const FINISHED: u32 = 4u / SLICES;

fn first_finished(index: u32) -> u32 { return index / SLICE * FINISHED; }

// Those rows, with what all slices have added to them.
fn gather(index: u32, sum: mat4x4f) -> mat4x4f {
    if (SLICES == 1u) { return sum; }
    workgroupBarrier();
    tiles[index] = sum[0];
    tiles[index + THREADS] = sum[1];
    tiles[index + 2u * THREADS] = sum[2];
    tiles[index + 3u * THREADS] = sum[3];
    workgroupBarrier();
    let at = first_finished(index) * THREADS + index % SLICE;
    var total: mat4x4f;
    for (var slice = 0u; slice < SLICES; slice++) {
        total[0] += tiles[at + slice * SLICE];
        if (SLICES == 2u) { total[1] += tiles[at + THREADS + slice * SLICE]; }
    }
    return total;
}
