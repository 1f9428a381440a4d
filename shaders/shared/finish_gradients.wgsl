// The end of the gradients of a projection: what becomes of four neighbouring sums of a row of dx,
// or of dW.
const BENT: bool = false; // dx times the slope of an activation
const ADD: bool = false;
const ACCUMULATE: bool = false;

fn finish_gradient(of_weight: bool, row: u32, column: u32, sum: vec4f) {
    if (row >= select(params.rows, params.out, of_weight) || column >= params.inputs) { return; }
    let at = (row * params.inputs + column) / 4u;
    var value = sum;
    if (of_weight) {
        if (ACCUMULATE) { value += dweight[at]; }
        dweight[at] = value;
    } else {
        if (BENT) { value *= slope(vec4f(bent[at])); }
        if (ADD) { value += vec4f(addend[at]); }
        dx[at] = Dx(value);
    }
}
