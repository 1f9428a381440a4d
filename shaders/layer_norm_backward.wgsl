// with: dropout random
// Gradient of LayerNorm with respect to its input: with g = dy · gamma and x̂ the normalized row,
//   dz = (g - mean(g) - x̂ · mean(g · x̂)) / sqrt(variance + ε).
// dz belongs to the residual as it is, and to x too where nothing was dropped of it; else
// dx = dropout(dz).
//   dy, normalized, dz, dx [rows, columns];  gamma [columns];  inverse_deviation [rows];
//   places [rows]: sequence << 16 | position, by which dropout tells rows apart.
// One workgroup a row.

struct Params {
    rows: u32, columns: u32,
    seed: u32, seed_high: u32, step: u32, site: u32,
    probability: f32, // of dropping an element
}

alias Dy = f32;
alias Normalized = f32;
alias Dz = f32;
alias Dx = f32;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> dy: array<Dy>;
@group(0) @binding(2) var<storage, read> normalized: array<Normalized>;
@group(0) @binding(3) var<storage, read> gamma: array<f32>;
@group(0) @binding(4) var<storage, read> inverse_deviation: array<f32>;
@group(0) @binding(5) var<storage, read> places: array<u32>;
@group(0) @binding(6) var<storage, read_write> dz: array<Dz>;
@group(0) @binding(7) var<storage, read_write> dx: array<Dx>;

const DROPOUT: bool = false;

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
        let g = f32(dy[origin + column]) * gamma[column];
        sums += vec2f(g, g * f32(normalized[origin + column]));
    }
    partial[lane] = sums;
    workgroupBarrier();
    for (var width = 32u; width > 0u; width /= 2u) {
        if (lane < width) { partial[lane] += partial[lane + width]; }
        workgroupBarrier();
    }
    let means = partial[0] / f32(params.columns);
    for (var quad = lane; quad < (params.columns + 3u) / 4u; quad += 64u) {
        var keep = vec4f(1.0);
        if (DROPOUT) { keep = dropout_factors(places[row], quad); }
        for (var j = 0u; j < 4u; j++) {
            let column = 4u * quad + j;
            if (column < params.columns) {
                let at = origin + column;
                let value = (f32(dy[at]) * gamma[column] - means.x - f32(normalized[at]) * means.y)
                    * inverse_deviation[row];
                dz[at] = Dz(value);
                if (DROPOUT) { dx[at] = Dx(select(0.0, keep[j] * value, keep[j] > 0.0)); }
            }
        }
    }
}
