// LayerNorm of a sum: with z = x + residual, y = (z - mean) / sqrt(variance + ε) · gamma + beta over
// each row (biased variance). Keeps the normalized rows and 1 / sqrt(variance + ε) for backward.
//   x, residual, y, normalized [rows, columns];  gamma, beta [columns];  inverse_deviation [rows].
// One workgroup a row.

struct Params { rows: u32, columns: u32, epsilon: f32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> residual: array<f32>;
@group(0) @binding(3) var<storage, read> gamma: array<f32>;
@group(0) @binding(4) var<storage, read> beta: array<f32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
@group(0) @binding(6) var<storage, read_write> normalized: array<f32>;
@group(0) @binding(7) var<storage, read_write> inverse_deviation: array<f32>;

const RESIDUAL: bool = true;

var<workgroup> partial: array<f32, 64>;

fn total(value: f32, lane: u32) -> f32 {
    workgroupBarrier();
    partial[lane] = value;
    workgroupBarrier();
    for (var width = 32u; width > 0u; width /= 2u) {
        if (lane < width) { partial[lane] += partial[lane + width]; }
        workgroupBarrier();
    }
    return partial[0];
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
    var sum = 0.0;
    for (var column = lane; column < params.columns; column += 64u) {
        var z = x[origin + column];
        if (RESIDUAL) { z += residual[origin + column]; }
        normalized[origin + column] = z;
        sum += z;
    }
    let mean = total(sum, lane) / count;
    // The variance around the mean itself: sums of squares would cancel where the mean is large.
    sum = 0.0;
    for (var column = lane; column < params.columns; column += 64u) {
        let centred = normalized[origin + column] - mean;
        sum += centred * centred;
    }
    let inverse = inverseSqrt(total(sum, lane) / count + params.epsilon);
    for (var column = lane; column < params.columns; column += 64u) {
        let value = (normalized[origin + column] - mean) * inverse;
        normalized[origin + column] = value;
        y[origin + column] = value * gamma[column] + beta[column];
    }
    if (lane == 0u) { inverse_deviation[row] = inverse; }
}
