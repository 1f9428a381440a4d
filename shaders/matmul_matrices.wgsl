// with: activation finish matrices
// C = A·B by cooperative matrices, for GPUs that have them. While a tile is used, each invocation
// holds its quads of the next one in registers.
//   C [m, n] row-major;  A is [m, k], or [k, m] with TRANSPOSE_A;  B is [k, n], or [n, k] with
//   TRANSPOSE_B.  n must be a multiple of 4, and k as well (m instead of k with TRANSPOSE_A).
// In the end (shared/finish.wgsl) come `bias` [n], the activation or the slope of one at `bent`
// [m, n], and `addend` [m, n]; `before` [m, n] keeps what the activation is applied to.

enable subgroups;
enable wgpu_cooperative_matrix;

struct Params { m: u32, n: u32, k: u32 }

// A is left, B is right, and C is result here: `A`, `B` and `C` are what matrices are for.
alias Left = vec4f;
alias Right = vec4f;
alias Bent = vec4f;
alias Addend = vec4f;
alias Result = vec4f;
alias Before = vec4f;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> left: array<Left>;
@group(0) @binding(2) var<storage, read> right: array<Right>;
@group(0) @binding(3) var<storage, read> bias: array<vec4f>;
@group(0) @binding(4) var<storage, read> bent: array<Bent>;
@group(0) @binding(5) var<storage, read> addend: array<Addend>;
@group(0) @binding(6) var<storage, read_write> result: array<Result>;
@group(0) @binding(7) var<storage, read_write> before: array<Before>;

const TRANSPOSE_A: bool = false;
const TRANSPOSE_B: bool = false;

// A quad of the tiles that begin at this row or column and this step. Beyond an edge that of the
// edge stands in: sums of its row or column are stored nowhere, and `cut` takes steps away.
fn a_quad_of_tile(quad: u32, row: u32, depth: u32) -> vec4<Factor> {
    let place = quad_in_a(quad, TRANSPOSE_A);
    if (TRANSPOSE_A) {
        let line = min(depth + place.y, params.k - 1u) * params.m;
        return vec4<Factor>(left[(line + min(row + place.x, params.m - 4u)) / 4u]);
    }
    let line = min(row + place.y, params.m - 1u) * params.k;
    return vec4<Factor>(left[(line + min(depth + place.x, params.k - 4u)) / 4u]);
}

fn b_quad_of_tile(quad: u32, column: u32, depth: u32) -> vec4<Factor> {
    let place = quad_in_b(quad, TRANSPOSE_B);
    if (TRANSPOSE_B) {
        let line = min(column + place.y, params.n - 1u) * params.k;
        return vec4<Factor>(right[(line + min(depth + place.x, params.k - 4u)) / 4u]);
    }
    let line = min(depth + place.y, params.k - 1u) * params.n;
    return vec4<Factor>(right[(line + min(column + place.x, params.n - 4u)) / 4u]);
}

fn bring_a(index: u32, row: u32, depth: u32) -> mat4x4<Factor> {
    var quads: mat4x4<Factor>;
    quads[0] = a_quad_of_tile(index, row, depth);
    if (A_QUADS > 1u) { quads[1] = a_quad_of_tile(index + THREADS, row, depth); }
    if (A_QUADS > 2u) {
        quads[2] = a_quad_of_tile(index + 2u * THREADS, row, depth);
        quads[3] = a_quad_of_tile(index + 3u * THREADS, row, depth);
    }
    return quads;
}

fn bring_b(index: u32, column: u32, depth: u32) -> mat4x4<Factor> {
    var quads: mat4x4<Factor>;
    quads[0] = b_quad_of_tile(index, column, depth);
    if (B_QUADS > 1u) { quads[1] = b_quad_of_tile(index + THREADS, column, depth); }
    if (B_QUADS > 2u) {
        quads[2] = b_quad_of_tile(index + 2u * THREADS, column, depth);
        quads[3] = b_quad_of_tile(index + 3u * THREADS, column, depth);
    }
    return quads;
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
) {
    let origin = group.xy * vec2u(COLUMNS, ROWS);
    // Nobody knows the size of subgroups beforehand: where there are fewer than blocks, blocks wait
    // for another turn, and where there are more, some compute what is thrown away.
    for (var first = 0u; first < BLOCKS; first += subgroups) {
        let block = min(first + subgroup, BLOCKS - 1u);
        let row = block / ACROSS * BLOCK_ROWS;
        let column = block % ACROSS * BLOCK_COLUMNS;
        clear_sums();
        var next_a = bring_a(index, origin.y, 0u);
        var next_b = bring_b(index, origin.x, 0u);
        for (var depth = 0u; depth < params.k; depth += DEPTH) {
            workgroupBarrier();
            put_into_a(index, TRANSPOSE_A, cut(index, TRANSPOSE_A, params.k - depth, next_a));
            put_into_b(index, TRANSPOSE_B, next_b);
            workgroupBarrier();
            if (depth + DEPTH < params.k) {
                next_a = bring_a(index, origin.y, depth + DEPTH);
                next_b = bring_b(index, origin.x, depth + DEPTH);
            }
            for (var step = 0u; step < DEPTH; step += EDGE) {
                if (TRANSPOSE_A) { take_transposed(row, step); } else { take(row, step); }
                if (TRANSPOSE_B) {
                    multiply_by_transposed(step, column);
                } else {
                    multiply_by(step, column);
                }
            }
        }
        let end = min(first + subgroups, BLOCKS) * (MATRIX / 4u);
        for (var matrix = 0u; matrix < MATRICES; matrix++) {
            stage(first + subgroup, matrix);
            for (var quad = first * (MATRIX / 4u) + index; quad < end; quad += THREADS) {
                let place = origin + staged_place(quad, matrix);
                if (place.y < params.m && place.x < params.n) {
                    let at = (place.y * params.n + place.x) / 4u;
                    finish(at, place.x / 4u, staged_quad(quad));
                }
            }
        }
    }
}
