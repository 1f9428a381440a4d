// with: activation
// The gradients of a projection y = x·Wᵀ + bias of few columns, such as the last of a classifier,
// for which tiles would be nearly empty: dW = dyᵀ·x, dbias, the column sums of dy, and dx = dy·W,
// in this order, one element an invocation. Takes any size.
//   dy [rows, out];  W, dW [out, inputs];  x, dx, bent, addend [rows, inputs];  dbias [out].
// In the end dx is multiplied with the slope of an activation at `bent`, and `addend` is added; dW
// and dbias may be added to what is there.

struct Params { rows: u32, inputs: u32, out: u32 }

alias Dy = f32;
alias Weight = f32;
alias X = f32;
alias Bent = f32;
alias Addend = f32;
alias Dx = f32;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> dy: array<Dy>;
@group(0) @binding(2) var<storage, read> weight: array<Weight>;
@group(0) @binding(3) var<storage, read> x: array<X>;
@group(0) @binding(4) var<storage, read> bent: array<Bent>;
@group(0) @binding(5) var<storage, read> addend: array<Addend>;
@group(0) @binding(6) var<storage, read_write> dx: array<Dx>;
@group(0) @binding(7) var<storage, read_write> dweight: array<f32>;
@group(0) @binding(8) var<storage, read_write> dbias: array<f32>;

const BENT: bool = false;
const ADD: bool = false;
const ACCUMULATE: bool = false;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let element = (group.y * groups.x + group.x) * 64u + lane;
    let of_weight = params.out * params.inputs;
    let before_dx = of_weight + params.out;
    var sum = 0.0;
    if (element < of_weight) {
        let output = element / params.inputs;
        let input = element % params.inputs;
        for (var row = 0u; row < params.rows; row++) {
            sum = fma(f32(dy[row * params.out + output]), f32(x[row * params.inputs + input]), sum);
        }
        if (ACCUMULATE) { sum += dweight[element]; }
        dweight[element] = sum;
    } else if (element < before_dx) {
        let column = element - of_weight;
        for (var row = 0u; row < params.rows; row++) { sum += f32(dy[row * params.out + column]); }
        if (ACCUMULATE) { sum += dbias[column]; }
        dbias[column] = sum;
    } else if (element < before_dx + params.rows * params.inputs) {
        let at = element - before_dx;
        let row = at / params.inputs;
        let column = at % params.inputs;
        for (var i = 0u; i < params.out; i++) {
            sum = fma(f32(dy[row * params.out + i]), f32(weight[i * params.inputs + column]), sum);
        }
        if (BENT) { sum *= slope(vec4f(f32(bent[at]))).x; }
        if (ADD) { sum += f32(addend[at]); }
        dx[at] = Dx(sum);
    }
}
