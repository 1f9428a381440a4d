// with: activation blocked tiles
// C = activation(X·Bᵀ + bias) with X = (Z - mean) / sqrt(variance + ε) · gamma + beta, the LayerNorm
// of the rows of Z, for GPUs: Z is normalized on its way into the tiles. The workgroups of the first
// columns keep X. `statistics` are those that normed_sum leaves; products and sums as in
// matmul_blocked.
//   Z, X [m, k];  statistics [m, ceil(k / 32)];  gamma, beta [k];  B [n, k];  bias [n];  C [m, n].
//   n and k are multiples of 4.

struct Params { m: u32, n: u32, k: u32, epsilon: f32 }

alias A = vec4f;
alias B = vec4f;
alias X = vec4f;
alias C = vec4f;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<A>; // Z
@group(0) @binding(2) var<storage, read> statistics: array<vec2f>;
@group(0) @binding(3) var<storage, read> gamma: array<vec4f>;
@group(0) @binding(4) var<storage, read> beta: array<vec4f>;
@group(0) @binding(5) var<storage, read> b: array<B>;
@group(0) @binding(6) var<storage, read> bias: array<vec4f>;
@group(0) @binding(7) var<storage, read_write> x: array<X>;
@group(0) @binding(8) var<storage, read_write> c: array<C>;

const TRANSPOSE_A: bool = false;
const TRANSPOSE_B: bool = true;

// Of the four rows of which this invocation brings blocks.
var<private> means: vec4f;
var<private> inverse_deviations: vec4f;

// Mean and 1 / sqrt(variance + ε) of a row.
fn row_moments(row: u32) -> vec2f {
    let parts = (params.k + 31u) / 32u;
    let first = min(row, params.m - 1u) * parts;
    var sum = 0.0;
    for (var part = 0u; part < parts; part++) {
        sum += f32(min(params.k - 32u * part, 32u)) * statistics[first + part].x;
    }
    let mean = sum / f32(params.k);
    var distances = 0.0;
    for (var part = 0u; part < parts; part++) {
        let of_part = statistics[first + part];
        let away = of_part.x - mean;
        distances += of_part.y + f32(min(params.k - 32u * part, 32u)) * away * away;
    }
    return vec2f(mean, inverseSqrt(distances / f32(params.k) + params.epsilon));
}

fn begin(group: vec3u, index: u32, row: u32) {
    for (var i = index; i < ROWS; i += THREADS) {
        tiles[i] = vec4f(row_moments(group.y * ROWS + i), 0.0, 0.0);
    }
    workgroupBarrier();
    if (index < A_BLOCKS) {
        let first = row - group.y * ROWS;
        let rows = mat4x4f(tiles[first], tiles[first + 1u], tiles[first + 2u], tiles[first + 3u]);
        let moments = transpose(rows);
        means = moments[0];
        inverse_deviations = moments[1];
    }
}

// What lies beyond the end of k is taken away later.
fn arrived(block: mat4x4f, group: vec3u, row: u32, depth: u32) -> mat4x4f {
    if (depth >= params.k) { return block; }
    let scale = gamma[depth / 4u];
    let shift = beta[depth / 4u];
    let normed = mat4x4f(
        (block[0] - means) * inverse_deviations * scale.x + shift.x,
        (block[1] - means) * inverse_deviations * scale.y + shift.y,
        (block[2] - means) * inverse_deviations * scale.z + shift.z,
        (block[3] - means) * inverse_deviations * scale.w + shift.w,
    );
    if (group.x == 0u) {
        let rows = transpose(normed);
        keep_row(row, depth, rows[0]);
        keep_row(row + 1u, depth, rows[1]);
        keep_row(row + 2u, depth, rows[2]);
        keep_row(row + 3u, depth, rows[3]);
    }
    return normed;
}

fn keep_row(row: u32, depth: u32, value: vec4f) {
    if (row < params.m) { x[(row * params.k + depth) / 4u] = X(value); }
}

fn store_projected(row: u32, column: u32, sum: vec4f) {
    if (row < params.m && column < params.n) {
        c[(row * params.n + column) / 4u] = C(activate(sum + bias[column / 4u]));
    }
}

fn store_rows(index: u32, row: u32, column: u32, sums: mat4x4f) {
    store_projected(row, column, sums[0]);
    if (FINISHED > 1u) { store_projected(row + 1u, column, sums[1]); }
    if (FINISHED > 2u) { store_projected(row + 2u, column, sums[2]); }
    if (FINISHED > 2u) { store_projected(row + 3u, column, sums[3]); }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) index: u32) {
    compute_block(group, index);
}
