// Summed softmax cross-entropy: loss = Σ over sequences of (log Σ exp(logits) - logits[label]).
//   logits [sequences, classes];  labels [sequences];  loss [1].
// One workgroup for all: classes are few and sequences thousands at most. The order is fixed.

struct Params { sequences: u32, classes: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> labels: array<u32>;
@group(0) @binding(3) var<storage, read_write> loss: array<f32>;

var<workgroup> partial: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) lane: u32) {
    var sum = 0.0;
    for (var sequence = lane; sequence < params.sequences; sequence += 64u) {
        let origin = sequence * params.classes;
        var largest = logits[origin];
        for (var i = 1u; i < params.classes; i++) { largest = max(largest, logits[origin + i]); }
        var scale = 0.0;
        for (var i = 0u; i < params.classes; i++) { scale += exp(logits[origin + i] - largest); }
        sum += log(scale) + largest - logits[origin + labels[sequence]];
    }
    partial[lane] = sum;
    workgroupBarrier();
    for (var width = 32u; width > 0u; width /= 2u) {
        if (lane < width) { partial[lane] += partial[lane + width]; }
        workgroupBarrier();
    }
    if (lane == 0u) { loss[0] = partial[0]; }
}
