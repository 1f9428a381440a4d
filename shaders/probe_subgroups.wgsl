// What kernels for cards take for granted of subgroups, seen by each of 256 invocations of a
// workgroup: the size of its subgroup, its place there, and whose number comes to it by each of the
// exchanges that attention uses.
//   seen [256, 8]: size, place, and the numbers from across 1, 2 and 4 places, from quad place 0, 3.

enable subgroups;

struct Params { unused: u32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> seen: array<u32>;

@compute @workgroup_size(256)
fn main(
    @builtin(local_invocation_index) index: u32,
    @builtin(subgroup_size) size: u32,
    @builtin(subgroup_invocation_id) place: u32,
) {
    let at = 8u * index;
    seen[at] = size;
    seen[at + 1u] = place;
    seen[at + 2u] = quadSwapX(index);
    seen[at + 3u] = quadSwapY(index);
    seen[at + 4u] = subgroupShuffleXor(index, 4u);
    seen[at + 5u] = quadBroadcast(index, 0u);
    seen[at + 6u] = quadBroadcast(index, 3u);
    seen[at + 7u] = params.unused;
}
