// The product of a workgroup: its blocks of A and B from memory to the tiles and to registers.
// While a tile is used, each invocation holds its block of the next one in registers. A kernel says
// what it does before (`begin`), to a block of A that has arrived for a tile (`arrived`), and with
// sums (`store_rows`).

// Four values of A along its rows, and of B. Beyond an edge they are those of the edge: sums of its
// rows or columns are stored nowhere, and `cut_block` takes steps away. Whatever is done to a value
// here would wait for it.
fn a_quad(row: u32, depth: u32) -> vec4f {
    var at = min(row, params.m - 1u) * (params.k / 4u) + min(depth, params.k - 4u) / 4u;
    if (TRANSPOSE_A) {
        at = min(depth, params.k - 1u) * (params.m / 4u) + min(row, params.m - 4u) / 4u;
    }
    return vec4f(a[at]);
}

fn b_quad(column: u32, depth: u32) -> vec4f {
    var at = min(depth, params.k - 1u) * (params.n / 4u) + min(column, params.n - 4u) / 4u;
    if (TRANSPOSE_B) {
        at = min(column, params.n - 1u) * (params.k / 4u) + min(depth, params.k - 4u) / 4u;
    }
    return vec4f(b[at]);
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

fn store(index: u32, row: u32, column: u32, sum: mat4x4f) {
    let whole = gather(index, sum);
    store_rows(index, row + first_finished(index), column, whole);
}

fn compute_block(group: vec3u, index: u32) {
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
    begin(group, index, row);
    var next: mat4x4f;
    if (of_a) { next = load_a(row, step); } else if (of_b) { next = load_b(column, step); }
    for (var depth = 0u; depth < params.k; depth += DEPTH) {
        workgroupBarrier();
        if (of_a) {
            let of_tile = arrived(next, group, row, depth + step);
            put_a(quad, step, cut_block(of_tile, depth + step, params.k));
        } else if (of_b) {
            put_b(quad, step, next);
        }
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
