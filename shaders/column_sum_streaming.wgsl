// with: texels
// The sum of each column, for CPU adapters: y [columns] from x [rows, columns], as texels; the
// gradient of a bias. An invocation takes four columns and all rows, in order. columns is a
// multiple of 4.

struct Params { rows: u32, columns: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var x: texture_storage_2d<rgba32float, read>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4f>;

const ACCUMULATE: bool = false; // adds to what is there

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let quads = params.columns / 4u;
    let quad = min(group.x * 8u + lane, quads - 1u);
    // Two sums, so that an addition need not wait for the one before.
    var even = vec4f(0.0);
    var odd = vec4f(0.0);
    for (var row = 0u; row < params.rows; row += 2u) {
        even += textureLoad(x, coordinates(row, quad, quads));
        if (row + 1u < params.rows) {
            odd += textureLoad(x, coordinates(row + 1u, quad, quads));
        }
    }
    var total = even + odd;
    if (group.x * 8u + lane < quads) {
        if (ACCUMULATE) { total += y[quad]; }
        y[quad] = total;
    }
}
