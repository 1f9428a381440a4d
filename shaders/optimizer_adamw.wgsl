// One AdamW update (Loshchilov and Hutter; the arithmetic of torch.optim.AdamW), on the way the
// factor that makes the clipped mean over a step's sentences of their summed gradient:
//   g = factor · gradient;  m = β₁ m + (1 - β₁) g;  v = β₂ v + (1 - β₂) g²
//   w = w (1 - rate · decay) - rate / (1 - β₁ᵗ) · m / (sqrt(v) / sqrt(1 - β₂ᵗ) + ε)
// All tensors have `count` elements, taken four at a time: buffers end on a multiple of 16 bytes,
// and what lies behind the last element is never read by anybody.
//   norm [2]: norm, factor.

struct Params {
    count: u32,
    learning_rate: f32,
    correction1: f32, // 1 - β₁ᵗ
    correction2: f32, // 1 - β₂ᵗ
    decay: f32,
    beta1: f32,
    beta2: f32,
    epsilon: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gradient: array<vec4f>;
@group(0) @binding(2) var<storage, read> norm: array<f32>;
@group(0) @binding(3) var<storage, read_write> weight: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> first: array<vec4f>;
@group(0) @binding(5) var<storage, read_write> second: array<vec4f>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    if (i >= (params.count + 3u) / 4u) { return; }
    let g = gradient[i] * norm[1];
    let m = first[i] + (g - first[i]) * (1.0 - params.beta1);
    let v = second[i] * params.beta2 + g * g * (1.0 - params.beta2);
    let denominator = sqrt(v) / sqrt(params.correction2) + params.epsilon;
    first[i] = m;
    second[i] = v;
    weight[i] = weight[i] * (1.0 - params.learning_rate * params.decay)
        - (params.learning_rate / params.correction1) * m / denominator;
}
