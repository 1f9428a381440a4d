// Rows of heads on their way between memory, workgroup memory and octets. There are two tiles, one
// of keys or queries and one, SECOND rows behind it, of values or gradients.
const STRIDE: u32 = LANES * PARTS; // vec4 of a row in a tile
const SECOND: u32 = TEAMS * TILE;

var<workgroup> tiles: array<vec4f, 2u * SECOND * STRIDE>;

// Which tensor a row is of.
const QKV: u32 = 0u;
const OUT: u32 = 1u;
const DOUT: u32 = 2u;

fn row_of(tensor: u32, row: u32, lane: u32) -> Row {
    var it: Row;
    it.a = quad_of(tensor, row, lane);
    if (PARTS > 1u) { it.b = quad_of(tensor, row, lane + LANES); }
    if (PARTS > 2u) { it.c = quad_of(tensor, row, lane + 2u * LANES); }
    if (PARTS > 3u) { it.d = quad_of(tensor, row, lane + 3u * LANES); }
    return it;
}

// The number of a head's row in a tensor that has `parts` such rows side by side in each token: in
// qkv query (0), key (1) and value (2).
fn head_row(token: u32, parts: u32, part: u32, head: u32) -> u32 {
    return (token * parts + part) * params.heads + head;
}

// The octet's rows of a tensor.
fn own_rows(place: Place, tensor: u32, part: u32, head: u32) -> Rows {
    let parts = select(1u, 3u, tensor == QKV);
    let token = slices[place.team].block.first + place.row;
    let first = head_row(token, parts, part, head);
    let step = parts * params.heads;
    let length = slices[place.team].block.length;
    let rest = length - min(length, place.row);
    var it: Rows;
    if (rest > 0u) { it.a = row_of(tensor, first, place.lane); }
    if (ROWS > 1u && rest > 1u) { it.b = row_of(tensor, first + step, place.lane); }
    if (ROWS > 2u && rest > 2u) { it.c = row_of(tensor, first + 2u * step, place.lane); }
    if (ROWS > 2u && rest > 3u) { it.d = row_of(tensor, first + 3u * step, place.lane); }
    return it;
}

fn write_row(row: u32, lane: u32, it: Row) {
    write_quad(row, lane, it.a);
    if (PARTS > 1u) { write_quad(row, lane + LANES, it.b); }
    if (PARTS > 2u) { write_quad(row, lane + 2u * LANES, it.c); }
    if (PARTS > 3u) { write_quad(row, lane + 3u * LANES, it.d); }
}

// Writes the octet's rows of the result.
fn write_own(place: Place, part: u32, parts: u32, head: u32, it: Rows) {
    let token = slices[place.team].block.first + place.row;
    let first = head_row(token, parts, part, head);
    let step = parts * params.heads;
    let length = slices[place.team].block.length;
    let rest = length - min(length, place.row);
    if (rest > 0u) { write_row(first, place.lane, it.a); }
    if (ROWS > 1u && rest > 1u) { write_row(first + step, place.lane, it.b); }
    if (ROWS > 2u && rest > 2u) { write_row(first + 2u * step, place.lane, it.c); }
    if (ROWS > 2u && rest > 3u) { write_row(first + 3u * step, place.lane, it.d); }
}

fn put_row(row: u32, lane: u32, it: Row) {
    let at = row * STRIDE + lane;
    tiles[at] = it.a;
    if (PARTS > 1u) { tiles[at + LANES] = it.b; }
    if (PARTS > 2u) { tiles[at + 2u * LANES] = it.c; }
    if (PARTS > 3u) { tiles[at + 3u * LANES] = it.d; }
}

fn take_row(row: u32, lane: u32) -> Row {
    let at = row * STRIDE + lane;
    var it: Row;
    it.a = tiles[at];
    if (PARTS > 1u) { it.b = tiles[at + LANES]; }
    if (PARTS > 2u) { it.c = tiles[at + 2u * LANES]; }
    if (PARTS > 3u) { it.d = tiles[at + 3u * LANES]; }
    return it;
}

// Loads the tiles of keys and values from row `begin` on of the block that the walk has reached.
fn fill_tiles(place: Place, course: Course, head: u32, begin: u32) {
    let crew = crew_of(place, course);
    let octets = octets_of(course);
    for (var i = place.index / LANES % octets; i < course.tile; i += octets) {
        // Rows beyond the block repeat its last one; no bit keeps them.
        let rest = max(stops[crew].length, 1u) - 1u;
        let key = head_row(stops[crew].first + min(begin + i, rest), 3u, 1u, head);
        put_row(crew * TILE + i, place.lane, row_of(QKV, key, place.lane));
        let value = row_of(QKV, key + params.heads, place.lane);
        put_row(SECOND + crew * TILE + i, place.lane, value);
    }
}

// The keys that count for a row of the team's block, in the block that the walk has reached.
fn row_bits_of(place: Place, head: u32, row: u32) -> u32 {
    let seen = stops[place.team].seen;
    if (seen == 0u) { return 0u; }
    let all = 0xffffffffu >> (32u - seen);
    if (!BITS) { return all; }
    return all & bits[head * params.bits_stride + stops[place.team].pair * BLOCK + row];
}
