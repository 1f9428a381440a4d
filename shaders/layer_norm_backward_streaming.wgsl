// with: dropout random texels total
// Gradient of LayerNorm with respect to its input, for CPU adapters: with g = dy · gamma and x̂ the
// normalized row,
//   dz = (g - mean(g) - x̂ · mean(g · x̂)) / sqrt(variance + ε).
// dz belongs to the residual as it is, and to x too where nothing was dropped of it; else
// dx = dropout(dz).
//   dy, normalized [rows, columns], gamma [columns], as texels;  inverse_deviation [rows];
//   dz, dx [rows, columns];  places [rows]: sequence << 16 | position, by which dropout tells rows
//   apart.
// An invocation takes a row, so that nothing passes between invocations: a software driver pays for
// a barrier with a switch of coroutines. columns is a multiple of 4.

struct Params {
    rows: u32, columns: u32,
    seed: u32, seed_high: u32, step: u32, site: u32,
    probability: f32, // of dropping an element
}

alias Dz = vec4f;
alias Dx = vec4f;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var dy: texture_storage_2d<rgba32float, read>;
@group(0) @binding(2) var normalized: texture_storage_2d<rgba32float, read>;
@group(0) @binding(3) var gamma: texture_storage_2d<rgba32float, read>;
@group(0) @binding(4) var<storage, read> inverse_deviation: array<f32>;
@group(0) @binding(5) var<storage, read> places: array<u32>;
@group(0) @binding(6) var<storage, read_write> dz: array<Dz>;
@group(0) @binding(7) var<storage, read_write> dx: array<Dx>;

const DROPOUT: bool = false;

@compute @workgroup_size(8)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let own = (group.y * groups.x + group.x) * 8u + lane;
    // Invocations beyond the end repeat the last row, and write nothing.
    let row = min(own, params.rows - 1u);
    let quads = params.columns / 4u;
    let inverse = inverse_deviation[row];
    var sum = vec4f(0.0); // of g
    var along = vec4f(0.0); // of g · x̂
    for (var quad = 0u; quad < quads; quad++) {
        let texel = coordinates(row, quad, quads);
        let g = textureLoad(dy, texel) * textureLoad(gamma, coordinates(0u, quad, quads));
        sum += g;
        along += g * textureLoad(normalized, texel);
    }
    let mean = total(sum) / f32(params.columns);
    let mean_along = total(along) / f32(params.columns);
    if (own < params.rows) {
        for (var quad = 0u; quad < quads; quad++) {
            let texel = coordinates(row, quad, quads);
            let g = textureLoad(dy, texel) * textureLoad(gamma, coordinates(0u, quad, quads));
            let value = (g - mean - textureLoad(normalized, texel) * mean_along) * inverse;
            dz[row * quads + quad] = Dz(value);
            if (DROPOUT) {
                let keep = dropout_factors(places[row], quad);
                dx[row * quads + quad] = Dx(select(vec4f(0.0), keep * value, keep > vec4f(0.0)));
            }
        }
    }
}
