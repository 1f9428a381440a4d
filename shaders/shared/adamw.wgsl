// What an update knows: its step t, and what holds for the whole run.
struct AdamW {
    step: u32,
    learning_rate: f32,
    correction1: f32, // 1 - β₁ᵗ
    correction2: f32, // 1 - β₂ᵗ
    decay: f32,
    beta1: f32,
    beta2: f32,
    epsilon: f32,
}

// A weight and its two moments after the update by the gradient g (Loshchilov and Hutter; the
// arithmetic of torch.optim.AdamW):
//   m = β₁ m + (1 - β₁) g;  v = β₂ v + (1 - β₂) g²
//   w = w (1 - rate · decay) - rate / (1 - β₁ᵗ) · m / (sqrt(v) / sqrt(1 - β₂ᵗ) + ε)
// Rows without a gradient are updated later, several steps at a time, and must come to the same
// bits: no compiler is left to choose whether to contract a product and a sum.
fn updated(state: vec3f, g: f32, by: AdamW) -> vec3f {
    let m = fma(g - state.y, 1.0 - by.beta1, state.y);
    let v = fma(g * g, 1.0 - by.beta2, state.z * by.beta2);
    let denominator = sqrt(v) / sqrt(by.correction2) + by.epsilon;
    let change = (by.learning_rate / by.correction1) * m / denominator;
    return vec3f(fma(state.x, fma(-by.learning_rate, by.decay, 1.0), -change), m, v);
}
