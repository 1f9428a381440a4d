// with: activation blocked finish tiles
// C = A·B, for GPUs: tiles of A and B in workgroup memory, loads and stores of four values at a
// time. While a tile is used, each invocation holds its block of the next one in registers.
//   C [m, n] row-major;  A is [m, k], or [k, m] with TRANSPOSE_A;  B is [k, n], or [n, k] with
//   TRANSPOSE_B.  n must be a multiple of 4, and k as well (m instead of k with TRANSPOSE_A).
// In the end (shared/finish.wgsl) come `bias` [n], the activation or the slope of one at `bent`
// [m, n], and `addend` [m, n]; `before` [m, n] keeps what the activation is applied to.

struct Params { m: u32, n: u32, k: u32 }

alias A = vec4f;
alias B = vec4f;
alias Bent = vec4f;
alias Addend = vec4f;
alias Result = vec4f;
alias Before = vec4f;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<A>;
@group(0) @binding(2) var<storage, read> b: array<B>;
@group(0) @binding(3) var<storage, read> bias: array<vec4f>;
@group(0) @binding(4) var<storage, read> bent: array<Bent>;
@group(0) @binding(5) var<storage, read> addend: array<Addend>;
@group(0) @binding(6) var<storage, read_write> result: array<Result>;
@group(0) @binding(7) var<storage, read_write> before: array<Before>;

const TRANSPOSE_A: bool = false;
const TRANSPOSE_B: bool = false;

fn begin(group: vec3u, index: u32, row: u32) {}

fn arrived(block: mat4x4f, group: vec3u, row: u32, depth: u32) -> mat4x4f { return block; }

fn store_row(row: u32, column: u32, sum: vec4f) {
    if (row < params.m && column < params.n) {
        finish(row * (params.n / 4u) + column / 4u, column / 4u, sum);
    }
}

fn store_rows(index: u32, row: u32, column: u32, sums: mat4x4f) {
    store_row(row, column, sums[0]);
    if (FINISHED > 1u) { store_row(row + 1u, column, sums[1]); }
    if (FINISHED > 2u) { store_row(row + 2u, column, sums[2]); }
    if (FINISHED > 2u) { store_row(row + 3u, column, sums[3]); }
}

@compute @workgroup_size(THREADS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) index: u32) {
    compute_block(group, index);
}
