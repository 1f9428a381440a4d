// with: dropout random
// Dropout, and its gradient, which is the same map: y = x · mask / (1 - p). The mask is a function
// of the place of the row and of the column, so that the order of sentences in memory does not
// matter.
//   x, y [rows, columns];  places [rows]: sequence << 16 | position, or without PLACED the number
//   of the row within the whole step.

struct Params {
    rows: u32, columns: u32,
    seed: u32, seed_high: u32, step: u32, site: u32,
    probability: f32,
    first_row: u32, // number of the first row within the whole step
}

alias X = f32;
alias Y = f32;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<X>;
@group(0) @binding(2) var<storage, read> places: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<Y>;

const PLACED: bool = true;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    // One invocation takes four columns, for which one call of the generator is enough.
    let quads = (params.columns + 3u) / 4u;
    let i = (group.y * groups.x + group.x) * 64u + lane;
    let row = i / quads;
    if (row >= params.rows) { return; }
    let quad = i % quads;
    var place = params.first_row + row;
    if (PLACED) { place = places[row]; }
    let factors = dropout_factors(place, quad);
    for (var j = 0u; j < 4u; j++) {
        let column = quad * 4u + j;
        if (column < params.columns) {
            let at = row * params.columns + column;
            y[at] = Y(select(0.0, factors[j] * f32(x[at]), factors[j] > 0.0));
        }
    }
}
