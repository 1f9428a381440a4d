// with: dropout random total row_sums
// LayerNorm of a sum, for GPUs: with z = dropout(x) + residual, y = (z - mean) /
// sqrt(variance + ε) · gamma + beta over each row (biased variance). Keeps the normalized rows and
// 1 / sqrt(variance + ε) for backward. A row stays in the registers of 64 invocations, so that
// memory is read once and written once.
//   x, residual, y, normalized [rows, columns];  gamma, beta [columns];  inverse_deviation [rows];
//   places [rows]: sequence << 16 | position, by which dropout tells rows apart.
// With EMBED, z = words[id] + positions[position], and `dropout` strikes y instead of x:
//   x is words [vocabulary, columns], residual is positions [positions, columns];
//   places [rows, 2]: id, and sequence << 16 | position.
// columns is a multiple of 4, and 256 · QUADS at most.

struct Params {
    rows: u32, columns: u32,
    epsilon: f32,
    seed: u32, seed_high: u32, step: u32, site: u32,
    probability: f32, // of dropping an element
}

alias X = vec4f;
alias Residual = vec4f;
alias Y = vec4f;
alias Normalized = vec4f;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<X>;
@group(0) @binding(2) var<storage, read> residual: array<Residual>;
@group(0) @binding(3) var<storage, read> gamma: array<vec4f>;
@group(0) @binding(4) var<storage, read> beta: array<vec4f>;
@group(0) @binding(5) var<storage, read> places: array<u32>;
@group(0) @binding(6) var<storage, read_write> y: array<Y>;
@group(0) @binding(7) var<storage, read_write> normalized: array<Normalized>;
@group(0) @binding(8) var<storage, read_write> inverse_deviation: array<f32>;

const RESIDUAL: bool = true;
const DROPOUT: bool = false;
const EMBED: bool = false;
const QUADS: u32 = 3u; // vec4 of a row in an invocation, 4 at most

fn norm_place(row: u32) -> u32 {
    if (EMBED) { return places[2u * row + 1u]; }
    return places[row];
}

fn dropped_quad(value: vec4f, row: u32, quad: u32) -> vec4f {
    let keep = dropout_factors(norm_place(row), quad);
    return select(vec4f(0.0), keep * value, keep > vec4f(0.0));
}

// Four columns of what is normalized; zeros behind the end.
fn load_summed(row: u32, quad: u32) -> vec4f {
    let quads = params.columns / 4u;
    if (quad >= quads) { return vec4f(0.0); }
    if (EMBED) {
        let position = norm_place(row) & 0xffffu;
        return vec4f(x[places[2u * row] * quads + quad]) + vec4f(residual[position * quads + quad]);
    }
    var z = vec4f(x[row * quads + quad]);
    if (DROPOUT) { z = dropped_quad(z, row, quad); }
    if (RESIDUAL) { z += vec4f(residual[row * quads + quad]); }
    return z;
}

// The distance from the mean; zeros behind the end.
fn centred_quad(z: vec4f, mean: f32, quad: u32) -> vec4f {
    return select(vec4f(0.0), z - mean, quad < params.columns / 4u);
}

fn store_normed(row: u32, quad: u32, value: vec4f) {
    let quads = params.columns / 4u;
    if (row >= params.rows || quad >= quads) { return; }
    normalized[row * quads + quad] = Normalized(value);
    var result = value * gamma[quad] + beta[quad];
    if (EMBED && DROPOUT) { result = dropped_quad(result, row, quad); }
    y[row * quads + quad] = Y(result);
}

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) index: u32,
) {
    let own = (group.y * groups.x + group.x) * ROWS_AT_ONCE + index / ROW_LANES;
    // Rows beyond the end repeat the last one, and write nothing.
    let row = min(own, params.rows - 1u);
    let lane = index % ROW_LANES;
    let count = f32(params.columns);
    var z0 = load_summed(row, lane);
    var z1 = vec4f(0.0);
    var z2 = vec4f(0.0);
    var z3 = vec4f(0.0);
    if (QUADS > 1u) { z1 = load_summed(row, lane + 64u); }
    if (QUADS > 2u) { z2 = load_summed(row, lane + 128u); }
    if (QUADS > 3u) { z3 = load_summed(row, lane + 192u); }
    let mean = row_sum(vec2f(total((z0 + z1) + (z2 + z3)), 0.0), index).x / count;
    // The variance around the mean itself: sums of squares would cancel where the mean is large.
    z0 = centred_quad(z0, mean, lane);
    z1 = centred_quad(z1, mean, lane + 64u);
    z2 = centred_quad(z2, mean, lane + 128u);
    z3 = centred_quad(z3, mean, lane + 192u);
    let squares = (z0 * z0 + z1 * z1) + (z2 * z2 + z3 * z3);
    let variance = row_sum(vec2f(total(squares), 0.0), index).x / count;
    let inverse = inverseSqrt(variance + params.epsilon);
    store_normed(own, lane, z0 * inverse);
    if (QUADS > 1u) { store_normed(own, lane + 64u, z1 * inverse); }
    if (QUADS > 2u) { store_normed(own, lane + 128u, z2 * inverse); }
    if (QUADS > 3u) { store_normed(own, lane + 192u, z3 * inverse); }
    if (lane == 0u && own < params.rows) { inverse_deviation[own] = inverse; }
}
