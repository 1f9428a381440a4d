// The gradients of attention over a block mask, for which scores are computed again:
//   p = exp(score - log_sum_exp);  dvalue = Σ dropout(p) · dout
//   dscore = p · (dropout(dout·value) - dout·out)
//   dquery = Σ dscore · key / sqrt(HEAD_DIM);  dkey = Σ dscore · query / sqrt(HEAD_DIM)
// An octet takes one row of the tile at a time, with each of its own, at most two. Of four lanes
// the first two sum a score each, the others the product of value and gradient that belongs to it.

var<workgroup> tile_facts: array<vec2f, TEAMS * TILE>; // log-sum-exp and dout·out of a query
var<workgroup> tile_bits: array<u32, TEAMS * BLOCK>; // the team's keys that count for a query
var<workgroup> tile_drops: array<u32, TEAMS * BLOCK>; // the team's rows that dropout keeps of a row

// A pair of rows: its score, and the product of value and gradient.
struct Products { score: f32, dweight: f32 }

// Of each row `a`, `b` of the octet and one of the tile.
fn products_of(x: Rows, y: Row, dx: Rows, dy: Row, index: u32) -> Products {
    var parts = vec4f(product(x.a, y), 0.0, product(dx.a, dy), 0.0);
    parts.y = parts.x;
    parts.w = parts.z;
    if (ROWS > 1u) {
        parts.y = product(x.b, y);
        parts.w = product(dx.b, dy);
    }
    let mine = octet_sum(parts, index);
    let other = partner(mine, index);
    if (index % 4u > 1u) { return Products(other, mine); }
    return Products(mine, other);
}

// Adds a row to each of the octet's, with the first two factors.
fn plus_row(sums: Rows, factors: vec2f, it: Row) -> Rows {
    var more = sums;
    more.a = plus(sums.a, factors.x, it);
    if (ROWS > 1u) { more.b = plus(sums.b, factors.y, it); }
    return more;
}

// Draws dropout between the team's rows and those of the tile, once for all octets, as it takes
// about as long as what else there is to a pair. `keys`: whether the tile has keys.
fn draw_drops(place: Place, course: Course, head: u32, begin: u32, keys: bool) {
    for (var turn = 0u; turn < course.tile; turn += SLICE / ROWS) {
        let i = turn + place.index % TEAM / LANES;
        let sequence = slices[place.team].block.sequence;
        let start = slices[place.team].block.sequence_first;
        let own = slices[place.team].block.first + slices[place.team].row - start;
        let other = stops[place.team].first + begin + i - start;
        var kept = 0.0; // a sum of powers of two, which a float32 has exactly
        for (var row = place.lane; row < SLICE; row += LANES) {
            let query = select(other, own + row, keys);
            let key = select(own + row, other, keys);
            if (weight_factor(head, sequence, query, key) > 0.0) { kept += f32(1u << row); }
        }
        let word = u32(octet_sum(vec4f(kept), place.index));
        if (i < course.tile && place.lane == 0u) { tile_drops[place.team * BLOCK + i] = word; }
    }
}

// What dropout makes of the weight of a pair with row i of the tile.
fn drawn_factor(place: Place, i: u32) -> f32 {
    if (!DROPOUT) { return 1.0; }
    let row = place.index % TEAM / LANES * ROWS + place.index % ROWS;
    let kept = ((tile_drops[place.team * BLOCK + i] >> row) & 1u) == 1u;
    return select(0.0, 1.0 / (1.0 - params.probability), kept);
}

// Loads the tiles of queries and gradients from row `begin` on of the block that the walk has
// reached, and what belongs to them.
fn fill_query_tiles(place: Place, course: Course, head: u32, begin: u32) {
    let crew = crew_of(place, course);
    let octets = octets_of(course);
    for (var turn = 0u; turn < course.tile; turn += octets) {
        // Rows beyond the block repeat its last one; no bit keeps them.
        let i = turn + place.index / LANES % octets;
        let rest = max(stops[crew].length, 1u) - 1u;
        let query = stops[crew].first + min(begin + i, rest);
        if (i < course.tile) {
            let row = head_row(query, 3u, 0u, head);
            put_row(crew * TILE + i, place.lane, row_of(QKV, row, place.lane));
        }
        let gradient = row_of(DOUT, head_row(query, 1u, 0u, head), place.lane);
        let context = row_of(OUT, head_row(query, 1u, 0u, head), place.lane);
        let delta = octet_sum(vec4f(product(context, gradient)), place.index);
        if (i < course.tile) {
            put_row(SECOND + crew * TILE + i, place.lane, gradient);
            if (place.lane == 0u) {
                let lse = log_sum_exp[head * params.tokens + query];
                tile_facts[crew * TILE + i] = vec2f(lse, delta);
            }
        }
    }
    let stop = stops[place.team];
    for (var i = place.index % TEAM; i < course.tile; i += TEAM) {
        var word = 0u;
        if (begin + i < stop.seen) {
            word = 0xffffffffu;
            if (BITS) {
                word = bits[head * params.bits_stride + stop.pair * BLOCK + begin + i];
            }
        }
        tile_bits[place.team * BLOCK + i] = word;
    }
}

