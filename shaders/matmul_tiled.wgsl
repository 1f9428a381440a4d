// with: activation finish_one
// C = A·B of any size, for GPUs: tiles of A and B in workgroup memory, 4×4 results in registers,
// loads and stores one by one.
//   C [m, n] row-major;  A is [m, k], or [k, m] with TRANSPOSE_A;  B is [k, n], or [n, k] with
//   TRANSPOSE_B.
// In the end (shared/finish_one.wgsl) come `bias` [n], the activation or the slope of one at `bent`
// [m, n], and `addend` [m, n]; `before` [m, n] keeps what the activation is applied to.

struct Params { m: u32, n: u32, k: u32 }

alias A = f32;
alias B = f32;
alias Bent = f32;
alias Addend = f32;
alias Result = f32;
alias Before = f32;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<A>;
@group(0) @binding(2) var<storage, read> b: array<B>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read> bent: array<Bent>;
@group(0) @binding(5) var<storage, read> addend: array<Addend>;
@group(0) @binding(6) var<storage, read_write> result: array<Result>;
@group(0) @binding(7) var<storage, read_write> before: array<Before>;

const TRANSPOSE_A: bool = false;
const TRANSPOSE_B: bool = false;

const TILE: u32 = 64u; // rows and columns of C per workgroup
const DEPTH: u32 = 16u; // steps along k per tile
const LANES: u32 = 16u; // invocations per side

var<workgroup> a_tile: array<f32, 1024>; // [DEPTH, TILE]
var<workgroup> b_tile: array<f32, 1024>; // [DEPTH, TILE]

fn finish_columns(row: u32, column: u32, sums: vec4f) {
    finish_one(row, column, sums.x);
    finish_one(row, column + LANES, sums.y);
    finish_one(row, column + 2u * LANES, sums.z);
    finish_one(row, column + 3u * LANES, sums.w);
}

@compute @workgroup_size(16, 16)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(local_invocation_id) lane: vec3u,
    @builtin(local_invocation_index) index: u32,
) {
    let row_origin = group.y * TILE;
    let column_origin = group.x * TILE;
    // Rows lane.y + i · LANES, columns lane.x + j · LANES: [i][j].
    var sum: mat4x4f;
    for (var depth = 0u; depth < params.k; depth += DEPTH) {
        for (var slot = index; slot < TILE * DEPTH; slot += LANES * LANES) {
            // Neighbouring invocations read neighbouring addresses, whichever way A and B lie.
            var i = slot / DEPTH;
            var d = slot % DEPTH;
            if (TRANSPOSE_A) { i = slot % TILE; d = slot / TILE; }
            let row = row_origin + i;
            var value = 0.0;
            if (row < params.m && depth + d < params.k) {
                if (TRANSPOSE_A) {
                    value = f32(a[(depth + d) * params.m + row]);
                } else {
                    value = f32(a[row * params.k + depth + d]);
                }
            }
            a_tile[d * TILE + i] = value;

            i = slot % TILE;
            d = slot / TILE;
            if (TRANSPOSE_B) { i = slot / DEPTH; d = slot % DEPTH; }
            let column = column_origin + i;
            value = 0.0;
            if (column < params.n && depth + d < params.k) {
                if (TRANSPOSE_B) {
                    value = f32(b[column * params.k + depth + d]);
                } else {
                    value = f32(b[(depth + d) * params.n + column]);
                }
            }
            b_tile[d * TILE + i] = value;
        }
        workgroupBarrier();
        for (var d = 0u; d < DEPTH; d++) {
            let x_at = d * TILE + lane.y;
            let x0 = a_tile[x_at];
            let x1 = a_tile[x_at + LANES];
            let x2 = a_tile[x_at + 2u * LANES];
            let x3 = a_tile[x_at + 3u * LANES];
            let y_at = d * TILE + lane.x;
            let y = vec4f(b_tile[y_at], b_tile[y_at + LANES], b_tile[y_at + 2u * LANES],
                b_tile[y_at + 3u * LANES]);
            sum = mat4x4f(fma(vec4f(x0), y, sum[0]), fma(vec4f(x1), y, sum[1]),
                fma(vec4f(x2), y, sum[2]), fma(vec4f(x3), y, sum[3]));
        }
        workgroupBarrier();
    }
    let row = row_origin + lane.y;
    let column = column_origin + lane.x;
    finish_columns(row, column, sum[0]);
    finish_columns(row + LANES, column, sum[1]);
    finish_columns(row + 2u * LANES, column, sum[2]);
    finish_columns(row + 3u * LANES, column, sum[3]);
}
