// with: activation finish_one
// C = A·Bᵀ of few columns, such as the last projection of a classifier, for which tiles would be
// nearly empty: a workgroup an element. Takes any size.
//   C [m, n] row-major;  A [m, k];  B [n, k].
// In the end (shared/finish_one.wgsl) come `bias` [n], the activation or the slope of one at `bent`
// [m, n], and `addend` [m, n]; `before` [m, n] keeps what the activation is applied to.

struct Params { m: u32, n: u32, k: u32 }

alias A = f32;
alias B = f32;
alias Bent = f32;
alias Addend = f32;
alias Result = f32;
alias Before = f32;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<A>;
@group(0) @binding(2) var<storage, read> b: array<B>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read> bent: array<Bent>;
@group(0) @binding(5) var<storage, read> addend: array<Addend>;
@group(0) @binding(6) var<storage, read_write> result: array<Result>;
@group(0) @binding(7) var<storage, read_write> before: array<Before>;

const LANES: u32 = 64u;

var<workgroup> partial: array<f32, LANES>;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let element = group.y * groups.x + group.x;
    let row = element / params.n;
    let column = element % params.n;
    var sum = 0.0;
    if (row < params.m) {
        for (var i = lane; i < params.k; i += LANES) {
            sum = fma(f32(a[row * params.k + i]), f32(b[column * params.k + i]), sum);
        }
    }
    partial[lane] = sum;
    workgroupBarrier();
    // Eight sums of eight, then their sum: two barriers, and a fixed order.
    if (lane < 8u) {
        var eight = 0.0;
        for (var i = 0u; i < 8u; i++) { eight += partial[lane + 8u * i]; }
        partial[lane] = eight;
    }
    workgroupBarrier();
    if (lane == 0u) {
        var total = 0.0;
        for (var i = 0u; i < 8u; i++) { total += partial[i]; }
        finish_one(row, column, total);
    }
}
