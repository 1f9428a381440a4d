// with: activation finish_gradients matrices
// The gradients of a projection y = x·Wᵀ + bias in one launch, by cooperative matrices, for GPUs that
// have them: dx = dy·W, dW = dyᵀ·x, and dbias, the column sums of dy. Each workgroup computes a tile
// of dx or of dW; those of the first column of dW sum what they bring of dy on the way.
//   dy [rows, out];  W, dW [out, inputs];  x, dx, bent, addend [rows, inputs];  dbias [out].
//   inputs and out must be multiples of 4.

enable subgroups;
enable wgpu_cooperative_matrix;

struct Params { rows: u32, inputs: u32, out: u32 }

alias Dy = vec4f;
alias Weight = vec4f;
alias X = vec4f;
alias Bent = vec4f;
alias Addend = vec4f;
alias Dx = vec4f;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> dy: array<Dy>;
@group(0) @binding(2) var<storage, read> weight: array<Weight>;
@group(0) @binding(3) var<storage, read> x: array<X>;
@group(0) @binding(4) var<storage, read> bent: array<Bent>;
@group(0) @binding(5) var<storage, read> addend: array<Addend>;
@group(0) @binding(6) var<storage, read_write> dx: array<Dx>;
@group(0) @binding(7) var<storage, read_write> dweight: array<vec4f>;
@group(0) @binding(8) var<storage, read_write> dbias: array<vec4f>;

// A quad of the tile of dy whose corner is this [column, row]. Beyond an edge that of the edge
// stands in: sums of its row or column are stored nowhere, and `cut` takes steps away.
fn dy_quad_of_tile(quad: u32, of_weight: bool, corner: vec2u) -> vec4<Factor> {
    let place = corner + quad_in_a(quad, of_weight);
    let row = min(place.y, params.rows - 1u);
    return vec4<Factor>(dy[(row * params.out + min(place.x, params.out - 4u)) / 4u]);
}

// Likewise of the other factor: x, whose product with dy is dW, or W.
fn factor_quad_of_tile(quad: u32, of_weight: bool, corner: vec2u) -> vec4<Factor> {
    let place = corner + quad_in_b(quad, false);
    let row = min(place.y, select(params.out, params.rows, of_weight) - 1u);
    let at = (row * params.inputs + min(place.x, params.inputs - 4u)) / 4u;
    if (of_weight) { return vec4<Factor>(x[at]); }
    return vec4<Factor>(weight[at]);
}

fn bring_dy(index: u32, of_weight: bool, corner: vec2u) -> mat4x4<Factor> {
    var quads: mat4x4<Factor>;
    quads[0] = dy_quad_of_tile(index, of_weight, corner);
    if (A_QUADS > 1u) { quads[1] = dy_quad_of_tile(index + THREADS, of_weight, corner); }
    if (A_QUADS > 2u) {
        quads[2] = dy_quad_of_tile(index + 2u * THREADS, of_weight, corner);
        quads[3] = dy_quad_of_tile(index + 3u * THREADS, of_weight, corner);
    }
    return quads;
}

fn bring_factor(index: u32, of_weight: bool, corner: vec2u) -> mat4x4<Factor> {
    var quads: mat4x4<Factor>;
    quads[0] = factor_quad_of_tile(index, of_weight, corner);
    if (B_QUADS > 1u) { quads[1] = factor_quad_of_tile(index + THREADS, of_weight, corner); }
    if (B_QUADS > 2u) {
        quads[2] = factor_quad_of_tile(index + 2u * THREADS, of_weight, corner);
        quads[3] = factor_quad_of_tile(index + 3u * THREADS, of_weight, corner);
    }
    return quads;
}

// The sum of an invocation's quads, which all lie in the same columns of dy.
fn sum_of_quads(quads: mat4x4<Factor>) -> vec4f {
    var sum = vec4f(quads[0]);
    if (A_QUADS > 1u) { sum += vec4f(quads[1]); }
    if (A_QUADS > 2u) { sum += vec4f(quads[2]) + vec4f(quads[3]); }
    return sum;
}

@compute @workgroup_size(THREADS)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_id) subgroup: u32,
    @builtin(num_subgroups) subgroups: u32,
) {
    // Tiles of dx and tiles of dW lie below each other: first those of the longer sums, so that no
    // long one is begun last.
    let dx_first = params.out > params.rows;
    let of_first = select(params.out, params.rows, dx_first);
    let above = (of_first + ROWS - 1u) / ROWS;
    let is_below = group.y >= above;
    let of_weight = is_below == dx_first;
    let tile = group.y - select(0u, above, is_below);
    let sums_bias = of_weight && group.x == 0u;
    let end = select(params.out, params.rows, of_weight);

    // [column, row]. dy is [rows, out] for both: its columns are the steps of dx, and the rows of
    // dW.
    let origin = vec2u(group.x * COLUMNS, tile * ROWS);
    let dy_origin = select(vec2u(0u, origin.y), vec2u(origin.y, 0u), of_weight);
    let dy_step = select(vec2u(DEPTH, 0u), vec2u(0u, DEPTH), of_weight);
    let factor_origin = vec2u(origin.x, 0u);
    let factor_step = vec2u(0u, DEPTH);
    var bias_sum = vec4f(0.0);
    // As in `matmul_matrices`, usually once.
    for (var first = 0u; first < BLOCKS; first += subgroups) {
        let block = min(first + subgroup, BLOCKS - 1u);
        let row = block / ACROSS * BLOCK_ROWS;
        let column = block % ACROSS * BLOCK_COLUMNS;
        clear_sums();
        var next_dy = bring_dy(index, of_weight, dy_origin);
        var next_factor = bring_factor(index, of_weight, factor_origin);
        for (var depth = 0u; depth < end; depth += DEPTH) {
            workgroupBarrier();
            let quads = cut(index, of_weight, end - depth, next_dy);
            if (sums_bias && first == 0u) { bias_sum += sum_of_quads(quads); }
            put_into_a(index, of_weight, quads);
            put_into_b(index, false, next_factor);
            workgroupBarrier();
            if (depth + DEPTH < end) {
                let tiles_ahead = depth / DEPTH + 1u;
                next_dy = bring_dy(index, of_weight, dy_origin + tiles_ahead * dy_step);
                next_factor = bring_factor(index, of_weight,
                    factor_origin + tiles_ahead * factor_step);
            }
            for (var step = 0u; step < DEPTH; step += EDGE) {
                if (of_weight) { take_transposed(row, step); } else { take(row, step); }
                multiply_by(step, column);
            }
        }
        let last = min(first + subgroups, BLOCKS) * (MATRIX / 4u);
        for (var matrix = 0u; matrix < MATRICES; matrix++) {
            stage(first + subgroup, matrix);
            for (var quad = first * (MATRIX / 4u) + index; quad < last; quad += THREADS) {
                let place = origin + staged_place(quad, matrix);
                finish_gradient(of_weight, place.y, place.x, staged_quad(quad));
            }
        }
    }
    if (sums_bias) {
        workgroupBarrier();
        staged[4u * index] = bias_sum.x;
        staged[4u * index + 1u] = bias_sum.y;
        staged[4u * index + 2u] = bias_sum.z;
        staged[4u * index + 3u] = bias_sum.w;
        workgroupBarrier();
        let at = tile * (ROWS / 4u) + index;
        if (index < ROWS / 4u && at < params.out / 4u) {
            var total = vec4f(0.0);
            for (var part = index; part < THREADS; part += ROWS / 4u) {
                total += staged_quad(part);
            }
            if (ACCUMULATE) { total += dbias[at]; }
            dbias[at] = total;
        }
    }
}
