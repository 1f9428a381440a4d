// with: blocked tiles total
// Z = A·Bᵀ + bias + addend, for GPUs, and what a LayerNorm of its rows needs to know of them:
// `statistics` [m, ceil(n / 32)], of every 32 columns the mean and the sum of squared distances from
// it. Products and sums as in matmul_blocked.
//   A [m, k];  B [n, k];  bias [n];  addend, Z [m, n].  n and k are multiples of 4.

struct Params { m: u32, n: u32, k: u32 }

alias A = vec4f;
alias B = vec4f;
alias Addend = vec4f;
alias Z = vec4f;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<A>;
@group(0) @binding(2) var<storage, read> b: array<B>;
@group(0) @binding(3) var<storage, read> bias: array<vec4f>;
@group(0) @binding(4) var<storage, read> addend: array<Addend>;
@group(0) @binding(5) var<storage, read_write> z: array<Z>;
@group(0) @binding(6) var<storage, read_write> statistics: array<vec2f>;

const TRANSPOSE_A: bool = false;
const TRANSPOSE_B: bool = true;

fn begin(group: vec3u, index: u32, row: u32) {}

fn arrived(block: mat4x4f, group: vec3u, row: u32, depth: u32) -> mat4x4f { return block; }

// Four columns of a row of the result, which it stores.
fn store_sum(row: u32, column: u32, sum: vec4f) -> vec4f {
    if (row >= params.m || column >= params.n) { return vec4f(0.0); }
    let at = (row * params.n + column) / 4u;
    let value = sum + bias[column / 4u] + vec4f(addend[at]);
    z[at] = Z(value);
    return value;
}

fn squares(x: vec4f) -> f32 { return total(x * x); }

fn store_statistics(row: u32, column: u32, mean: f32, distances: f32) {
    if (row < params.m && column < params.n) {
        statistics[row * ((params.n + 31u) / 32u) + column / 32u] = vec2f(mean, distances);
    }
}

// Rows from `row` on of the quad of columns at `column`. The eight invocations of an octet have 32
// columns of the same rows: each leaves its means and squared distances of four, by row, and the
// first one joins them. Distances from the mean itself: a large mean would cancel in others.
fn store_rows(index: u32, row: u32, column: u32, sums: mat4x4f) {
    var x: mat4x4f;
    x[0] = store_sum(row, column, sums[0]);
    if (FINISHED > 1u) { x[1] = store_sum(row + 1u, column, sums[1]); }
    if (FINISHED > 2u) { x[2] = store_sum(row + 2u, column, sums[2]); }
    if (FINISHED > 2u) { x[3] = store_sum(row + 3u, column, sums[3]); }
    let own = 0.25 * vec4f(total(x[0]), total(x[1]), total(x[2]), total(x[3]));
    workgroupBarrier();
    tiles[index] = own;
    tiles[index + THREADS] = vec4f(squares(x[0] - own.x), squares(x[1] - own.y),
        squares(x[2] - own.z), squares(x[3] - own.w));
    workgroupBarrier();
    if (index % 8u != 0u || column >= params.n) { return; }
    let quads = min(params.n - column, 32u) / 4u;
    var mean = vec4f(0.0);
    for (var i = 0u; i < quads; i++) { mean += tiles[index + i]; }
    mean /= f32(quads);
    var distances = vec4f(0.0);
    for (var i = 0u; i < quads; i++) {
        let away = tiles[index + i] - mean;
        distances += tiles[index + i + THREADS] + 4.0 * away * away;
    }
    store_statistics(row, column, mean.x, distances.x);
    if (FINISHED > 1u) { store_statistics(row + 1u, column, mean.y, distances.y); }
    if (FINISHED > 2u) { store_statistics(row + 2u, column, mean.z, distances.z); }
    if (FINISHED > 2u) { store_statistics(row + 3u, column, mean.w, distances.w); }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) index: u32) {
    compute_block(group, index);
}
