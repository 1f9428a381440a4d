// with: adamw
// One AdamW update of the rows of a parameter that have a gradient, and a note for each that it has
// come to this step. The others wait: optimizer_catch_up.wgsl.
//   gradient [rows, columns]: sums over the step's sentences;  norm [3]: norm, factor, scale;
//   ids [rows]: which row of the parameter each is;  steps: of each row of the parameter, the last
//   step that updated it;  history: as in optimizer_catch_up.wgsl.
// In mixed precision, SKIPS, a step whose gradients overflowed changes nothing: its factor is 0. The
// history says so, for the rows that wait.

struct Params { by: AdamW, rows: u32, columns: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> gradient: array<f32>;
@group(0) @binding(2) var<storage, read> norm: array<f32>;
@group(0) @binding(3) var<storage, read> ids: array<u32>;
@group(0) @binding(4) var<storage, read_write> weight: array<f32>;
@group(0) @binding(5) var<storage, read_write> first: array<f32>;
@group(0) @binding(6) var<storage, read_write> second: array<f32>;
@group(0) @binding(7) var<storage, read_write> steps: array<u32>;
@group(0) @binding(8) var<storage, read_write> history: array<vec4f>;

const HISTORY: u32 = 1024u;
const SKIPS: bool = false;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    let row = i / params.columns;
    if (row >= params.rows) { return; }
    let column = i % params.columns;
    let id = ids[row];
    // Skipped or not, the row has caught up with all steps before.
    if (column == 0u) { steps[id] = params.by.step; }
    if (SKIPS && norm[1] == 0.0) {
        if (i == 0u) { history[params.by.step % HISTORY].w = 1.0; }
        return;
    }
    let at = id * params.columns + column;
    let state = updated(vec3f(weight[at], first[at], second[at]), gradient[i] * norm[1], params.by);
    weight[at] = state.x;
    first[at] = state.y;
    second[at] = state.z;
}
