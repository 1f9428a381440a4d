// How a workgroup divides attention. A team of invocations takes a slice: SLICE neighbouring rows
// of a block of any sequence. Its octets have ROWS of them each, and walk the blocks that theirs
// visits, or is visited by, with TILE rows at a time in workgroup memory. Where all teams of a
// workgroup are of one sequence they go together: they walk what any of them is to see, and load
// each tile once for all. With `block` and `visitors`; reads params, `blocks` and `visits`.
const BLOCK: u32 = 16u; // most rows of a block
const SLICE: u32 = 8u; // a multiple of ROWS; half a block where a block has two slices
const TEAMS: u32 = 4u; // of a workgroup
const TILE: u32 = 4u; // divides BLOCK
const TOGETHER: bool = true; // whether teams may go together
const TEAM: u32 = SLICE / ROWS * LANES; // invocations of a team
const INVOCATIONS: u32 = TEAM * TEAMS;
const WORDS: u32 = 8u; // of marks at a time
const WINDOW: u32 = 32u * WORDS; // blocks that they are of
const NO_SLICE: u32 = 0xffffffffu;

// The rows of a team.
struct Slice {
    block: Block, // of length 0 where a team has none
    number: u32, // of the block in its sequence
    row: u32, // the first, in the block
}

// The block that a team has reached on its walk.
struct Stop {
    first: u32, // its first token
    length: u32, // its rows, 0 where the walk is over
    seen: u32, // likewise, and 0 where only other teams are to see it
    pair: u32, // number of the pair of blocks, with BITS
    next: u32, // the mark from which the walk goes on
}

// What octets go by is kept here and written by the first invocation of a team, because octets have
// no register to spare.
var<workgroup> slices: array<Slice, TEAMS>;
var<workgroup> stops: array<Stop, TEAMS>;
var<workgroup> lengths: array<u32, TEAMS>; // of the walks
var<workgroup> of_all: vec4u;
// A bit for each block of the window that a team, or all together, walks.
var<workgroup> marks: array<atomic<u32>, TEAMS * WORDS>;

// Where an invocation stands.
struct Place {
    index: u32, // in the workgroup
    team: u32,
    lane: u32, // in its octet
    row: u32, // first row of its octet, in the block
}

fn place_of(group: u32, index: u32) -> Place {
    let team = index / TEAM;
    if (index % TEAM == 0u) {
        var slice = Slice();
        let number = group * TEAMS + team;
        if (number / 2u < params.blocks) {
            let even = blocks[number / 2u].even_slice;
            let which = select(even, blocks[number / 2u].odd_slice, number % 2u == 1u);
            if (which != NO_SLICE) {
                slice.block = blocks[which / 2u];
                slice.number = which / 2u - slice.block.blocks_first;
                slice.row = which % 2u * SLICE;
            }
        }
        slices[team] = slice;
    }
    workgroupBarrier();
    let row = slices[team].row + index % TEAM / LANES * ROWS;
    return Place(index, team, index % LANES, row);
}

// What all teams of a workgroup go by.
struct Course {
    together: bool,
    tile: u32, // rows of a tile
    blocks: u32, // of the longest sequence
    reach: u32, // rows of the longest block to walk
}

fn course_of(place: Place) -> Course {
    if (place.index == 0u) {
        var all = vec4u(u32(TOGETHER), TILE, 0u, 0u);
        for (var team = 0u; team < TEAMS; team++) {
            let it = slices[team].block;
            if (it.length > 0u) {
                if (it.blocks_first != slices[0].block.blocks_first) { all.x = 0u; }
                let reach = select(BLOCK, it.length, it.blocks == 1u);
                all = vec4u(all.xy, max(all.zw, vec2u(it.blocks, reach)));
            }
        }
        if (all.x == 1u) { all.y = min(TILE * TEAMS, BLOCK); }
        of_all = all;
    }
    let all = workgroupUniformLoad(&of_all);
    return Course(all.x == 1u, all.y, all.z, all.w);
}

