// with: activation
// C = A·B (+ bias) (then an activation), for GPUs: tiles of A and B in workgroup memory, 4×4
// results in registers. Takes any size.
//   C [m, n] row-major;  A is [m, k], or [k, m] with TRANSPOSE_A;  B is [k, n], or [n, k] with
//   TRANSPOSE_B;  bias [n].
// With an activation, `before` [m, n] keeps the values it was applied to, which its gradient needs.

struct Params { m: u32, n: u32, k: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> c: array<f32>;
@group(0) @binding(5) var<storage, read_write> before: array<f32>;

const TRANSPOSE_A: bool = false;
const TRANSPOSE_B: bool = false;
const BIAS: bool = false;
const KEEP_BEFORE: bool = false;

const TILE: u32 = 64u; // rows and columns of C per workgroup
const DEPTH: u32 = 16u; // steps along k per tile
const LANES: u32 = 16u; // invocations per side

var<workgroup> a_tile: array<f32, 1024>; // [DEPTH, TILE]
var<workgroup> b_tile: array<f32, 1024>; // [DEPTH, TILE]

@compute @workgroup_size(16, 16)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(local_invocation_id) lane: vec3u,
    @builtin(local_invocation_index) index: u32,
) {
    let row_origin = group.y * TILE;
    let column_origin = group.x * TILE;
    var sum: array<vec4f, 4>;
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
                    value = a[(depth + d) * params.m + row];
                } else {
                    value = a[row * params.k + depth + d];
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
                    value = b[column * params.k + depth + d];
                } else {
                    value = b[(depth + d) * params.n + column];
                }
            }
            b_tile[d * TILE + i] = value;
        }
        workgroupBarrier();
        for (var d = 0u; d < DEPTH; d++) {
            let at = d * TILE + lane.x;
            let y = vec4f(b_tile[at], b_tile[at + 16u], b_tile[at + 32u], b_tile[at + 48u]);
            for (var i = 0u; i < 4u; i++) {
                sum[i] = fma(vec4f(a_tile[d * TILE + lane.y + i * LANES]), y, sum[i]);
            }
        }
        workgroupBarrier();
    }
    for (var i = 0u; i < 4u; i++) {
        let row = row_origin + lane.y + i * LANES;
        var value = sum[i];
        for (var j = 0u; j < 4u; j++) {
            let column = column_origin + lane.x + j * LANES;
            if (BIAS && column < params.n) { value[j] += bias[column]; }
        }
        let activated = activate(value);
        for (var j = 0u; j < 4u; j++) {
            let column = column_origin + lane.x + j * LANES;
            if (row < params.m && column < params.n) {
                if (KEEP_BEFORE) { before[row * params.n + column] = value[j]; }
                c[row * params.n + column] = activated[j];
            }
        }
    }
}
