// with: block ordered scores select
// Block top-k: for each head and query block, the `keep` key blocks of its sequence with the
// highest product of mean query and mean key; among equals the lowest block wins. The selection is
// a constant: no gradient flows through it.
//   pooled [blocks, 2 · heads · HEAD_DIM]: mean query and mean key;
//   visits [heads, visit words]: for each query block a bit for each key block that is kept;
//   scores [workgroups, longest, ROWS]: room for the rows at work.
// One invocation a head and query block at a time. It goes on with others, so that the room for
// scores grows with the length of a sequence and not with its square.

struct Params {
    heads: u32, blocks: u32,
    visits: u32, // words of the visits of one head
    longest: u32, // blocks of the longest sequence that there is room for
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> pooled: array<f32>;
@group(0) @binding(2) var<storage, read> blocks: array<Block>;
@group(0) @binding(3) var<storage, read_write> scores: array<u32>;
@group(0) @binding(4) var<storage, read_write> visits: array<u32>;

const HEAD_DIM: u32 = 64u;
const ROWS: u32 = 64u; // rows of scores side by side: the invocations of a workgroup

@compute @workgroup_size(ROWS)
fn main(
    @builtin(workgroup_id) group: vec3u,
    @builtin(num_workgroups) groups: vec3u,
    @builtin(local_invocation_index) lane: u32,
) {
    let width = params.heads * HEAD_DIM;
    let base = group.x * params.longest * ROWS + lane;
    for (var item = group.x * ROWS + lane; item < params.heads * params.blocks;
        item += groups.x * ROWS) {
        let head = item / params.blocks;
        let index = item % params.blocks;
        let block = blocks[index];
        for (var other = 0u; other < block.blocks; other++) {
            let query = index * 2u * width + head * HEAD_DIM;
            let key = (block.blocks_first + other) * 2u * width + width + head * HEAD_DIM;
            var score = 0.0;
            for (var d = 0u; d < HEAD_DIM; d++) { score += pooled[query + d] * pooled[key + d]; }
            scores[base + other * ROWS] = ordered(score);
        }
        let cut = find_cut(base, block.blocks, block.keep);
        // Above the cut all are kept; of the equals the lowest blocks, as many as are still wanted.
        var ties = block.keep - min(cut.above, block.keep);
        let row = head * params.visits + block.visits_first;
        for (var first = 0u; first < block.blocks; first += 32u) {
            var word = 0u;
            for (var other = first; other < min(first + 32u, block.blocks); other++) {
                let score = scores[base + other * ROWS];
                let equal = score == cut.threshold && ties > 0u;
                word |= select(0u, 1u << (other - first), equal || score > cut.threshold);
                ties -= select(0u, 1u, equal);
            }
            visits[row + first / 32u] = word;
        }
    }
}
