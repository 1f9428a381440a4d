// with: activation finish texels
// C = A·B, for CPU adapters: no workgroup memory and no barrier. A workgroup is one SIMD vector of
// 8 invocations along the columns; each holds ROWS × COLUMNS vec4 of results in registers. A and B
// are read as texels of storage textures: a software driver turns such a load of 8 invocations into
// plain vector loads, in line; a load of a sampled texture into a call that also chooses a mip
// level, and a buffer load into a loop over the invocations.
//   C [m, n] row-major;  A is [m, k], or [k, m] with TRANSPOSE_A;  B is [k, n], or [n, k] with
//   TRANSPOSE_B.  n must be a multiple of 4, and k as well (m instead of k with TRANSPOSE_A).
// In the end (shared/finish.wgsl) come `bias` [n], the activation or the slope of one at `bent`
// [m, n], and `addend` [m, n]; `before` [m, n] keeps what the activation is applied to.

struct Params { m: u32, n: u32, k: u32 }

alias Bent = vec4f;
alias Addend = vec4f;
alias Result = vec4f;
alias Before = vec4f;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var a: texture_storage_2d<rgba32float, read>;
@group(0) @binding(2) var b: texture_storage_2d<rgba32float, read>;
@group(0) @binding(3) var<storage, read> bias: array<vec4f>;
@group(0) @binding(4) var<storage, read> bent: array<Bent>;
@group(0) @binding(5) var<storage, read> addend: array<Addend>;
@group(0) @binding(6) var<storage, read_write> result: array<Result>;
@group(0) @binding(7) var<storage, read_write> before: array<Before>;

const TRANSPOSE_A: bool = false;
const TRANSPOSE_B: bool = false;

const ROWS: u32 = 16u; // rows of C per workgroup
const COLUMNS: u32 = 3u; // vec4 of columns per invocation
const LANES: u32 = 8u;
const BY_ROWS: bool = false; // products row by row, instead of column by column

// sum + x·y, term by term.
fn with_product(sum: vec4f, x: vec4f, y: mat4x4f) -> vec4f {
    var value = fma(vec4f(x.x), y[0], sum);
    value = fma(vec4f(x.y), y[1], value);
    value = fma(vec4f(x.z), y[2], value);
    return fma(vec4f(x.w), y[3], value);
}

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let n4 = params.n / 4u;
    let m4 = params.m / 4u;
    let k4 = (params.k + 3u) / 4u;
    let row_origin = group.y * ROWS;
    let column_origin = group.x * LANES * COLUMNS + lane;
    var sum: array<array<vec4f, COLUMNS>, ROWS>;
    for (var step = 0u; step < k4; step++) {
        // Out-of-range rows and columns read a valid neighbour: their results are never written.
        var x: array<vec4f, ROWS>; // A[row_origin + i, 4 step ..]
        if (TRANSPOSE_A) {
            for (var i = 0u; i < ROWS; i += 4u) {
                let column = min(row_origin / 4u + i / 4u, m4 - 1u);
                var block: mat4x4f;
                for (var d = 0u; d < 4u; d++) {
                    // Here k is any number: what lies beyond its end counts as zero.
                    let depth = step * 4u + d;
                    let inside = select(0.0, 1.0, depth < params.k);
                    let row = min(depth, params.k - 1u);
                    block[d] = inside * textureLoad(a, coordinates(row, column, m4));
                }
                block = transpose(block);
                x[i] = block[0];
                x[i + 1u] = block[1];
                x[i + 2u] = block[2];
                x[i + 3u] = block[3];
            }
        } else {
            for (var i = 0u; i < ROWS; i++) {
                let row = min(row_origin + i, params.m - 1u);
                x[i] = textureLoad(a, coordinates(row, step, k4));
            }
        }
        var y: array<mat4x4f, COLUMNS>; // B[4 step + d, 4 column ..]
        for (var j = 0u; j < COLUMNS; j++) {
            let column = min(column_origin + j * LANES, n4 - 1u);
            for (var d = 0u; d < 4u; d++) {
                if (TRANSPOSE_B) {
                    y[j][d] = textureLoad(b, coordinates(4u * column + d, step, k4));
                } else {
                    var row = step * 4u + d;
                    if (TRANSPOSE_A) { row = min(row, params.k - 1u); }
                    y[j][d] = textureLoad(b, coordinates(row, column, n4));
                }
            }
            if (TRANSPOSE_B) { y[j] = transpose(y[j]); }
            if (!BY_ROWS) {
                for (var i = 0u; i < ROWS; i++) {
                    sum[i][j] = with_product(sum[i][j], x[i], y[j]);
                }
            }
        }
        if (BY_ROWS) {
            for (var i = 0u; i < ROWS; i++) {
                for (var j = 0u; j < COLUMNS; j++) {
                    sum[i][j] = with_product(sum[i][j], x[i], y[j]);
                }
            }
        }
    }
    for (var i = 0u; i < ROWS; i++) {
        let row = row_origin + i;
        for (var j = 0u; j < COLUMNS; j++) {
            let column = column_origin + j * LANES;
            if (row < params.m && column < n4) {
                finish(row * n4 + column, column, sum[i][j]);
            }
        }
    }
}
