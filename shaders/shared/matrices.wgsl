// The product of two factors by cooperative matrices: tiles of the factors lie in workgroup memory,
// and each subgroup adds products of EDGE × EDGE matrices to sums in its registers.
alias Factor = f32; // what is multiplied: f32 or f16
alias MatrixA = coop_mat16x16<Factor, A>;
alias MatrixB = coop_mat16x16<Factor, B>;
alias MatrixC = coop_mat16x16<f32, C>;
const EDGE: u32 = 16u; // 8 or 16
const DOWN: u32 = 2u; // blocks of the result per workgroup, each of them the work of a subgroup
const ACROSS: u32 = 2u;
const TALL: bool = false; // whether a block is 4 × 2 matrices, or 2 × 2
const THREADS: u32 = 128u; // as many as DOWN · ACROSS subgroups have
const DEPTH: u32 = 32u; // steps along k per tile, a multiple of EDGE
const PAD: u32 = 4u; // 16 bytes behind each line of a tile, so that lines begin in other banks

const MATRIX: u32 = EDGE * EDGE;
const MATRICES: u32 = select(4u, 8u, TALL); // of a block
const BLOCKS: u32 = DOWN * ACROSS;
const BLOCK_ROWS: u32 = MATRICES / 2u * EDGE;
const BLOCK_COLUMNS: u32 = 2u * EDGE;
const ROWS: u32 = DOWN * BLOCK_ROWS;
const COLUMNS: u32 = ACROSS * BLOCK_COLUMNS;

// Tiles lie here as their factors lie in memory: that of A is [ROWS, DEPTH], or transposed [DEPTH,
// ROWS], and that of B behind it [DEPTH, COLUMNS], or transposed [COLUMNS, DEPTH]. They are made of
// single values, because Metal loads matrices from nothing else.
const OF_B: u32 = max(ROWS * (DEPTH + PAD), DEPTH * (ROWS + PAD));
const OF_BOTH: u32 = OF_B + max(COLUMNS * (DEPTH + PAD), DEPTH * (COLUMNS + PAD));
var<workgroup> tiles: array<Factor, OF_BOTH>;

// In the end one matrix of sums of each block, and a place for those that are of none.
var<workgroup> staged: array<f32, max((BLOCKS + 1u) * MATRIX, 4u * THREADS)>;

// By matrix down and matrix across.
var<private> sum_00: MatrixC;
var<private> sum_01: MatrixC;
var<private> sum_10: MatrixC;
var<private> sum_11: MatrixC;
var<private> sum_20: MatrixC;
var<private> sum_21: MatrixC;
var<private> sum_30: MatrixC;
var<private> sum_31: MatrixC;

// Of the tile of A, by matrix down.
var<private> a_0: MatrixA;
var<private> a_1: MatrixA;
var<private> a_2: MatrixA;
var<private> a_3: MatrixA;

fn clear_sums() {
    sum_00 = MatrixC();
    sum_01 = MatrixC();
    sum_10 = MatrixC();
    sum_11 = MatrixC();
    sum_20 = MatrixC();
    sum_21 = MatrixC();
    sum_30 = MatrixC();
    sum_31 = MatrixC();
}

// Takes matrices of A, from this row and this step on.
fn take(row: u32, step: u32) {
    let stride = DEPTH + PAD;
    let at = row * stride + step;
    a_0 = coopLoadT<MatrixA>(&tiles[at], stride);
    a_1 = coopLoadT<MatrixA>(&tiles[at + EDGE * stride], stride);
    if (TALL) {
        a_2 = coopLoadT<MatrixA>(&tiles[at + 2u * EDGE * stride], stride);
        a_3 = coopLoadT<MatrixA>(&tiles[at + 3u * EDGE * stride], stride);
    }
}

fn take_transposed(row: u32, step: u32) {
    let stride = ROWS + PAD;
    let at = step * stride + row;
    a_0 = coopLoad<MatrixA>(&tiles[at], stride);
    a_1 = coopLoad<MatrixA>(&tiles[at + EDGE], stride);
    if (TALL) {
        a_2 = coopLoad<MatrixA>(&tiles[at + 2u * EDGE], stride);
        a_3 = coopLoad<MatrixA>(&tiles[at + 3u * EDGE], stride);
    }
}

// Adds their products with matrices of B, from this step and this column on.
fn multiply_by(step: u32, column: u32) {
    let stride = COLUMNS + PAD;
    let at = OF_B + step * stride + column;
    add_products_with(coopLoadT<MatrixB>(&tiles[at], stride),
        coopLoadT<MatrixB>(&tiles[at + EDGE], stride));
}

fn multiply_by_transposed(step: u32, column: u32) {
    let stride = DEPTH + PAD;
    let at = OF_B + column * stride + step;
    add_products_with(coopLoad<MatrixB>(&tiles[at], stride),
        coopLoad<MatrixB>(&tiles[at + EDGE * stride], stride));
}

