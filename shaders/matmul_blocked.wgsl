// C = A·B (+ bias) (then an activation), for GPUs: tiles of A and B in workgroup memory, THREAD_ROWS ×
// THREAD_COLUMNS results of each invocation in registers, loads and stores of four values at a time.
//   C [m, n] row-major;  A is [m, k], or [k, m] with TRANSPOSE_A;  B is [k, n], or [n, k] with
//   TRANSPOSE_B;  bias [n].  n must be a multiple of 4, and k as well (m instead of k with TRANSPOSE_A).
// With an activation, `before` [m, n] keeps the values it was applied to, which its gradient needs.
// With SPLIT > 1 the sums are cut along k: layer z of C [SPLIT, m, n] gets the z-th part, neither bias
// nor activation is applied, and matmul_sum.wgsl adds the layers up.

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
const ACTIVATION: u32 = 0u; // 0 none, 1 GELU, 2 ReLU
const KEEP_BEFORE: bool = false;
const SPLIT: u32 = 1u;

const ROWS: u32 = 64u; // rows of C per workgroup
const COLUMNS: u32 = 64u; // columns of C per workgroup
const THREAD_ROWS: u32 = 4u; // multiples of 4
const THREAD_COLUMNS: u32 = 4u;
const DEPTH: u32 = 16u; // steps along k per tile
const DOWN: u32 = 16u; // ROWS / THREAD_ROWS
const ACROSS: u32 = 16u; // COLUMNS / THREAD_COLUMNS
const THREADS: u32 = DOWN * ACROSS;

// Rows, and columns, of an invocation come in quads: quad q of invocation i is rows 4 (i + q · DOWN) on,
// so that neighbours read neighbouring vec4 of workgroup memory.
const ROW_QUADS: u32 = THREAD_ROWS / 4u;
const COLUMN_QUADS: u32 = THREAD_COLUMNS / 4u;

var<workgroup> a_tile: array<vec4f, DEPTH * ROWS / 4u>; // [DEPTH, ROWS / 4]
var<workgroup> b_tile: array<vec4f, DEPTH * COLUMNS / 4u>; // [DEPTH, COLUMNS / 4]

// Tiles are loaded in blocks of 4 × 4: of A and B together so many, shared out among the invocations.
const A_BLOCKS: u32 = ROWS * DEPTH / 16u;
const BLOCKS: u32 = (ROWS + COLUMNS) * DEPTH / 16u;
const BLOCKS_EACH: u32 = (BLOCKS + THREADS - 1u) / THREADS;

// Complementary error function, relative error below 1.2e-7 everywhere (Chebyshev fit of Numerical
// Recipes, section 6.2), so that the tails of GELU keep their digits.
fn erfc(x: vec4f) -> vec4f {
    let z = abs(x);
    let t = 1.0 / (1.0 + 0.5 * z);
    let series = -1.26551223 + t * (1.00002368 + t * (0.37409196 + t * (0.09678418
        + t * (-0.18628806 + t * (0.27886807 + t * (-1.13520398 + t * (1.48851587
        + t * (-0.82215223 + t * 0.17087277))))))));
    let tail = t * exp(series - z * z);
    return select(tail, 2.0 - tail, x < vec4f(0.0));
}

fn activate(x: vec4f) -> vec4f {
    if (ACTIVATION == 1u) { return 0.5 * x * erfc(-0.70710678 * x); }
    if (ACTIVATION == 2u) { return max(x, vec4f(0.0)); }
    return x;
}

// Four rows and four steps along k of A, rows first: [d][i] = A[row + i, depth + d]; zeros outside.
fn load_a(row: u32, depth: u32, end: u32) -> mat4x4f {
    var block: mat4x4f;
    for (var i = 0u; i < 4u; i++) {
        if (TRANSPOSE_A) {
            if (row < params.m && depth + i < end) {
                block[i] = a[((depth + i) * params.m + row) / 4u];
            }
        } else {
            if (row + i < params.m && depth < end) {
                block[i] = a[((row + i) * params.k + depth) / 4u];
            }
        }
    }
    if (TRANSPOSE_A) { return block; }
    return transpose(block);
}

// Four steps along k and four columns of B: [d][j] = B[depth + d, column + j]; zeros outside.
fn load_b(column: u32, depth: u32, end: u32) -> mat4x4f {
    var block: mat4x4f;
    for (var i = 0u; i < 4u; i++) {
        if (TRANSPOSE_B) {
            if (column + i < params.n && depth < end) {
                block[i] = b[((column + i) * params.k + depth) / 4u];
            }
        } else {
            if (column < params.n && depth + i < end) {
                block[i] = b[((depth + i) * params.n + column) / 4u];
            }
        }
    }
    if (TRANSPOSE_B) { return transpose(block); }
    return block;
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

    var sum: array<array<vec4f, COLUMN_QUADS>, THREAD_ROWS>;
    for (var depth = first; depth < end; depth += DEPTH) {
        for (var each = 0u; each < BLOCKS_EACH; each++) {
            let block = index + each * THREADS;
            // Neighbouring invocations read neighbouring addresses, whichever way A and B lie.
            if (block < A_BLOCKS) {
                var quad = block / (DEPTH / 4u);
                var d = 4u * (block % (DEPTH / 4u));
                if (TRANSPOSE_A) { quad = block % (ROWS / 4u); d = 4u * (block / (ROWS / 4u)); }
                let loaded = load_a(row_origin + 4u * quad, depth + d, end);
                for (var i = 0u; i < 4u; i++) { a_tile[(d + i) * (ROWS / 4u) + quad] = loaded[i]; }
            } else if (block < BLOCKS) {
                let rest = block - A_BLOCKS;
                var quad = rest % (COLUMNS / 4u);
                var d = 4u * (rest / (COLUMNS / 4u));
                if (TRANSPOSE_B) { quad = rest / (DEPTH / 4u); d = 4u * (rest % (DEPTH / 4u)); }
                let loaded = load_b(column_origin + 4u * quad, depth + d, end);
                for (var i = 0u; i < 4u; i++) { b_tile[(d + i) * (COLUMNS / 4u) + quad] = loaded[i]; }
            }
        }
        workgroupBarrier();
        for (var d = 0u; d < DEPTH; d++) {
            var y: array<vec4f, COLUMN_QUADS>;
            for (var j = 0u; j < COLUMN_QUADS; j++) {
                y[j] = b_tile[d * (COLUMNS / 4u) + across + j * ACROSS];
            }
            for (var q = 0u; q < ROW_QUADS; q++) {
                let x = a_tile[d * (ROWS / 4u) + down + q * DOWN];
                for (var i = 0u; i < 4u; i++) {
                    for (var j = 0u; j < COLUMN_QUADS; j++) {
                        sum[4u * q + i][j] = fma(vec4f(x[i]), y[j], sum[4u * q + i][j]);
                    }
                }
            }
        }
        workgroupBarrier();
    }
    for (var i = 0u; i < THREAD_ROWS; i++) {
        let row = row_origin + 4u * (down + i / 4u * DOWN) + i % 4u;
        for (var j = 0u; j < COLUMN_QUADS; j++) {
            let column = column_origin + 4u * (across + j * ACROSS);
            if (row < params.m && column < params.n) {
                var value = sum[i][j];
                let at = (group.z * params.m + row) * (params.n / 4u) + column / 4u;
                if (BIAS) { value += bias[column / 4u]; }
                if (KEEP_BEFORE) { before[at] = value; }
                c[at] = activate(value);
            }
        }
    }
}
