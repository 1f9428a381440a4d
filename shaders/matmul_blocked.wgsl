// with: activation finish tiles
// C = A·B, for GPUs: tiles of A and B in workgroup memory, loads and stores of four values at a
// time. While a tile is used, each invocation holds its block of the next one in registers.
//   C [m, n] row-major;  A is [m, k], or [k, m] with TRANSPOSE_A;  B is [k, n], or [n, k] with
//   TRANSPOSE_B.  n must be a multiple of 4, and k as well (m instead of k with TRANSPOSE_A).
// In the end (shared/finish.wgsl) come `bias` [n], the activation or the slope of one at `bent`
// [m, n], and `addend` [m, n]; `before` [m, n] keeps what the activation is applied to.

struct Params { m: u32, n: u32, k: u32 }

alias A = vec4f;
alias B = vec4f;
alias Bent = vec4f;
alias Addend = vec4f;
alias C = vec4f;
alias Before = vec4f;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<A>;
@group(0) @binding(2) var<storage, read> b: array<B>;
@group(0) @binding(3) var<storage, read> bias: array<vec4f>;
@group(0) @binding(4) var<storage, read> bent: array<Bent>;
@group(0) @binding(5) var<storage, read> addend: array<Addend>;
@group(0) @binding(6) var<storage, read_write> c: array<C>;
@group(0) @binding(7) var<storage, read_write> before: array<Before>;

const TRANSPOSE_A: bool = false;
const TRANSPOSE_B: bool = false;

// Four values of A along its rows, and of B. Beyond the end of k they are zeros; beyond the other
// edges those of the last row or column, whose sums are stored nowhere.
fn a_quad(row: u32, depth: u32) -> vec4f {
    var at = min(row, params.m - 1u) * (params.k / 4u) + min(depth, params.k - 4u) / 4u;
    if (TRANSPOSE_A) {
        at = min(depth, params.k - 1u) * (params.m / 4u) + min(row, params.m - 4u) / 4u;
    }
    return select(vec4f(0.0), vec4f(a[at]), depth < params.k);
}

fn b_quad(column: u32, depth: u32) -> vec4f {
    var at = min(depth, params.k - 1u) * (params.n / 4u) + min(column, params.n - 4u) / 4u;
    if (TRANSPOSE_B) {
        at = min(column, params.n - 1u) * (params.k / 4u) + min(depth, params.k - 4u) / 4u;
    }
    return select(vec4f(0.0), vec4f(b[at]), depth < params.k);
}

// Four steps along k and four rows of A: [d][i] = A[row + i, depth + d].
fn load_a(row: u32, depth: u32) -> mat4x4f {
    if (TRANSPOSE_A) {
        return mat4x4f(a_quad(row, depth), a_quad(row, depth + 1u), a_quad(row, depth + 2u),
            a_quad(row, depth + 3u));
    }
    return transpose(mat4x4f(a_quad(row, depth), a_quad(row + 1u, depth),
        a_quad(row + 2u, depth), a_quad(row + 3u, depth)));
}

// Four steps along k and four columns of B: [d][j] = B[depth + d, column + j].
fn load_b(column: u32, depth: u32) -> mat4x4f {
    if (TRANSPOSE_B) {
        return transpose(mat4x4f(b_quad(column, depth), b_quad(column + 1u, depth),
            b_quad(column + 2u, depth), b_quad(column + 3u, depth)));
    }
    return mat4x4f(b_quad(column, depth), b_quad(column, depth + 1u), b_quad(column, depth + 2u),
        b_quad(column, depth + 3u));
}

fn store_row(row: u32, column: u32, sum: vec4f) {
    if (row < params.m && column < params.n) {
        finish(row * (params.n / 4u) + column / 4u, column / 4u, sum);
    }
}

fn store(index: u32, row: u32, column: u32, sum: mat4x4f) {
    let whole = gather(index, sum);
    let first = row + first_finished(index);
    store_row(first, column, whole[0]);
    if (FINISHED > 1u) { store_row(first + 1u, column, whole[1]); }
    if (FINISHED > 2u) { store_row(first + 2u, column, whole[2]); }
    if (FINISHED > 2u) { store_row(first + 3u, column, whole[3]); }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) index: u32) {
    // The block of A or of B that this invocation brings of each tile: neighbouring invocations
    // read neighbouring addresses, whichever way A and B lie.
    let of_a = index < A_BLOCKS;
    let of_b = !of_a && index < BLOCKS;
    let block = select(index - A_BLOCKS, index, of_a);
    var quad = block / (DEPTH / 4u);
    var step = 4u * (block % (DEPTH / 4u));
    if (TRANSPOSE_A && of_a) {
        quad = block % (ROWS / 4u);
        step = 4u * (block / (ROWS / 4u));
    }
    if (!TRANSPOSE_B && !of_a) {
        quad = block % (COLUMNS / 4u);
        step = 4u * (block / (COLUMNS / 4u));
    }
    let row = group.y * ROWS + 4u * quad;
    let column = group.x * COLUMNS + 4u * quad;
    var next: mat4x4f;
    if (of_a) { next = load_a(row, step); } else if (of_b) { next = load_b(column, step); }
    for (var depth = 0u; depth < params.k; depth += DEPTH) {
        workgroupBarrier();
        if (of_a) { put_a(quad, step, next); } else if (of_b) { put_b(quad, step, next); }
        workgroupBarrier();
        if (depth + DEPTH < params.k) {
            let ahead = depth + DEPTH + step;
            if (of_a) {
                next = load_a(row, ahead);
            } else if (of_b) {
                next = load_b(column, ahead);
            }
        }
        multiply(index);
    }
    let down = group.y * ROWS + 4u * quad_down(index);
    let across = group.x * COLUMNS + 4u * quad_across(index);
    store(index, down, across, sum_00);
    if (WIDE) { store(index, down, across + 4u * ACROSS, sum_01); }
    if (TALL) { store(index, down + 4u * DOWN, across, sum_10); }
    if (TALL && WIDE) { store(index, down + 4u * DOWN, across + 4u * ACROSS, sum_11); }
}
