// The sum of each column, for CPU adapters: y [columns] from x [rows, columns], as texels; the gradient of a
// bias. An invocation takes four columns and all rows, in order. columns is a multiple of 4.

struct Params { rows: u32, columns: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var x: texture_storage_2d<rgba32float, read>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4f>;

const WIDTH: u32 = 2048u; // texels in a row of a texture

fn load(texel: u32) -> vec4f { return textureLoad(x, vec2u(texel % WIDTH, texel / WIDTH)); }

@compute @workgroup_size(8)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    let quads = params.columns / 4u;
    let quad = min(group.x * 8u + lane, quads - 1u);
    // Two sums, so that an addition need not wait for the one before.
    var even = vec4f(0.0);
    var odd = vec4f(0.0);
    for (var row = 0u; row < params.rows; row += 2u) {
        even += load(row * quads + quad);
        if (row + 1u < params.rows) { odd += load((row + 1u) * quads + quad); }
    }
    if (group.x * 8u + lane < quads) { y[quad] = even + odd; }
}
