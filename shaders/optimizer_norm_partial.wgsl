// with: total
// Sums of squares of one gradient, a part each workgroup, for the global norm.
//   gradient [count];  partials: parts of all gradients one behind another, this one's
//   from `first` on.

struct Params { count: u32, first: u32, workgroups: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gradient: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> partials: array<f32>;

var<workgroup> partial: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    var sum = vec4f(0.0);
    let whole = params.count / 4u;
    let stride = params.workgroups * 64u;
    for (var i = group.x * 64u + lane; i < whole; i += stride) {
        let value = gradient[i];
        sum += value * value;
    }
    // What lies behind the last element is nobody's.
    if (group.x == 0u && lane == 0u) {
        for (var j = 0u; j < params.count % 4u; j++) {
            let value = gradient[whole][j];
            sum[j] += value * value;
        }
    }
    partial[lane] = total(sum);
    workgroupBarrier();
    for (var width = 32u; width > 0u; width /= 2u) {
        if (lane < width) { partial[lane] += partial[lane + width]; }
        workgroupBarrier();
    }
    if (lane == 0u) { partials[params.first + group.x] = partial[0]; }
}
