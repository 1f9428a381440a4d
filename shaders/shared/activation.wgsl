// The activation at the end of a product, and its slope.
const ACTIVATION: u32 = 0u; // 0 none, 1 GELU, 2 ReLU

// Complementary error function, relative error below 1.2e-7 everywhere (Chebyshev fit of Numerical
// Recipes, section 6.2), so that the tails of GELU keep their digits.
fn erfc(x: vec4f) -> vec4f {
    let z = abs(x);
    let t = 1.0 / (1.0 + 0.5 * z);
    let series = -1.26551223 + t * (1.00002368 + t * (0.37409196 + t * (0.09678418
        + t * (-0.18628806 + t * (0.27886807 + t * (-1.13520398 + t * (1.48851587
        + t * (-0.82215223 + t * 0.17087277))))))));
    let tail = t * exp(series - z * z);
    return select(tail, 2.0 - tail, x < vec4f(0.0));
}

fn activate(x: vec4f) -> vec4f {
    if (ACTIVATION == 1u) { return 0.5 * x * erfc(-0.70710678 * x); }
    if (ACTIVATION == 2u) { return max(x, vec4f(0.0)); }
    return x;
}

// With Φ and φ the standard normal distribution and density:
//   GELU(x) = x Φ(x),  GELU'(x) = Φ(x) + x φ(x);  ReLU'(x) = 1 for x > 0, else 0.
fn slope(x: vec4f) -> vec4f {
    if (ACTIVATION == 1u) {
        return 0.5 * erfc(-0.70710678 * x) + x * 0.39894228 * exp(-0.5 * x * x);
    }
    if (ACTIVATION == 2u) { return select(vec4f(0.0), vec4f(1.0), x > vec4f(0.0)); }
    return vec4f(1.0);
}
