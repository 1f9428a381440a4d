// with: activation
// C = A·B (+ bias) (then an activation), for GPUs: tiles of A and B in workgroup memory,
// THREAD_ROWS × THREAD_COLUMNS results of each invocation in registers, loads and stores of four
// values at a time.
//   C [m, n] row-major;  A is [m, k], or [k, m] with TRANSPOSE_A;  B is [k, n], or [n, k] with
//   TRANSPOSE_B;  bias [n].  n must be a multiple of 4, and k as well (m instead of k with
//   TRANSPOSE_A).
// With an activation, `before` [m, n] keeps the values it was applied to, which its gradient needs.
// With SPLIT > 1 the sums are cut along k: layer z of C [SPLIT, m, n] gets the z-th part, neither
// bias nor activation is applied, and matmul_sum.wgsl adds the layers up.

struct Params { m: u32, n: u32, k: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<vec4f>;
@group(0) @binding(2) var<storage, read> b: array<vec4f>;
@group(0) @binding(3) var<storage, read> bias: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> c: array<vec4f>;
@group(0) @binding(5) var<storage, read_write> before: array<vec4f>;

const TRANSPOSE_A: bool = false;
const TRANSPOSE_B: bool = false;
const BIAS: bool = false;
const KEEP_BEFORE: bool = false;
const SPLIT: u32 = 1u;

const ROWS: u32 = 64u; // rows of C per workgroup
const COLUMNS: u32 = 64u; // columns of C per workgroup
const THREAD_ROWS: u32 = 4u; // 4 or 8
const THREAD_COLUMNS: u32 = 4u; // 4 or 8
const DEPTH: u32 = 16u; // steps along k per tile
const DOWN: u32 = 16u; // ROWS / THREAD_ROWS
const ACROSS: u32 = 16u; // COLUMNS / THREAD_COLUMNS
const THREADS: u32 = DOWN * ACROSS;

// Rows, and columns, of an invocation come in quads, one or two: quad q of invocation i is rows
// 4 (i + q · DOWN) on, so that neighbours read neighbouring vec4 of workgroup memory. Nothing in
// registers is indexed by a variable: a compiler that does not unroll a loop would move it to
// memory.
const TALL: bool = THREAD_ROWS == 8u;
const WIDE: bool = THREAD_COLUMNS == 8u;

var<workgroup> a_tile: array<vec4f, DEPTH * ROWS / 4u>; // [DEPTH, ROWS / 4]
var<workgroup> b_tile: array<vec4f, DEPTH * COLUMNS / 4u>; // [DEPTH, COLUMNS / 4]

// Tiles are loaded in blocks of 4 × 4: of A and B together so many, shared out among the
// invocations.
const A_BLOCKS: u32 = ROWS * DEPTH / 16u;
const BLOCKS: u32 = (ROWS + COLUMNS) * DEPTH / 16u;
const BLOCKS_EACH: u32 = (BLOCKS + THREADS - 1u) / THREADS;

// Four values along the direction in which A lies; zeros outside.
fn row_of_a(row: u32, depth: u32, end: u32) -> vec4f {
    if (row >= params.m || depth >= end) { return vec4f(0.0); }
    if (TRANSPOSE_A) { return a[(depth * params.m + row) / 4u]; }
    return a[(row * params.k + depth) / 4u];
}

// Four values along the direction in which B lies; zeros outside.
fn row_of_b(column: u32, depth: u32, end: u32) -> vec4f {
    if (column >= params.n || depth >= end) { return vec4f(0.0); }
    if (TRANSPOSE_B) { return b[(column * params.k + depth) / 4u]; }
    return b[(depth * params.n + column) / 4u];
}

// Four steps along k and four rows of A: [d][i] = A[row + i, depth + d].
fn load_a(row: u32, depth: u32, end: u32) -> mat4x4f {
    if (TRANSPOSE_A) {
        return mat4x4f(row_of_a(row, depth, end), row_of_a(row, depth + 1u, end),
            row_of_a(row, depth + 2u, end), row_of_a(row, depth + 3u, end));
    }
    return transpose(mat4x4f(row_of_a(row, depth, end), row_of_a(row + 1u, depth, end),
        row_of_a(row + 2u, depth, end), row_of_a(row + 3u, depth, end)));
}

// Four steps along k and four columns of B: [d][j] = B[depth + d, column + j].
fn load_b(column: u32, depth: u32, end: u32) -> mat4x4f {
    if (TRANSPOSE_B) {
        return transpose(mat4x4f(row_of_b(column, depth, end), row_of_b(column + 1u, depth, end),
            row_of_b(column + 2u, depth, end), row_of_b(column + 3u, depth, end)));
    }
    return mat4x4f(row_of_b(column, depth, end), row_of_b(column, depth + 1u, end),
        row_of_b(column, depth + 2u, end), row_of_b(column, depth + 3u, end));
}

// Four rows and four columns of C, [i][j], with the products of x (rows) and y (columns) added.
fn add_products(sum: mat4x4f, x: vec4f, y: vec4f) -> mat4x4f {
    return mat4x4f(fma(vec4f(x.x), y, sum[0]), fma(vec4f(x.y), y, sum[1]),
        fma(vec4f(x.z), y, sum[2]), fma(vec4f(x.w), y, sum[3]));
}

fn store_row(layer: u32, row: u32, column: u32, sum: vec4f) {
    if (row >= params.m || column >= params.n) { return; }
    var value = sum;
    let at = (layer * params.m + row) * (params.n / 4u) + column / 4u;
    if (BIAS) { value += bias[column / 4u]; }
    if (KEEP_BEFORE) { before[at] = value; }
    c[at] = activate(value);
}

fn store(layer: u32, row: u32, column: u32, sum: mat4x4f) {
    store_row(layer, row, column, sum[0]);
    store_row(layer, row + 1u, column, sum[1]);
    store_row(layer, row + 2u, column, sum[2]);
    store_row(layer, row + 3u, column, sum[3]);
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) index: u32) {
    let row_origin = group.y * ROWS;
    let column_origin = group.x * COLUMNS;
    let down = index / ACROSS;
    let across = index % ACROSS;
    // This layer's part of k, in whole tiles.
    let part = (params.k + DEPTH * SPLIT - 1u) / (DEPTH * SPLIT) * DEPTH;
    let first = min(group.z * part, params.k);
    let end = min(first + part, params.k);

    // By quad of rows and quad of columns.
    var sum_00: mat4x4f;
    var sum_01: mat4x4f;
    var sum_10: mat4x4f;
    var sum_11: mat4x4f;
    for (var depth = first; depth < end; depth += DEPTH) {
        for (var each = 0u; each < BLOCKS_EACH; each++) {
            let block = index + each * THREADS;
            // Neighbouring invocations read neighbouring addresses, whichever way A and B lie.
            if (block < A_BLOCKS) {
                var quad = block / (DEPTH / 4u);
                var d = 4u * (block % (DEPTH / 4u));
                if (TRANSPOSE_A) { quad = block % (ROWS / 4u); d = 4u * (block / (ROWS / 4u)); }
                let loaded = load_a(row_origin + 4u * quad, depth + d, end);
                let at = d * (ROWS / 4u) + quad;
                a_tile[at] = loaded[0];
                a_tile[at + ROWS / 4u] = loaded[1];
                a_tile[at + 2u * (ROWS / 4u)] = loaded[2];
                a_tile[at + 3u * (ROWS / 4u)] = loaded[3];
            } else if (block < BLOCKS) {
                let rest = block - A_BLOCKS;
                var quad = rest % (COLUMNS / 4u);
                var d = 4u * (rest / (COLUMNS / 4u));
                if (TRANSPOSE_B) { quad = rest / (DEPTH / 4u); d = 4u * (rest % (DEPTH / 4u)); }
                let loaded = load_b(column_origin + 4u * quad, depth + d, end);
                let at = d * (COLUMNS / 4u) + quad;
                b_tile[at] = loaded[0];
                b_tile[at + COLUMNS / 4u] = loaded[1];
                b_tile[at + 2u * (COLUMNS / 4u)] = loaded[2];
                b_tile[at + 3u * (COLUMNS / 4u)] = loaded[3];
            }
        }
        workgroupBarrier();
        for (var d = 0u; d < DEPTH; d++) {
            let x_at = d * (ROWS / 4u) + down;
            let y_at = d * (COLUMNS / 4u) + across;
            let x = a_tile[x_at];
            let y = b_tile[y_at];
            sum_00 = add_products(sum_00, x, y);
            if (WIDE) {
                let y_far = b_tile[y_at + ACROSS];
                sum_01 = add_products(sum_01, x, y_far);
                if (TALL) { sum_11 = add_products(sum_11, a_tile[x_at + DOWN], y_far); }
            }
            if (TALL) { sum_10 = add_products(sum_10, a_tile[x_at + DOWN], y); }
        }
        workgroupBarrier();
    }
    let row = row_origin + 4u * down;
    let column = column_origin + 4u * across;
    store(group.z, row, column, sum_00);
    if (WIDE) { store(group.z, row, column + 4u * ACROSS, sum_01); }
    if (TALL) { store(group.z, row + 4u * DOWN, column, sum_10); }
    if (TALL && WIDE) { store(group.z, row + 4u * DOWN, column + 4u * ACROSS, sum_11); }
}