fn add_products_with(b_0: MatrixB, b_1: MatrixB) {
    sum_00 = coopMultiplyAdd(a_0, b_0, sum_00);
    sum_01 = coopMultiplyAdd(a_0, b_1, sum_01);
    sum_10 = coopMultiplyAdd(a_1, b_0, sum_10);
    sum_11 = coopMultiplyAdd(a_1, b_1, sum_11);
    if (TALL) {
        sum_20 = coopMultiplyAdd(a_2, b_0, sum_20);
        sum_21 = coopMultiplyAdd(a_2, b_1, sum_21);
        sum_30 = coopMultiplyAdd(a_3, b_0, sum_30);
        sum_31 = coopMultiplyAdd(a_3, b_1, sum_31);
    }
}

// An invocation brings so many quads of neighbours of each tile, 1, 2 or 4: the one of its own
// number, and THREADS further on the next.
const A_QUADS: u32 = ROWS * DEPTH / 4u / THREADS;
const B_QUADS: u32 = COLUMNS * DEPTH / 4u / THREADS;

// Where a quad lies in the tile of A: [along its line, line].
fn quad_in_a(quad: u32, transposed: bool) -> vec2u {
    let width = select(DEPTH, ROWS, transposed) / 4u;
    return vec2u(4u * (quad % width), quad / width);
}

fn quad_in_b(quad: u32, transposed: bool) -> vec2u {
    let width = select(COLUMNS, DEPTH, transposed) / 4u;
    return vec2u(4u * (quad % width), quad / width);
}

// Quads of A, with zeros where no step is left. Zeros of one factor are enough.
fn cut(index: u32, transposed: bool, left: u32, quads: mat4x4<Factor>) -> mat4x4<Factor> {
    return mat4x4<Factor>(
        cut_quad(index, transposed, left, quads[0]),
        cut_quad(index + THREADS, transposed, left, quads[1]),
        cut_quad(index + 2u * THREADS, transposed, left, quads[2]),
        cut_quad(index + 3u * THREADS, transposed, left, quads[3]),
    );
}

fn cut_quad(quad: u32, transposed: bool, left: u32, value: vec4<Factor>) -> vec4<Factor> {
    let place = quad_in_a(quad, transposed);
    return select(vec4<Factor>(), value, select(place.x, place.y, transposed) < left);
}

fn put_into_a(index: u32, transposed: bool, quads: mat4x4<Factor>) {
    let stride = select(DEPTH, ROWS, transposed) + PAD;
    put(quad_in_a(index, transposed), stride, 0u, quads[0]);
    if (A_QUADS > 1u) { put(quad_in_a(index + THREADS, transposed), stride, 0u, quads[1]); }
    if (A_QUADS > 2u) {
        put(quad_in_a(index + 2u * THREADS, transposed), stride, 0u, quads[2]);
        put(quad_in_a(index + 3u * THREADS, transposed), stride, 0u, quads[3]);
    }
}

fn put_into_b(index: u32, transposed: bool, quads: mat4x4<Factor>) {
    let stride = select(COLUMNS, DEPTH, transposed) + PAD;
    put(quad_in_b(index, transposed), stride, OF_B, quads[0]);
    if (B_QUADS > 1u) { put(quad_in_b(index + THREADS, transposed), stride, OF_B, quads[1]); }
    if (B_QUADS > 2u) {
        put(quad_in_b(index + 2u * THREADS, transposed), stride, OF_B, quads[2]);
        put(quad_in_b(index + 3u * THREADS, transposed), stride, OF_B, quads[3]);
    }
}

fn put(place: vec2u, stride: u32, tile: u32, value: vec4<Factor>) {
    let at = tile + place.y * stride + place.x;
    tiles[at] = value.x;
    tiles[at + 1u] = value.y;
    tiles[at + 2u] = value.z;
    tiles[at + 3u] = value.w;
}

// Lays one matrix of sums of a block into workgroup memory.
fn stage(block: u32, matrix: u32) {
    // What a store is given has to be there already: naga takes no expressions.
    let at = &staged[min(block, BLOCKS) * MATRIX];
    let stride = EDGE;
    workgroupBarrier();
    switch (matrix) {
        case 0u: { let sum = sum_00; coopStoreT(sum, at, stride); }
        case 1u: { let sum = sum_01; coopStoreT(sum, at, stride); }
        case 2u: { let sum = sum_10; coopStoreT(sum, at, stride); }
        case 3u: { let sum = sum_11; coopStoreT(sum, at, stride); }
        case 4u: { let sum = sum_20; coopStoreT(sum, at, stride); }
        case 5u: { let sum = sum_21; coopStoreT(sum, at, stride); }
        case 6u: { let sum = sum_30; coopStoreT(sum, at, stride); }
        default: { let sum = sum_31; coopStoreT(sum, at, stride); }
    }
    workgroupBarrier();
}

// A quad of what is staged.
fn staged_quad(quad: u32) -> vec4f {
    let at = 4u * quad;
    return vec4f(staged[at], staged[at + 1u], staged[at + 2u], staged[at + 3u]);
}

// Where it belongs in the workgroup's part of the result, [column, row].
fn staged_place(quad: u32, matrix: u32) -> vec2u {
    let block = quad / (MATRIX / 4u);
    let within = quad % (MATRIX / 4u);
    return vec2u(block % ACROSS * BLOCK_COLUMNS, block / ACROSS * BLOCK_ROWS)
        + EDGE * vec2u(matrix % 2u, matrix / 2u)
        + vec2u(4u * (within % (EDGE / 4u)), within / (EDGE / 4u));
}
