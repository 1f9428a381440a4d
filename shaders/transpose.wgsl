// The transpose of a matrix: y [columns, rows] from x [rows, columns]. CPU adapters turn a weight
// once before a matmul that would otherwise gather it lane by lane.

struct Params { rows: u32, columns: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;

@compute @workgroup_size(8, 8)
fn main(@builtin(global_invocation_id) at: vec3u) {
    // Consecutive invocations write consecutive addresses.
    let row = at.x;
    let column = at.y;
    if (row < params.rows && column < params.columns) {
        y[column * params.rows + row] = x[row * params.columns + column];
    }
}
