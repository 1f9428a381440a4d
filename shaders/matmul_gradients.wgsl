// with: activation finish_gradients tiles
// The gradients of a projection y = x·Wᵀ + bias in one launch, for GPUs: dx = dy·W, dW = dyᵀ·x, and
// dbias, the column sums of dy. Each workgroup computes a tile of dx or of dW; those of the first
// column of dW sum what they bring of dy on the way.
//   dy [rows, out];  W, dW [out, inputs];  x, dx, bent, addend [rows, inputs];  dbias [out].
//   inputs and out must be multiples of 4.
// In the end dx is multiplied with the slope of an activation at `bent`, and `addend` is added; dW
// and dbias may be added to what is there.

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

// Four values of a row of dy. Here and below, those of the edge stand for what lies beyond it: sums
// of its rows or columns are stored nowhere, and `cut_block` takes steps away. Whatever is done to a
// value here would wait for it.
fn dy_quad(row: u32, column: u32) -> vec4f {
    let at = min(row, params.rows - 1u) * (params.out / 4u) + min(column, params.out - 4u) / 4u;
    return vec4f(dy[at]);
}

// Four rows of dy, in four columns.
fn dy_block(row: u32, column: u32) -> mat4x4f {
    return mat4x4f(dy_quad(row, column), dy_quad(row + 1u, column), dy_quad(row + 2u, column),
        dy_quad(row + 3u, column));
}

// Four rows of x or W, in four columns.
fn load_factor(of_weight: bool, row: u32, column: u32) -> mat4x4f {
    let end = select(params.out, params.rows, of_weight);
    let width = params.inputs / 4u;
    let at = min(column / 4u, width - 1u);
    let rows = min(row + vec4u(0u, 1u, 2u, 3u), vec4u(end - 1u)) * width + at;
    if (of_weight) {
        return mat4x4f(vec4f(x[rows.x]), vec4f(x[rows.y]), vec4f(x[rows.z]), vec4f(x[rows.w]));
    }
    return mat4x4f(vec4f(weight[rows.x]), vec4f(weight[rows.y]), vec4f(weight[rows.z]),
        vec4f(weight[rows.w]));
}

fn store_gradient(of_weight: bool, index: u32, row: u32, column: u32, sum: mat4x4f) {
    let whole = gather(index, sum);
    let first = row + first_finished(index);
    finish_gradient(of_weight, first, column, whole[0]);
    if (FINISHED > 1u) { finish_gradient(of_weight, first + 1u, column, whole[1]); }
    if (FINISHED > 2u) { finish_gradient(of_weight, first + 2u, column, whole[2]); }
    if (FINISHED > 2u) { finish_gradient(of_weight, first + 3u, column, whole[3]); }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) index: u32) {
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

    // The block of dy, or of the other factor, that this invocation brings of each tile. dy is
    // [rows, out] for both: its columns are the steps of dx, and the rows of dW.
    let of_dy = index < A_BLOCKS;
    let of_factor = !of_dy && index < BLOCKS;
    var quad = index / (DEPTH / 4u);
    var step = 4u * (index % (DEPTH / 4u));
    if (of_weight) {
        quad = index % (ROWS / 4u);
        step = 4u * (index / (ROWS / 4u));
    }
    if (!of_dy) {
        quad = (index - A_BLOCKS) % (COLUMNS / 4u);
        step = 4u * ((index - A_BLOCKS) / (COLUMNS / 4u));
    }
    let row = tile * ROWS + 4u * quad;
    let column = group.x * COLUMNS + 4u * quad;
    var next: mat4x4f;
    if (of_dy) {
        next = dy_block(select(row, step, of_weight), select(step, row, of_weight));
    } else if (of_factor) {
        next = load_factor(of_weight, step, column);
    }
    var bias_sum = vec4f(0.0);
    for (var depth = 0u; depth < end; depth += DEPTH) {
        workgroupBarrier();
        if (of_dy) {
            if (of_weight) {
                let block = cut_block(next, depth + step, end);
                put_a(quad, step, block);
                if (sums_bias) { bias_sum += (block[0] + block[1]) + (block[2] + block[3]); }
            } else {
                put_a(quad, step, cut_block(transpose(next), depth + step, end));
            }
        } else if (of_factor) {
            put_b(quad, step, next);
        }
        workgroupBarrier();
        if (depth + DEPTH < end) {
            let ahead = depth + DEPTH + step;
            if (of_dy) {
                next = dy_block(select(row, ahead, of_weight), select(ahead, row, of_weight));
            } else if (of_factor) {
                next = load_factor(of_weight, ahead, column);
            }
        }
        multiply(index);
    }
    if (sums_bias) {
        workgroupBarrier();
        if (of_dy) { tiles[index] = bias_sum; }
        workgroupBarrier();
        let at = tile * (ROWS / 4u) + index;
        if (index < ROWS / 4u && at < params.out / 4u) {
            var total = vec4f(0.0);
            for (var part = 0u; part < DEPTH / 4u; part++) {
                total += tiles[index + part * (ROWS / 4u)];
            }
            if (ACCUMULATE) { total += dbias[at]; }
            dbias[at] = total;
        }
        workgroupBarrier();
    }
    let down = tile * ROWS + 4u * quad_down(index);
    let across = group.x * COLUMNS + 4u * quad_across(index);
    store_gradient(of_weight, index, down, across, sum_00);
    if (WIDE) { store_gradient(of_weight, index, down, across + 4u * ACROSS, sum_01); }
    if (TALL) { store_gradient(of_weight, index, down + 4u * DOWN, across, sum_10); }
    if (TALL && WIDE) {
        store_gradient(of_weight, index, down + 4u * DOWN, across + 4u * ACROSS, sum_11);
    }
}