// The gradients of key and value of the octet's rows, walking the query blocks that visit theirs.
fn key_value_gradient(group: vec2u, index: u32) {
    let head = group.y;
    let place = place_of(group.x, index);
    let key = times_own(own_rows(place, QKV, 1u, head), vec4f(SCALE));
    let value = own_rows(place, QKV, 2u, head);
    var dkey: Rows;
    var dvalue: Rows;
    let course = course_of(place);
    let room = crew_of(place, course) * TILE;
    for (var first = 0u; first < course.blocks; first += WINDOW) {
        let steps = begin_walk(place, course, head, first, true);
        for (var step = 0u; step < steps; step++) {
            walk(place, course, head, first, step, true);
            for (var begin = 0u; begin < course.reach; begin += course.tile) {
                workgroupBarrier();
                fill_query_tiles(place, course, head, begin);
                if (DROPOUT) { draw_drops(place, course, head, begin, false); }
                workgroupBarrier();
                let end = min(course.tile, course.reach - begin);
                for (var j = 0u; j < end; j++) {
                    let query = take_row(room + j, place.lane);
                    let gradient = take_row(SECOND + room + j, place.lane);
                    let products = products_of(key, query, value, gradient, index);
                    let facts = tile_facts[room + j];
                    let own = place.row + index % ROWS;
                    let kept = ((tile_bits[place.team * BLOCK + j] >> own) & 1u) == 1u;
                    let weight = select(0.0, exp(products.score - facts.x), kept);
                    let factor = drawn_factor(place, j);
                    let dscore = SCALE * weight * (products.dweight * factor - facts.y);
                    let factors =
                        quad_values(select(weight * factor, dscore, index % 4u > 1u), index);
                    dvalue = plus_row(dvalue, factors.xy, gradient);
                    dkey = plus_row(dkey, factors.zw, query);
                }
            }
        }
    }
    write_own(place, 1u, 3u, head, dkey);
    write_own(place, 2u, 3u, head, dvalue);
}

// The gradient of the query of the octet's rows, walking the key blocks that theirs visits.
fn query_gradient(group: vec2u, index: u32) {
    let head = group.y;
    let place = place_of(group.x, index);
    let query = times_own(own_rows(place, QKV, 0u, head), vec4f(SCALE));
    let gradient = own_rows(place, DOUT, 0u, head);
    let context = own_rows(place, OUT, 0u, head);
    var parts = vec2f(product(context.a, gradient.a));
    if (ROWS > 1u) { parts.y = product(context.b, gradient.b); }
    let delta = octet_sum(parts.xyxy, index);
    var dquery: Rows;
    let row = place.row + index % ROWS; // of this invocation's pairs
    var lse = 0.0;
    if (row < slices[place.team].block.length) {
        lse = log_sum_exp[head * params.tokens + slices[place.team].block.first + row];
    }
    let course = course_of(place);
    let room = crew_of(place, course) * TILE;
    for (var first = 0u; first < course.blocks; first += WINDOW) {
        let steps = begin_walk(place, course, head, first, false);
        for (var step = 0u; step < steps; step++) {
            walk(place, course, head, first, step, false);
            var row_bits = 0u;
            for (var begin = 0u; begin < course.reach; begin += course.tile) {
                workgroupBarrier();
                if (begin == 0u) { row_bits = row_bits_of(place, head, row); }
                fill_tiles(place, course, head, begin);
                if (DROPOUT) { draw_drops(place, course, head, begin, true); }
                workgroupBarrier();
                let end = min(course.tile, course.reach - begin);
                for (var j = 0u; j < end; j++) {
                    let key = take_row(room + j, place.lane);
                    let value = take_row(SECOND + room + j, place.lane);
                    let products = products_of(query, key, gradient, value, index);
                    let factor = drawn_factor(place, j);
                    let dscore =
                        SCALE * exp(products.score - lse) * (products.dweight * factor - delta);
                    let kept = ((row_bits >> (begin + j)) & 1u) == 1u;
                    let factors = quad_values(select(0.0, dscore, kept), index);
                    dquery = plus_row(dquery, factors.xy, key);
                }
            }
        }
    }
    write_own(place, 0u, 3u, head, dquery);
}
