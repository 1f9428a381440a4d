// The end of a product: what becomes of four neighbouring sums of a row. `at` is their place in the
// result, `column` that in a row, both in vec4.
const BIAS: bool = false;
const KEEP_BEFORE: bool = false; // before the activation
const BENT: bool = false; // times the slope of the activation instead of the activation
const ADD: bool = false;
const ACCUMULATE: bool = false;

fn finish(at: u32, column: u32, sum: vec4f) {
    var value = sum;
    if (BIAS) { value += bias[column]; }
    if (KEEP_BEFORE) { before[at] = Before(value); }
    if (BENT) { value *= slope(vec4f(bent[at])); } else { value = activate(value); }
    if (ADD) { value += vec4f(addend[at]); }
    if (ACCUMULATE) { value += vec4f(result[at]); }
    result[at] = Result(value);
}
