// with: dropout random total row_sums
// Gradient of LayerNorm, for GPUs: with g = dy · gamma and x̂ the normalized row,
//   dz = (g - mean(g) - x̂ · mean(g · x̂)) / sqrt(variance + ε).
// dz belongs to the residual as it is, and to x too where nothing was dropped of it; else
// dx = dropout(dz). On the way each workgroup sums what its rows add to the gradients of scale and
// shift, dy · x̂ and dy; layer_norm_sum_parameters.wgsl adds the workgroups up.
//   dy, normalized, dz, dx [rows, columns];  gamma [columns];  inverse_deviation [rows];
//   places [rows]: sequence << 16 | position, by which dropout tells rows apart;
//   parts [.., 2, columns]: a pair of rows for each workgroup, the first in row `first`; without
//   LEAVE_PARTS nothing is left there.
// With EMBED, dropout struck the result: dy is dropout(dy), dz is the gradient of both embeddings,
// and places is [rows, 2]: id, and sequence << 16 | position.
// A row stays in the registers of 64 invocations; a workgroup takes each `workgroups`-th four rows.
// columns is a multiple of 4, and 256 · QUADS at most.

struct Params {
    rows: u32, columns: u32,
    first: u32, workgroups: u32,
    seed: u32, seed_high: u32, step: u32, site: u32,
    probability: f32, // of dropping an element
}

alias Dy = vec4f;
alias Normalized = vec4f;
alias Dz = vec4f;
alias Dx = vec4f;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> dy: array<Dy>;
@group(0) @binding(2) var<storage, read> normalized: array<Normalized>;
@group(0) @binding(3) var<storage, read> gamma: array<vec4f>;
@group(0) @binding(4) var<storage, read> inverse_deviation: array<f32>;
@group(0) @binding(5) var<storage, read> places: array<u32>;
@group(0) @binding(6) var<storage, read_write> dz: array<Dz>;
@group(0) @binding(7) var<storage, read_write> dx: array<Dx>;
@group(0) @binding(8) var<storage, read_write> parts: array<vec4f>;

const DROPOUT: bool = false;
const EMBED: bool = false;
const LEAVE_PARTS: bool = false;
const QUADS: u32 = 3u; // vec4 of a row in an invocation, 4 at most

var<workgroup> rows_of_parts: array<vec4f, 256>;

fn kept_quad(row: u32, quad: u32, value: vec4f) -> vec4f {
    var place = 0u;
    if (EMBED) { place = places[2u * row + 1u]; } else { place = places[row]; }
    let factors = dropout_factors(place, quad);
    return select(vec4f(0.0), factors * value, factors > vec4f(0.0));
}

// Four columns of the gradient of the result; zeros behind the end.
fn load_dy(row: u32, quad: u32) -> vec4f {
    let quads = params.columns / 4u;
    if (row >= params.rows || quad >= quads) { return vec4f(0.0); }
    let value = vec4f(dy[row * quads + quad]);
    if (EMBED && DROPOUT) { return kept_quad(row, quad, value); }
    return value;
}

fn load_normalized(row: u32, quad: u32) -> vec4f {
    let quads = params.columns / 4u;
    if (row >= params.rows || quad >= quads) { return vec4f(0.0); }
    return vec4f(normalized[row * quads + quad]);
}

fn scale_quad(quad: u32) -> vec4f {
    if (quad >= params.columns / 4u) { return vec4f(0.0); }
    return gamma[quad];
}

fn store_dz(row: u32, quad: u32, value: vec4f) {
    let quads = params.columns / 4u;
    if (row >= params.rows || quad >= quads) { return; }
    dz[row * quads + quad] = Dz(value);
    if (DROPOUT && !EMBED) { dx[row * quads + quad] = Dx(kept_quad(row, quad, value)); }
}

// The four rows of a workgroup summed, and stored in row `at` of the parts.
fn store_part(at: u32, quad: u32, value: vec4f, index: u32) {
    workgroupBarrier();
    rows_of_parts[index] = value;
    workgroupBarrier();
    let quads = params.columns / 4u;
    if (index < ROW_LANES && quad < quads) {
        let low = rows_of_parts[index] + rows_of_parts[index + 64u];
        let high = rows_of_parts[index + 128u] + rows_of_parts[index + 192u];
        parts[at * quads + quad] = low + high;
    }
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) index: u32) {
    let lane = index % ROW_LANES;
    let count = f32(params.columns);
    // What the rows add to the gradients of scale and shift.
    var scale0 = vec4f(0.0); var scale1 = vec4f(0.0);
    var scale2 = vec4f(0.0); var scale3 = vec4f(0.0);
    var shift0 = vec4f(0.0); var shift1 = vec4f(0.0);
    var shift2 = vec4f(0.0); var shift3 = vec4f(0.0);
    let stride = params.workgroups * ROWS_AT_ONCE;
    for (var start = group.x * ROWS_AT_ONCE; start < params.rows; start += stride) {
        let row = start + index / ROW_LANES;
        let d0 = load_dy(row, lane);
        let n0 = load_normalized(row, lane);
        var d1 = vec4f(0.0); var n1 = vec4f(0.0);
        var d2 = vec4f(0.0); var n2 = vec4f(0.0);
        var d3 = vec4f(0.0); var n3 = vec4f(0.0);
        if (QUADS > 1u) { d1 = load_dy(row, lane + 64u); n1 = load_normalized(row, lane + 64u); }
        if (QUADS > 2u) { d2 = load_dy(row, lane + 128u); n2 = load_normalized(row, lane + 128u); }
        if (QUADS > 3u) { d3 = load_dy(row, lane + 192u); n3 = load_normalized(row, lane + 192u); }
        scale0 += d0 * n0; shift0 += d0;
        scale1 += d1 * n1; shift1 += d1;
        scale2 += d2 * n2; shift2 += d2;
        scale3 += d3 * n3; shift3 += d3;
        let g0 = d0 * scale_quad(lane);
        let g1 = d1 * scale_quad(lane + 64u);
        let g2 = d2 * scale_quad(lane + 128u);
        let g3 = d3 * scale_quad(lane + 192u);
        let along = (g0 * n0 + g1 * n1) + (g2 * n2 + g3 * n3);
        let sums = vec2f(total((g0 + g1) + (g2 + g3)), total(along));
        let means = row_sum(sums, index) / count;
        let inverse = inverse_deviation[min(row, params.rows - 1u)];
        store_dz(row, lane, (g0 - means.x - n0 * means.y) * inverse);
        if (QUADS > 1u) { store_dz(row, lane + 64u, (g1 - means.x - n1 * means.y) * inverse); }
        if (QUADS > 2u) { store_dz(row, lane + 128u, (g2 - means.x - n2 * means.y) * inverse); }
        if (QUADS > 3u) { store_dz(row, lane + 192u, (g3 - means.x - n3 * means.y) * inverse); }
    }
    if (!LEAVE_PARTS) { return; }
    let at = params.first + 2u * group.x;
    store_part(at, lane, scale0, index);
    store_part(at + 1u, lane, shift0, index);
    if (QUADS > 1u) {
        store_part(at, lane + 64u, scale1, index);
        store_part(at + 1u, lane + 64u, shift1, index);
    }
    if (QUADS > 2u) {
        store_part(at, lane + 128u, scale2, index);
        store_part(at + 1u, lane + 128u, shift2, index);
    }
    if (QUADS > 3u) {
        store_part(at, lane + 192u, scale3, index);
        store_part(at + 1u, lane + 192u, shift3, index);
    }
}
