// with: total
// Sums of squares of up to four gradients, a part each workgroup, for the global norm. Workgroups
// up to `ends` of a gradient share its elements.
//   a, b, c, d [counts];  partials: parts of all gradients one behind another, these from `first` on.

struct Params { counts: vec4u, ends: vec4u, first: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<vec4f>;
@group(0) @binding(2) var<storage, read> b: array<vec4f>;
@group(0) @binding(3) var<storage, read> c: array<vec4f>;
@group(0) @binding(4) var<storage, read> d: array<vec4f>;
@group(0) @binding(5) var<storage, read_write> partials: array<f32>;

// How many there are. A software driver takes every branch for each element: there it is one.
const GRADIENTS: u32 = 4u;

var<workgroup> partial: array<f32, 64>;

fn element(which: u32, i: u32) -> vec4f {
    if (GRADIENTS == 1u || which == 0u) { return a[i]; }
    if (which == 1u) { return b[i]; }
    if (which == 2u) { return c[i]; }
    return d[i];
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
    var which = 0u;
    var begin = 0u;
    var end = params.ends.x;
    var count = params.counts.x;
    if (group.x >= params.ends.z) {
        which = 3u; begin = params.ends.z; end = params.ends.w; count = params.counts.w;
    } else if (group.x >= params.ends.y) {
        which = 2u; begin = params.ends.y; end = params.ends.z; count = params.counts.z;
    } else if (group.x >= params.ends.x) {
        which = 1u; begin = params.ends.x; end = params.ends.y; count = params.counts.y;
    }
    var sum = vec4f(0.0);
    let whole = count / 4u;
    let stride = (end - begin) * 64u;
    for (var i = (group.x - begin) * 64u + lane; i < whole; i += stride) {
        let value = element(which, i);
        sum += value * value;
    }
    // What lies behind the last element is nobody's.
    let rest = count % 4u;
    if (group.x == begin && lane == 0u && rest > 0u) {
        let inside = vec4u(0u, 1u, 2u, 3u) < vec4u(rest);
        let value = select(vec4f(0.0), element(which, whole), inside);
        sum += value * value;
    }
    partial[lane] = total(sum);
    workgroupBarrier();
    for (var width = 32u; width > 0u; width /= 2u) {
        if (lane < width) { partial[lane] += partial[lane + width]; }
        workgroupBarrier();
    }
    if (lane == 0u) { partials[params.first + group.x] = partial[0]; }
}
