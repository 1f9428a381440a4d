// The gradients of attention over a block mask, for which scores are computed again:
//   p = exp(score - log_sum_exp);  dvalue = Σ dropout(p) · dout
//   dscore = p · (dropout(dout·value) - dout·out)
//   dquery = Σ dscore · key / sqrt(HEAD_DIM);  dkey = Σ dscore · query / sqrt(HEAD_DIM)
var<workgroup> tile_facts: array<vec2f, TEAMS * TILE>; // log-sum-exp and dout·out of a query
var<workgroup> tile_bits: array<u32, TEAMS * BLOCK>; // the team's keys that count for a query

// The gradients of key and value of the octet's rows, walking the query blocks that visit theirs.
fn key_value_gradient(group: vec2u, index: u32) {
    let head = group.y;
    let place = place_of(group.x, index);
    let block = place.block;
    let step = 3u * params.heads;
    let key_row = block.first * step + params.heads + head;
    let key = times_own(own_rows(place, QKV, key_row, step), vec4f(SCALE));
    let value = own_rows(place, QKV, key_row + params.heads, step);
    var dkey: Rows;
    var dvalue: Rows;
    let own = place.row + index % ROWS; // of this invocation's pairs
    let head_visits = head * params.visits_stride;
    var rows = 0u;
    if (block.length > 0u) { rows = head_visits + blocks[block.blocks_first].visits_first; }
    let course = course_of(place);
    let crew = select(place.team, 0u, course.together);
    let blocks_first = select(block.blocks_first, course.blocks_first, course.together);
    let tile = select(TILE, min(TILE * TEAMS, BLOCK), course.together);
    let octets = select(SLICE / ROWS, SLICE / ROWS * TEAMS, course.together);
    let octet = index / LANES % octets;
    let room = crew * TILE;
    for (var first = 0u; first < course.blocks; first += WINDOW) {
        clear_marks(index);
        mark_visitors(place, crew, rows, first);
        let count = count_marks(crew);
        let most = most_of(place, count);
        var other = 0u;
        for (var walked = 0u; walked < most; walked++) {
            var queries = Block();
            var length = 0u; // rows of the queries that the team looks at
            var pair = 0u;
            if (walked < count) {
                other = next_mark(crew, other);
                queries = blocks[blocks_first + first + other];
                let row = head_visits + queries.visits_first;
                if (!course.together || (block.length > 0u && is_visited(row, place.number))) {
                    length = queries.length;
                    if (BITS) { pair = queries.pairs_first + rank(row, place.number); }
                }
                other += 1u;
            }
            for (var begin = 0u; begin < course.reach; begin += tile) {
                workgroupBarrier();
                for (var turn = 0u; turn < tile; turn += octets) {
                    // Rows beyond the block repeat its last one; no bit keeps them.
                    let i = turn + octet;
                    let query = queries.first + min(begin + i, max(queries.length, 1u) - 1u);
                    let at = query * params.heads + head;
                    let gradient = row_of(DOUT, at, place.lane);
                    let part = product(row_of(OUT, at, place.lane), gradient);
                    let delta = scatter(vec4f(part), index);
                    if (i < tile) {
                        put_row(room + i, place.lane, row_of(QKV, query * step + head, place.lane));
                        put_row(SECOND + room + i, place.lane, gradient);
                        if (place.lane == 0u) {
                            let lse = log_sum_exp[head * params.tokens + query];
                            tile_facts[room + i] = vec2f(lse, delta);
                        }
                    }
                }
                for (var i = index % TEAM; i < tile; i += TEAM) {
                    var word = 0u;
                    if (begin + i < length) {
                        word = 0xffffffffu;
                        if (BITS) {
                            word = bits[head * params.bits_stride + pair * BLOCK + begin + i];
                        }
                    }
                    tile_bits[place.team * BLOCK + i] = word;
                }
                workgroupBarrier();
                let end = min(tile, course.reach - begin);
                for (var j = 0u; j < end; j += OTHERS) {
                    let query = take_others(room + j, place.lane);
                    let gradient = take_others(SECOND + room + j, place.lane);
                    let score = scatter(products(key, query), index);
                    let dweight = scatter(products(value, gradient), index);
                    let i = j + index % 4u / ROWS;
                    let facts = tile_facts[room + i];
                    let kept = ((tile_bits[place.team * BLOCK + i] >> own) & 1u) == 1u;
                    let weight = select(0.0, exp(score - facts.x), kept);
                    let factor = weight_factor(head, block.sequence,
                        queries.first + begin + i - block.sequence_first,
                        block.first + own - block.sequence_first);
                    let dscore = SCALE * weight * (dweight * factor - facts.y);
                    dvalue = plus_others(dvalue, gather(weight * factor, index), gradient);
                    dkey = plus_others(dkey, gather(dscore, index), query);
                }
            }
        }
    }
    write_own(place, key_row, step, dkey);
    write_own(place, key_row + params.heads, step, dvalue);
}

