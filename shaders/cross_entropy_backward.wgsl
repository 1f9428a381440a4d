// Gradient of the summed softmax cross-entropy: dlogits = scale · (softmax(logits) - onehot(label)).
// The scale is that of mixed precision, SCALED, else 1.
//   logits, dlogits [sequences, classes];  labels [sequences];  loss_scale: the scale comes first.

struct Params { sequences: u32, classes: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> labels: array<u32>;
@group(0) @binding(3) var<storage, read> loss_scale: array<f32>;
@group(0) @binding(4) var<storage, read_write> dlogits: array<f32>;

const SCALED: bool = false;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let sequence = (group.y * groups.x + group.x) * 64u + lane;
    if (sequence >= params.sequences) { return; }
    let origin = sequence * params.classes;
    var largest = logits[origin];
    for (var i = 1u; i < params.classes; i++) { largest = max(largest, logits[origin + i]); }
    var sum = 0.0;
    for (var i = 0u; i < params.classes; i++) { sum += exp(logits[origin + i] - largest); }
    for (var i = 0u; i < params.classes; i++) {
        let probability = exp(logits[origin + i] - largest) / sum;
        let truth = select(0.0, 1.0, i == labels[sequence]);
        var gradient = probability - truth;
        if (SCALED) { gradient *= loss_scale[0]; }
        dlogits[origin + i] = gradient;
    }
}