// Whose marks and tiles a team uses.
fn crew_of(place: Place, course: Course) -> u32 { return select(place.team, 0u, course.together); }

// Octets that load a tile side by side.
fn octets_of(course: Course) -> u32 {
    return select(SLICE / ROWS, SLICE / ROWS * TEAMS, course.together);
}

// Whether a bit of a row of visits is set.
fn is_visited(row: u32, block: u32) -> bool {
    return ((visits[row + block / 32u] >> (block % 32u)) & 1u) == 1u;
}

// Marks what the teams walk in the window from block `first` on: the blocks that theirs visit or,
// with `visitors`, those that visit theirs. How many steps the longest walk has.
fn begin_walk(place: Place, course: Course, head: u32, first: u32, visitors: bool) -> u32 {
    workgroupBarrier();
    for (var word = place.index; word < TEAMS * WORDS; word += INVOCATIONS) {
        atomicStore(&marks[word], 0u);
    }
    workgroupBarrier();
    let marked = crew_of(place, course) * WORDS;
    let count = slices[place.team].block.blocks;
    let words = (count + 31u) / 32u;
    let number = slices[place.team].number;
    let row = head * params.visits_stride + slices[place.team].block.visits_first;
    if (visitors) {
        let rows = row - number * words; // of the sequence's first block
        let end = min(first + WINDOW, count);
        for (var other = first + place.index % TEAM; other < end; other += TEAM) {
            if (is_visited(rows + other * words, number)) {
                let bit = other - first;
                atomicOr(&marks[marked + bit / 32u], 1u << (bit % 32u));
            }
        }
    } else {
        let end = min(first / 32u + WORDS, words);
        for (var word = first / 32u + place.index % TEAM; word < end; word += TEAM) {
            atomicOr(&marks[marked + word - first / 32u], visits[row + word]);
        }
    }
    workgroupBarrier();
    if (place.index % TEAM == 0u) {
        var length = 0u;
        for (var word = 0u; word < WORDS; word++) {
            length += countOneBits(atomicLoad(&marks[marked + word]));
        }
        lengths[place.team] = length;
        stops[place.team].next = 0u;
    }
    workgroupBarrier();
    if (place.index == 0u) {
        var longest = 0u;
        for (var team = 0u; team < TEAMS; team++) { longest = max(longest, lengths[team]); }
        of_all.x = longest;
    }
    return workgroupUniformLoad(&of_all).x;
}

// Takes a step of the walk. What it says is known behind the next barrier.
fn walk(place: Place, course: Course, head: u32, first: u32, step: u32, visitors: bool) {
    if (place.index % TEAM != 0u) { return; }
    let crew = crew_of(place, course);
    var stop = stops[place.team];
    stop.length = 0u;
    stop.seen = 0u;
    if (step < lengths[place.team]) {
        var word = stop.next / 32u;
        var rest = atomicLoad(&marks[crew * WORDS + word]) & (0xffffffffu << (stop.next % 32u));
        while (rest == 0u && word + 1u < WORDS) {
            word += 1u;
            rest = atomicLoad(&marks[crew * WORDS + word]);
        }
        let mark = word * 32u + firstTrailingBit(rest);
        let other = blocks[slices[crew].block.blocks_first + first + mark];
        stop.first = other.first;
        stop.length = other.length;
        stop.next = mark + 1u;
        // The visit of a pair: a row of visits, and a bit.
        let own = slices[place.team].block;
        var row = own.visits_first;
        var bit = first + mark;
        if (visitors) {
            row = other.visits_first;
            bit = slices[place.team].number;
        }
        row += head * params.visits_stride;
        if (!course.together || (own.length > 0u && is_visited(row, bit))) {
            stop.seen = other.length;
            if (BITS) {
                stop.pair = select(own.pairs_first, other.pairs_first, visitors) + rank(row, bit);
            }
        }
    }
    stops[place.team] = stop;
}