// The gradient of the query of the octet's rows, walking the key blocks that theirs visits.
fn query_gradient(group: vec2u, index: u32) {
    let head = group.y;
    let place = place_of(group.x, index);
    let block = place.block;
    let step = 3u * params.heads;
    let query_row = block.first * step + head;
    let query = times_own(own_rows(place, QKV, query_row, step), vec4f(SCALE));
    let out_row = block.first * params.heads + head;
    let gradient = own_rows(place, DOUT, out_row, params.heads);
    let parts = own_products(own_rows(place, OUT, out_row, params.heads), gradient);
    let delta = scatter(parts, index);
    var dquery: Rows;
    let own = place.row + index % ROWS; // of this invocation's pairs
    var lse = 0.0;
    if (own < block.length) { lse = log_sum_exp[head * params.tokens + block.first + own]; }
    let visits_row = head * params.visits_stride + block.visits_first;
    var pair = block.pairs_first;
    let course = course_of(place);
    let crew = select(place.team, 0u, course.together);
    let blocks_first = select(block.blocks_first, course.blocks_first, course.together);
    let tile = select(TILE, min(TILE * TEAMS, BLOCK), course.together);
    let octets = select(SLICE / ROWS, SLICE / ROWS * TEAMS, course.together);
    let octet = index / LANES % octets;
    let room = crew * TILE;
    for (var first = 0u; first < course.blocks; first += WINDOW) {
        clear_marks(index);
        mark_visits(place, crew, visits_row, first);
        let count = count_marks(crew);
        let most = most_of(place, count);
        var other = 0u;
        for (var walked = 0u; walked < most; walked++) {
            var keys = Block();
            var row_bits = 0u; // the keys that count for this invocation's row
            if (walked < count) {
                other = next_mark(crew, other);
                keys = blocks[blocks_first + first + other];
                if (!course.together
                    || (block.length > 0u && is_visited(visits_row, first + other))) {
                    row_bits = 0xffffffffu >> (32u - keys.length);
                    if (BITS) {
                        row_bits &= bits[head * params.bits_stride + pair * BLOCK + own];
                    }
                    pair += 1u;
                }
                other += 1u;
            }
            for (var begin = 0u; begin < course.reach; begin += tile) {
                workgroupBarrier();
                for (var i = octet; i < tile; i += octets) {
                    // Rows beyond the block repeat its last one; no bit keeps them.
                    let key = keys.first + min(begin + i, max(keys.length, 1u) - 1u);
                    let at = key * step + params.heads + head;
                    put_row(room + i, place.lane, row_of(QKV, at, place.lane));
                    put_row(SECOND + room + i, place.lane,
                        row_of(QKV, at + params.heads, place.lane));
                }
                workgroupBarrier();
                let end = min(tile, course.reach - begin);
                for (var j = 0u; j < end; j += OTHERS) {
                    let key = take_others(room + j, place.lane);
                    let value = take_others(SECOND + room + j, place.lane);
                    let score = scatter(products(query, key), index);
                    let dweight = scatter(products(gradient, value), index);
                    let i = begin + j + index % 4u / ROWS;
                    let factor = weight_factor(head, block.sequence,
                        block.first + own - block.sequence_first,
                        keys.first + i - block.sequence_first);
                    let dscore = SCALE * exp(score - lse) * (dweight * factor - delta);
                    let kept = select(0.0, dscore, ((row_bits >> i) & 1u) == 1u);
                    dquery = plus_others(dquery, gather(kept, index), key);
                }
            }
        }
    }
    write_own(place, query_row, step, dquery);
}
