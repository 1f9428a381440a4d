// The sum of each column: y [columns] from x [rows, columns]; the gradient of a bias. A workgroup
// takes 8 columns and splits the rows among 8 invocations; the order of summation is fixed.

struct Params { rows: u32, columns: u32 }

alias X = f32;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<X>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

var<workgroup> partial: array<f32, 64>;

const ACCUMULATE: bool = false; // adds to what is there

@compute @workgroup_size(8, 8)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_id) lane: vec3u) {
    let column = group.x * 8u + lane.x;
    var sum = 0.0;
    if (column < params.columns) {
        for (var row = lane.y; row < params.rows; row += 8u) {
            sum += f32(x[row * params.columns + column]);
        }
    }
    partial[lane.y * 8u + lane.x] = sum;
    workgroupBarrier();
    if (lane.y == 0u && column < params.columns) {
        var total = 0.0;
        for (var i = 0u; i < 8u; i++) { total += partial[i * 8u + lane.x]; }
        if (ACCUMULATE) { total += y[column]; }
        y[column] = total;
    }
}
