// with: adamw
// Brings rows of a parameter up to date: the updates by a zero gradient that they have missed,
// those of the steps after `steps` of the row, or after `settled` if that is later, up to `until`.
// The arithmetic is that of the other updates, so the bits are as if none had been missed.
//   ids [rows]: which rows of the parameter, if LISTED; otherwise all of them;
//   steps: of each row of the parameter, the last step that updated it;
//   history [HISTORY]: learning rate, 1 - β₁ᵗ and 1 - β₂ᵗ of the last steps, step t in t % HISTORY,
//   and 1 where the step was skipped, 0 where not.
// Before a step it also notes that step's own in the history.

struct Params { by: AdamW, rows: u32, columns: u32, settled: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> ids: array<u32>;
@group(0) @binding(2) var<storage, read> steps: array<u32>;
@group(0) @binding(3) var<storage, read_write> history: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> weight: array<f32>;
@group(0) @binding(5) var<storage, read_write> first: array<f32>;
@group(0) @binding(6) var<storage, read_write> second: array<f32>;

const LISTED: bool = true;
const HISTORY: u32 = 1024u;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = (group.y * groups.x + group.x) * 64u + lane;
    var until = params.by.step;
    if (LISTED) {
        // The step's own update follows, with its gradient.
        until -= 1u;
        if (i == 0u) {
            let now = params.by;
            let entry = vec4f(now.learning_rate, now.correction1, now.correction2, 0.0);
            history[now.step % HISTORY] = entry;
        }
    }
    var row = i / params.columns;
    if (row >= params.rows) { return; }
    let column = i % params.columns;
    if (LISTED) { row = ids[row]; }
    let after = max(steps[row], params.settled);
    if (after >= until) { return; }
    let at = row * params.columns + column;
    var state = vec3f(weight[at], first[at], second[at]);
    var by = params.by;
    for (var step = after + 1u; step <= until; step++) {
        let entry = history[step % HISTORY];
        if (entry.w != 0.0) { continue; }
        by.learning_rate = entry.x;
        by.correction1 = entry.y;
        by.correction2 = entry.z;
        state = updated(state, 0.0, by);
    }
    weight[at] = state.x;
    first[at] = state.y;
    second[at] = state.z;
}
