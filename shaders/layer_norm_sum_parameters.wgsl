// Gradients of scale and shift of several LayerNorms, from the parts that
// layer_norm_backward_registers.wgsl has left: dgamma = Σ dy · x̂ and dbeta = Σ dy over the rows.
//   parts [norms, PARTS, 2, columns];  gradient: those of all parameters of the group, in which
//   `places`, two a vec4, say where dgamma and dbeta of each norm begin.
// An invocation sums one column of one of them; the order is fixed.

struct Params { norms: u32, columns: u32, first: u32, unused: u32, places: array<vec4u, 14> }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> parts: array<f32>;
@group(0) @binding(2) var<storage, read_write> gradient: array<f32>;

const PARTS: u32 = 128u; // workgroups that have left parts

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    let pair = 2u * params.columns;
    let norm = i / pair;
    if (norm >= params.norms) { return; }
    let column = i % pair;
    let start = (params.first + norm) * PARTS * pair + column;
    var sum = 0.0;
    for (var part = 0u; part < PARTS; part++) { sum += parts[start + part * pair]; }
    let places = params.places[norm / 2u];
    let place = select(places.xy, places.zw, norm % 2u == 1u);
    if (column < params.columns) {
        gradient[place.x + column] = sum;
    } else {
        gradient[place.y + column - params.columns] = sum;
    }
}
