// Gradient of LayerNorm with respect to its input: with g = dy · gamma and x̂ the normalized row,
//   dz = (g - mean(g) - x̂ · mean(g · x̂)) / sqrt(variance + ε).
// The same dz belongs to x and to the residual.
//   dy, normalized, dz [rows, columns];  gamma [columns];  inverse_deviation [rows].
// One workgroup a row.

struct Params { rows: u32, columns: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> dy: array<f32>;
@group(0) @binding(2) var<storage, read> normalized: array<f32>;
@group(0) @binding(3) var<storage, read> gamma: array<f32>;
@group(0) @binding(4) var<storage, read> inverse_deviation: array<f32>;
@group(0) @binding(5) var<storage, read_write> dz: array<f32>;

var<workgroup> partial: array<vec2f, 64>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = group.y * groups.x + group.x;
    if (row >= params.rows) { return; }
    let origin = row * params.columns;
    var sums = vec2f(0.0); // of g, and of g · x̂
    for (var column = lane; column < params.columns; column += 64u) {
        let g = dy[origin + column] * gamma[column];
        sums += vec2f(g, g * normalized[origin + column]);
    }
    partial[lane] = sums;
    workgroupBarrier();
    for (var width = 32u; width > 0u; width /= 2u) {
        if (lane < width) { partial[lane] += partial[lane + width]; }
        workgroupBarrier();
    }
    let means = partial[0] / f32(params.columns);
    for (var column = lane; column < params.columns; column += 64u) {
        let g = dy[origin + column] * gamma[column];
        dz[origin + column] = (g - means.x - normalized[origin + column] * means.y)
            * inverse_deviation[row];
    }
}
