// Sums over a row that 64 invocations of a workgroup of 256 share, four rows at a time.
const ROW_LANES: u32 = 64u;
const ROWS_AT_ONCE: u32 = 4u;

var<workgroup> row_parts: array<vec2f, 256>;
var<workgroup> row_octets: array<vec2f, 32>;

// The sum of `value` over the row of this invocation, in a fixed order. All invocations of the
// workgroup call it.
fn row_sum(value: vec2f, index: u32) -> vec2f {
    // What was summed before has been read.
    workgroupBarrier();
    row_parts[index] = value;
    workgroupBarrier();
    if (index % 8u == 0u) {
        var sum = row_parts[index];
        for (var j = 1u; j < 8u; j++) { sum += row_parts[index + j]; }
        row_octets[index / 8u] = sum;
    }
    workgroupBarrier();
    let first = index / ROW_LANES * 8u;
    var sum = row_octets[first];
    for (var j = 1u; j < 8u; j++) { sum += row_octets[first + j]; }
    return sum;
}
