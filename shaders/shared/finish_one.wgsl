// The end of a product, as shared/finish.wgsl has it, for a single sum.
const BIAS: bool = false;
const KEEP_BEFORE: bool = false; // before the activation
const BENT: bool = false; // times the slope of the activation instead of the activation
const ADD: bool = false;
const ACCUMULATE: bool = false;

fn finish_one(row: u32, column: u32, sum: f32) {
    if (row >= params.m || column >= params.n) { return; }
    let at = row * params.n + column;
    var value = sum;
    if (BIAS) { value += bias[column]; }
    if (KEEP_BEFORE) { before[at] = Before(value); }
    if (BENT) { value *= slope(vec4f(f32(bent[at]))).x; } else { value = activate(vec4f(value)).x; }
    if (ADD) { value += f32(addend[at]); }
    if (ACCUMULATE) { value += f32(result[at]); }
    result[at] = Result(value);
}
