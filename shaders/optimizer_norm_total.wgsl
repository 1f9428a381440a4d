// The norm of the mean gradient of a step's sentences, of which the partial sums of squares are
// given of the sum, and the factor that makes the clipped mean of the sum, as torch's
// clip_grad_norm_ clips:
//   norm = sqrt(Σ partials) / divisor, and divisor = sentences · scale;
//   factor = min(1, limit / (norm + 1e-6)) / divisor, 1 / divisor where limit is 0 (no clip).
//   partials [count];  result [3]: norm, factor, scale.
// The scale is that of the loss in mixed precision, SCALED, else 1. Where gradients overflowed, norm
// and factor are 0: the step is skipped, and the scale is halved. After PATIENCE steps without it is
// doubled.
//   loss_scale [4]: the scale, steps since it changed, steps skipped so far, and nothing.

struct Params { count: u32, limit: f32, sentences: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> partials: array<f32>;
@group(0) @binding(2) var<storage, read_write> result: array<f32>;
@group(0) @binding(3) var<storage, read_write> loss_scale: array<f32>;

const SCALED: bool = false;
const PATIENCE: f32 = 2000.0;
const LARGEST: f32 = 16777216.0;

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
    if (lane != 0u) { return; }
    var scale = 1.0;
    if (SCALED) {
        scale = loss_scale[0];
        // Infinite or no number. By its bits: a compiler may take for granted that there is none.
        if ((bitcast<u32>(partial[0]) & 0x7f800000u) == 0x7f800000u) {
            loss_scale[0] = max(1.0, 0.5 * scale);
            loss_scale[1] = 0.0;
            loss_scale[2] += 1.0;
            result[0] = 0.0;
            result[1] = 0.0;
            result[2] = scale;
            return;
        }
        let good = loss_scale[1] + 1.0;
        let grows = good >= PATIENCE;
        loss_scale[0] = select(scale, min(LARGEST, 2.0 * scale), grows);
        loss_scale[1] = select(good, 0.0, grows);
    }
    let divisor = f32(params.sentences) * scale;
    let norm = sqrt(partial[0]) / divisor;
    let clip = select(1.0, min(1.0, params.limit / (norm + 1e-6)), params.limit > 0.0);
    result[0] = norm;
    result[1] = clip / divisor;
    result[2] = scale;
}
