// with: dropout random
// LayerNorm of a sum: with z = dropout(x) + residual, y = (z - mean) / sqrt(variance + ε) · gamma +
// beta over each row (biased variance). Keeps the normalized rows and 1 / sqrt(variance + ε) for
// backward.
//   x, residual, y, normalized [rows, columns];  gamma, beta [columns];  inverse_deviation [rows];
//   places [rows]: sequence << 16 | position, by which dropout tells rows apart.
// One workgroup a row. Without DROPOUT, or RESIDUAL, that part is left out.

struct Params {
    rows: u32, columns: u32,
    epsilon: f32,
    seed: u32, seed_high: u32, step: u32, site: u32,
    probability: f32, // of dropping an element
}

alias X = f32;
alias Residual = f32;
alias Y = f32;
alias Normalized = f32;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<X>;
@group(0) @binding(2) var<storage, read> residual: array<Residual>;
@group(0) @binding(3) var<storage, read> gamma: array<f32>;
@group(0) @binding(4) var<storage, read> beta: array<f32>;
@group(0) @binding(5) var<storage, read> places: array<u32>;
@group(0) @binding(6) var<storage, read_write> y: array<Y>;
@group(0) @binding(7) var<storage, read_write> normalized: array<Normalized>;
@group(0) @binding(8) var<storage, read_write> inverse_deviation: array<f32>;

const RESIDUAL: bool = true;
const DROPOUT: bool = false;

var<workgroup> partial: array<f32, 64>;

fn workgroup_total(value: f32, lane: u32) -> f32 {
    workgroupBarrier();
    partial[lane] = value;
    workgroupBarrier();
    for (var width = 32u; width > 0u; width /= 2u) {
        if (lane < width) { partial[lane] += partial[lane + width]; }
        workgroupBarrier();
    }
    return partial[0];
}

// An element of what is normalized; `keep` is what dropout makes of x.
fn element_of_sum(at: u32, keep: f32) -> f32 {
    var z = select(0.0, keep * f32(x[at]), keep > 0.0);
    if (RESIDUAL) { z += f32(residual[at]); }
    return z;
}

// Factors of four columns of x, for which one call of the generator is enough.
fn kept_of_x(row: u32, quad: u32) -> vec4f {
    if (DROPOUT) { return dropout_factors(places[row], quad); }
    return vec4f(1.0);
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.y * groups.x + group.x;
    if (row >= params.rows) { return; }
    let origin = row * params.columns;
    let count = f32(params.columns);
    let quads = (params.columns + 3u) / 4u;
    var sum = 0.0;
    for (var quad = lane; quad < quads; quad += 64u) {
        let keep = kept_of_x(row, quad);
        for (var column = 4u * quad; column < min(4u * quad + 4u, params.columns); column++) {
            sum += element_of_sum(origin + column, keep[column % 4u]);
        }
    }
    let mean = workgroup_total(sum, lane) / count;
    // The variance around the mean itself: sums of squares would cancel where the mean is large.
    sum = 0.0;
    for (var quad = lane; quad < quads; quad += 64u) {
        let keep = kept_of_x(row, quad);
        for (var column = 4u * quad; column < min(4u * quad + 4u, params.columns); column++) {
            let centred = element_of_sum(origin + column, keep[column % 4u]) - mean;
            sum += centred * centred;
        }
    }
    let inverse = inverseSqrt(workgroup_total(sum, lane) / count + params.epsilon);
    for (var quad = lane; quad < quads; quad += 64u) {
        let keep = kept_of_x(row, quad);
        for (var column = 4u * quad; column < min(4u * quad + 4u, params.columns); column++) {
            let value = (element_of_sum(origin + column, keep[column % 4u]) - mean) * inverse;
            normalized[origin + column] = Normalized(value);
            y[origin + column] = Y(value * gamma[column] + beta[column]);
        }
    }
    if (lane == 0u) { inverse_deviation[row] = inverse; }
}
