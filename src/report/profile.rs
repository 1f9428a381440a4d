//! The kernels of a step: a table of where the time went, and a timeline.

use crate::timing::Timing;
use serde::Serialize;
use serde_json::json;
use std::fmt::Write;

/// All launches of one kernel for one op.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// The op.
    pub op: &'static str,
    /// The shader.
    pub kernel: &'static str,
    /// How many.
    pub launches: usize,
    /// Seconds of all of them.
    pub seconds: f64,
    /// Their share of the step, 0 to 1; the step lasts from the first begin to the last end.
    pub share: f64,
    /// Billions of floating-point operations per second, where operations are what the time goes
    /// into.
    pub gflops: Option<f64>,
    /// Billions of bytes per second, of those that the kernel cannot but move.
    pub gbytes: f64,
}

fn span(timings: &[Timing]) -> f64 {
    timings.iter().map(|timing| timing.begin + timing.seconds).fold(0.0, f64::max)
}

/// The launches by op and kernel, the dearest first, and what passed between launches last (copies,
/// and a device that waits).
pub fn rows(timings: &[Timing]) -> Vec<Row> {
    let total = span(timings);
    let mut groups: Vec<(Row, u64, u64)> = Vec::new();
    for timing in timings {
        let same =
            |(row, ..): &&mut (Row, u64, u64)| row.op == timing.op && row.kernel == timing.kernel;
        let (row, operations, bytes) = match groups.iter_mut().find(same) {
            Some(group) => group,
            None => {
                let (op, kernel) = (timing.op, timing.kernel);
                let row = Row {
                    op,
                    kernel,
                    launches: 0,
                    seconds: 0.0,
                    share: 0.0,
                    gflops: None,
                    gbytes: 0.0,
                };
                groups.push((row, 0, 0));
                let last = groups.len() - 1;
                &mut groups[last]
            }
        };
        row.launches += 1;
        row.seconds += timing.seconds;
        *operations += timing.operations;
        *bytes += timing.bytes;
    }
    let mut rows: Vec<Row> = groups
        .into_iter()
        .map(|(row, operations, bytes)| Row {
            share: row.seconds / total,
            gflops: (operations > 0).then(|| operations as f64 / row.seconds / 1e9),
            gbytes: bytes as f64 / row.seconds / 1e9,
            ..row
        })
        .collect();
    rows.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    let between = total - rows.iter().map(|row| row.seconds).sum::<f64>();
    rows.push(Row {
        op: "between launches",
        kernel: "",
        launches: 0,
        seconds: between,
        share: between / total,
        gflops: None,
        gbytes: 0.0,
    });
    rows
}

/// The rows as text.
pub fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<32} {:<40} {:>8} {:>10} {:>8} {:>8} {:>6}\n",
        "op", "kernel", "launches", "ms", "GFLOP/s", "GB/s", "share"
    );
    for row in rows {
        let gflops = row.gflops.map_or(String::new(), |speed| format!("{speed:.1}"));
        let gbytes = if row.gbytes > 0.0 { format!("{:.1}", row.gbytes) } else { String::new() };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:<32} {:<40} {:>8} {:>10.2} {gflops:>8} {gbytes:>8} {:>5.1}%",
            row.op,
            row.kernel,
            row.launches,
            row.seconds * 1e3,
            row.share * 100.0
        );
    }
    let total: f64 = rows.iter().map(|row| row.seconds).sum();
    let launches: usize = rows.iter().map(|row| row.launches).sum();
    let _ = write!(text, "{:<73} {launches:>8} {:>10.2}", "all", total * 1e3);
    text
}

/// The launches in the format of `chrome://tracing` and ui.perfetto.dev ("complete" events, times
/// in microseconds).
pub fn chrome_trace(timings: &[Timing]) -> String {
    let events: Vec<_> = timings
        .iter()
        .map(|timing| {
            json!({
                "name": timing.kernel,
                "cat": timing.op,
                "ph": "X",
                "ts": timing.begin * 1e6,
                "dur": timing.seconds * 1e6,
                "pid": 1,
                "tid": 1,
                "args": {
                    "op": timing.op,
                    "operations": timing.operations,
                    "bytes": timing.bytes,
                },
            })
        })
        .collect();
    json!({ "traceEvents": events, "displayTimeUnit": "ms" }).to_string()
}
