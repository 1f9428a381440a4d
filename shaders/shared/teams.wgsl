// How a workgroup divides attention. A team of invocations takes a slice: up to SLICE neighbouring
// rows of one block, of any sequence. It has a few octets of them, each ROWS rows, and walks the
// blocks that theirs visits (or is visited by), TILE rows at a time in workgroup memory. Where all teams of a workgroup
// are of one sequence they go together: they walk what any of them visits, and load each tile once
// for all. Reads params, `blocks` and `visits`.
const BLOCK: u32 = 16u; // most rows of a block
const SLICE: u32 = 8u; // a multiple of ROWS; half a block where a block has two slices
const TEAMS: u32 = 4u; // of a workgroup
const TILE: u32 = 4u; // a multiple of OTHERS that divides BLOCK
const TOGETHER: bool = true; // whether teams may go together
const TEAM: u32 = SLICE / ROWS * LANES; // invocations of a team
const INVOCATIONS: u32 = TEAM * TEAMS;
const WORDS: u32 = 8u; // of marks at a time
const WINDOW: u32 = 32u * WORDS; // blocks that they are of
const NO_SLICE: u32 = 0xffffffffu;

// A bit for each block of the window that a team, or all together, walks.
var<workgroup> marks: array<atomic<u32>, TEAMS * WORDS>;
var<workgroup> of_teams: array<vec4u, TEAMS>;
var<workgroup> of_all: vec4u;

// What an invocation is there for.
struct Place {
    index: u32, // in the workgroup
    team: u32,
    lane: u32, // in its octet
    block: Block, // of its rows; of length 0 where there is none
    number: u32, // of the block in its sequence
    row: u32, // first row of its octet in the block
}

fn place_of(group: u32, index: u32) -> Place {
    let team = index / TEAM;
    let slice = group * TEAMS + team;
    var place = Place(index, team, index % LANES, Block(), 0u, 0u);
    if (slice / 2u < params.blocks) {
        let even = blocks[slice / 2u].even_slice;
        let which = select(even, blocks[slice / 2u].odd_slice, slice % 2u == 1u);
        if (which != NO_SLICE) {
            place.block = blocks[which / 2u];
            place.number = which / 2u - place.block.blocks_first;
            place.row = which % 2u * SLICE + index % TEAM / LANES * ROWS;
        }
    }
    return place;
}

// What all teams of a workgroup have in course.
struct Course {
    together: bool,
    blocks_first: u32, // first block of the sequence, where they go together
    blocks: u32, // of the longest sequence
    reach: u32, // rows of the longest block to walk
}

fn course_of(place: Place) -> Course {
    if (place.index % TEAM == 0u) {
        let one = place.block.blocks == 1u;
        let reach = select(BLOCK, place.block.length, one || place.block.length == 0u);
        of_teams[place.team] =
            vec4u(place.block.length, place.block.blocks_first, place.block.blocks, reach);
    }
    workgroupBarrier();
    if (place.index == 0u) {
        var all = vec4u(u32(TOGETHER), of_teams[0].y, 0u, 0u);
        for (var team = 0u; team < TEAMS; team++) {
            let it = of_teams[team];
            if (it.x > 0u && it.y != all.y) { all.x = 0u; }
            all = vec4u(all.xy, max(all.zw, it.zw));
        }
        of_all = all;
    }
    let all = workgroupUniformLoad(&of_all);
    return Course(all.x == 1u, all.y, all.z, all.w);
}

// Clears the marks of a window.
fn clear_marks(index: u32) {
    workgroupBarrier();
    for (var word = index; word < TEAMS * WORDS; word += INVOCATIONS) {
        atomicStore(&marks[word], 0u);
    }
    workgroupBarrier();
}

// How many blocks are marked in a window.
fn count_marks(crew: u32) -> u32 {
    workgroupBarrier();
    var count = 0u;
    for (var word = 0u; word < WORDS; word++) {
        count += countOneBits(atomicLoad(&marks[crew * WORDS + word]));
    }
    return count;
}

// The most that any team counts.
fn most_of(place: Place, count: u32) -> u32 {
    if (place.index % TEAM == 0u) { of_teams[place.team].x = count; }
    workgroupBarrier();
    if (place.index == 0u) {
        var most = 0u;
        for (var team = 0u; team < TEAMS; team++) { most = max(most, of_teams[team].x); }
        of_all.x = most;
    }
    return workgroupUniformLoad(&of_all).x;
}

// The first block from `start` on, counted from the window's first, that is marked; there is one.
fn next_mark(crew: u32, start: u32) -> u32 {
    var word = start / 32u;
    var rest = atomicLoad(&marks[crew * WORDS + word]) & (0xffffffffu << (start % 32u));
    while (rest == 0u && word + 1u < WORDS) {
        word += 1u;
        rest = atomicLoad(&marks[crew * WORDS + word]);
    }
    return word * 32u + firstTrailingBit(rest);
}

// Whether a bit of a row of visits is set.
fn is_visited(row: u32, block: u32) -> bool {
    return ((visits[row + block / 32u] >> (block % 32u)) & 1u) == 1u;
}

// Marks what the team's block visits, from block `first` on.
fn mark_visits(place: Place, crew: u32, row: u32, first: u32) {
    let words = (place.block.blocks + 31u) / 32u;
    for (var word = place.index % TEAM; word < WORDS && first / 32u + word < words; word += TEAM) {
        atomicOr(&marks[crew * WORDS + word], visits[row + first / 32u + word]);
    }
}

// Marks what visits the team's block, from block `first` on.
fn mark_visitors(place: Place, crew: u32, rows: u32, first: u32) {
    let words = (place.block.blocks + 31u) / 32u;
    let end = min(first + WINDOW, place.block.blocks);
    for (var other = first + place.index % TEAM; other < end; other += TEAM) {
        if (is_visited(rows + other * words, place.number)) {
            let bit = other - first;
            atomicOr(&marks[crew * WORDS + bit / 32u], 1u << (bit % 32u));
        }
    }
}
