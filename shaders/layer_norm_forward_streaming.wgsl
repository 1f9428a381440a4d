// with: dropout random texels total
// LayerNorm of a sum, for CPU adapters: with z = dropout(x) + residual, y = (z - mean) /
// sqrt(variance + ε) · gamma + beta over each row (biased variance). Keeps the normalized rows and
// 1 / sqrt(variance + ε) for backward.
//   x, residual [rows, columns], gamma, beta [columns], as texels;  y, normalized [rows, columns];
//   inverse_deviation [rows];  places [rows]: sequence << 16 | position, by which dropout tells
//   rows apart.
// An invocation takes a row, so that nothing passes between invocations: a software driver pays for
// a barrier with a switch of coroutines. columns is a multiple of 4. Without DROPOUT, or RESIDUAL,
// that part is left out.

struct Params {
    rows: u32, columns: u32,
    epsilon: f32,
    seed: u32, seed_high: u32, step: u32, site: u32,
    probability: f32, // of dropping an element
}

alias Y = vec4f;
alias Normalized = vec4f;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var x: texture_storage_2d<rgba32float, read>;
@group(0) @binding(2) var residual: texture_storage_2d<rgba32float, read>;
@group(0) @binding(3) var gamma: texture_storage_2d<rgba32float, read>;
@group(0) @binding(4) var beta: texture_storage_2d<rgba32float, read>;
@group(0) @binding(5) var<storage, read> places: array<u32>;
@group(0) @binding(6) var<storage, read_write> y: array<Y>;
@group(0) @binding(7) var<storage, read_write> normalized: array<Normalized>;
@group(0) @binding(8) var<storage, read_write> inverse_deviation: array<f32>;

const RESIDUAL: bool = true;
const DROPOUT: bool = false;

// Four columns of what is normalized.
fn load(row: u32, quad: u32) -> vec4f {
    let texel = coordinates(row, quad, params.columns / 4u);
    var z = textureLoad(x, texel);
    if (DROPOUT) {
        let keep = dropout_factors(places[row], quad);
        z = select(vec4f(0.0), keep * z, keep > vec4f(0.0));
    }
    if (RESIDUAL) { z += textureLoad(residual, texel); }
    return z;
}

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
    let count = f32(params.columns);
    var sum = vec4f(0.0);
    for (var quad = 0u; quad < quads; quad++) { sum += load(row, quad); }
    let mean = total(sum) / count;
    // The variance around the mean itself: sums of squares would cancel where the mean is large.
    sum = vec4f(0.0);
    for (var quad = 0u; quad < quads; quad++) {
        let centred = load(row, quad) - mean;
        sum += centred * centred;
    }
    let inverse = inverseSqrt(total(sum) / count + params.epsilon);
    if (own < params.rows) {
        for (var quad = 0u; quad < quads; quad++) {
            let value = (load(row, quad) - mean) * inverse;
            normalized[row * quads + quad] = Normalized(value);
            y[row * quads + quad] =
                Y(value * textureLoad(gamma, coordinates(0u, quad, quads))
                + textureLoad(beta, coordinates(0u, quad, quads)));
        }
        inverse_deviation[row] = inverse;
    }
}
