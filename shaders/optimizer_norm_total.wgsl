// The norm of the mean gradient of a step's sentences, of which the partial sums of squares are
// given of the sum, and the factor that makes the clipped mean of the sum, as torch's
// clip_grad_norm_ clips:
//   norm = sqrt(Σ partials) / sentences;
//   factor = min(1, limit / (norm + 1e-6)) / sentences, 1 / sentences where limit is 0 (no clip).
//   partials [count];  result [2]: norm, factor.

struct Params { count: u32, limit: f32, sentences: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> partials: array<f32>;
@group(0) @binding(2) var<storage, read_write> result: array<f32>;

var<workgroup> partial: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) lane: u32) {
    var sum = 0.0;
    for (var i = lane; i < params.count; i += 64u) { sum += partials[i]; }
    partial[lane] = sum;
    workgroupBarrier();
    for (var width = 32u; width > 0u; width /= 2u) {
        if (lane < width) { partial[lane] += partial[lane + width]; }
        workgroupBarrier();
    }
    if (lane == 0u) {
        let norm = sqrt(partial[0]) / f32(params.sentences);
        let clip = select(1.0, min(1.0, params.limit / (norm + 1e-6)), params.limit > 0.0);
        result[0] = norm;
        result[1] = clip / f32(params.sentences);
    }
}
