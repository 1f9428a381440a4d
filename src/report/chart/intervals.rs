//! Intervals around estimates, one below the other.

use super::axis::{Axis, Frame, HUGE, LINE, LISTED, Scale, Ticks, drawable, extent, mark, plain};
use super::svg::{PLAIN, SMALL, Svg, or, px, widest, width_of};
use std::fmt::Write;

/// Width of the picture: that of a page.
const WIDTH: f64 = 720.0;
/// Height of a row.
const ROW: f64 = 28.0;
/// Most lines of labels above the rows.
const LANES: usize = 4;
/// Widest label of a line to compare with.
const LABEL: f64 = 260.0;

/// An estimate and the interval around it: a row of an [`IntervalChart`].
#[derive(Debug, Clone, Default)]
pub struct IntervalRow {
    /// What is estimated.
    pub label: String,
    /// The estimate; if not finite, the row says that there is none.
    pub estimate: f64,
    /// Lower end; negative infinity is drawn as an arrow.
    pub low: f64,
    /// Upper end; infinity is drawn as an arrow.
    pub high: f64,
}

/// Intervals one below the other over a common x, and lines across them to compare with.
#[derive(Debug, Clone, Default)]
pub struct IntervalChart {
    /// What it shows.
    pub title: String,
    /// Name of the x axis.
    pub x: String,
    /// The intervals, from the top.
    pub rows: Vec<IntervalRow>,
    /// Vertical lines and what they mean.
    pub marks: Vec<(f64, String)>,
}

/// Rows whose ends are in order, with their numbers, and how wide the two columns of text are.
struct Rows {
    rows: Vec<IntervalRow>,
    numbers: Vec<String>,
    label_width: f64,
    number_width: f64,
}

/// A line to compare with and the place of its label.
struct Reference<'a> {
    /// Where the line is.
    line: f64,
    /// Where the middle of the label is.
    middle: f64,
    /// On which line of labels, counted from the lowest.
    lane: usize,
    label: &'a str,
    /// Whether there is room for the label.
    labelled: bool,
}

impl IntervalChart {
    /// The chart, as wide as a page.
    pub fn svg(&self) -> String {
        let mut svg = Svg::default();
        let top = svg.heading(&self.title, 12.0, WIDTH);
        let rows: Vec<IntervalRow> = self.rows.iter().map(tidy).collect();
        let Some(range) = self.range(&rows) else {
            return svg.no_data(&self.title, top, WIDTH);
        };
        let ticks = Ticks::new(range, 5.0);
        let rows = Rows::new(rows, &ticks);
        let description = self.description(&rows);
        // Names to the left of the intervals, numbers to the right.
        let (left, right) = (rows.label_width + 24.0, WIDTH - rows.number_width - 24.0);
        let x = Axis { scale: Scale::new(range, (left, right)), ticks };
        let references = self.references(&x.scale);
        let lanes = references.iter().map(|reference| reference.lane + 1).max().unwrap_or(0);
        let top = top + lanes as f64 * LINE + 6.0;
        let bottom = top + rows.rows.len().max(1) as f64 * ROW + 4.0;
        let frame = Frame { left, right, top, bottom, width: WIDTH };

        frame.columns(&mut svg, &x);
        svg.path("axis", &frame.base_line());
        for (at, label) in x.places() {
            svg.text((at, bottom + 17.0), "small c", label, SMALL, WIDTH);
        }
        frame.name_x(&mut svg, &self.x);
        references.iter().for_each(|reference| reference.draw(&mut svg, &frame));
        rows.draw(&mut svg, &x.scale, top);
        let height = bottom + Frame::room_below(&self.x);
        svg.finish("chart", (WIDTH, height), &self.title, &description)
    }

    /// The lines that can be drawn.
    fn drawable_marks(&self) -> impl Iterator<Item = &(f64, String)> {
        self.marks.iter().filter(|mark| drawable((mark.0, 0.0)))
    }

    /// The range of the x axis; `None` if there is nothing to draw.
    fn range(&self, rows: &[IntervalRow]) -> Option<(f64, f64)> {
        let values = rows
            .iter()
            .filter(|row| row.estimate.is_finite())
            .flat_map(|row| [row.estimate, row.low, row.high]);
        let (low, high) = extent(values.chain(self.drawable_marks().map(|mark| mark.0)))?;
        let pad = (high - low) * 0.05;
        Some((low - pad, high + pad))
    }

    /// The lines from the left. Labels stand above the rows, those too close to each other on
    /// several lines.
    fn references(&self, x: &Scale) -> Vec<Reference<'_>> {
        let mut marks: Vec<&(f64, String)> = self.drawable_marks().collect();
        marks.sort_by(|a, b| a.0.total_cmp(&b.0));
        // Where the last label of each lane ends.
        let mut lanes: Vec<f64> = Vec::new();
        let mut references = Vec::new();
        for (value, label) in marks {
            let half = width_of(label, SMALL).min(LABEL) / 2.0;
            let line = x.at(*value);
            let middle = line.max(half).min(WIDTH - half);
            let free = lanes.iter().position(|end| end + 10.0 < middle - half);
            let lane = free.unwrap_or(lanes.len().min(LANES - 1));
            if lane == lanes.len() {
                lanes.push(0.0);
            }
            // Where even the last lane is taken, the line stays without a label.
            let labelled = lanes[lane] == 0.0 || lanes[lane] + 10.0 < middle - half;
            if labelled {
                lanes[lane] = middle + half;
            }
            references.push(Reference { line, middle, lane, label, labelled });
        }
        references
    }

    /// The chart in words, for those who cannot see it.
    fn description(&self, rows: &Rows) -> String {
        let mut text = format!("Intervals of {}.", or(&self.x, "an estimate"));
        for (row, number) in rows.rows.iter().zip(&rows.numbers).take(LISTED) {
            let _ = write!(text, " {}: {number}.", row.label);
        }
        for (value, label) in self.marks.iter().take(LISTED) {
            let _ = write!(text, " Line at {}: {label}.", plain(*value));
        }
        text
    }
}

impl Reference<'_> {
    fn draw(&self, svg: &mut Svg, frame: &Frame) {
        // The lowest lane is the first: a line reaches up to its label only.
        let foot = frame.top - 4.0 - self.lane as f64 * LINE;
        svg.path("ref", &format!("M{} {}V{}", px(self.line), px(foot), px(frame.bottom)));
        if self.labelled {
            svg.text((self.middle, foot - 4.0), "small c", self.label, SMALL, LABEL);
        }
    }
}

impl Rows {
    fn new(rows: Vec<IntervalRow>, ticks: &Ticks) -> Self {
        let numbers: Vec<String> = rows.iter().map(|row| row.numbers(ticks)).collect();
        let label_width = widest(rows.iter().map(|row| row.label.as_str()), PLAIN, 240.0);
        let number_width = widest(numbers.iter().map(String::as_str), PLAIN, 200.0);
        Self { rows, numbers, label_width, number_width }
    }

    /// Adds the rows below `top`: label, interval, numbers.
    fn draw(&self, svg: &mut Svg, x: &Scale, top: f64) {
        let mut bars = String::new();
        let mut points = String::new();
        for (index, (row, number)) in self.rows.iter().zip(&self.numbers).enumerate() {
            let y = top + (index as f64 + 0.5) * ROW + 2.0;
            svg.text((0.0, y + 4.4), "", &row.label, PLAIN, self.label_width);
            if !row.estimate.is_finite() {
                svg.text((WIDTH, y + 4.4), "small e", number, SMALL, self.number_width);
                continue;
            }
            svg.text((WIDTH, y + 4.4), "e", number, PLAIN, self.number_width);
            row.bar(&mut bars, x, y);
            let _ = write!(points, "M{} {}{}", px(x.at(row.estimate)), px(y), mark(0));
        }
        svg.path("interval s1", &bars);
        svg.path("mark s1", &points);
    }
}

impl IntervalRow {
    /// The estimate and its interval in numbers.
    fn numbers(&self, ticks: &Ticks) -> String {
        if !self.estimate.is_finite() {
            return "no estimate".into();
        }
        let [estimate, low, high] = [self.estimate, self.low, self.high].map(|value| {
            if value.is_finite() {
                ticks.number(value, 1)
            } else if value > 0.0 {
                "∞".into()
            } else {
                "−∞".into()
            }
        });
        format!("{estimate} [{low}, {high}]")
    }

    /// Adds the interval at a height to path data.
    fn bar(&self, data: &mut String, x: &Scale, y: f64) {
        let (from, to) = (end_of(x, self.low), end_of(x, self.high));
        let _ = write!(data, "M{} {}H{}", px(from), px(y), px(to));
        // An end that is not there is an arrow, one that is there a bar.
        for (end, at, way) in [(self.low, from, 1.0), (self.high, to, -1.0)] {
            if end.is_infinite() {
                let (tip, back) = (px(at + 6.0 * way), px(-6.0 * way));
                let ahead = px(6.0 * way);
                let _ = write!(data, "M{tip} {}l{back} 5l{ahead} 5", px(y - 5.0));
            } else {
                let _ = write!(data, "M{} {}v8", px(at), px(y - 4.0));
            }
        }
    }
}

/// The interval with its ends in order, each a number or infinite.
fn tidy(row: &IntervalRow) -> IntervalRow {
    let bound = |end: f64| {
        if end.is_nan() {
            row.estimate
        } else if end.abs() > HUGE {
            f64::INFINITY.copysign(end)
        } else {
            end
        }
    };
    let (low, high) = (bound(row.low), bound(row.high));
    let estimate = if drawable((row.estimate, 0.0)) { row.estimate } else { f64::NAN };
    IntervalRow { label: row.label.clone(), estimate, low: low.min(high), high: high.max(low) }
}

/// Where an end of an interval is; the edge for one that is infinite.
fn end_of(x: &Scale, value: f64) -> f64 {
    if value.is_finite() {
        x.at(value)
    } else if value > 0.0 {
        x.end
    } else {
        x.start
    }
}

#[cfg(test)]
mod tests {
    use super::super::svg::tests::{NASTY, sane};
    use super::*;

    fn interval(label: &str, estimate: f64, low: f64, high: f64) -> IntervalRow {
        IntervalRow { label: label.into(), estimate, low, high }
    }

    #[test]
    fn an_interval_chart_draws_rows_and_marks() {
        let chart = IntervalChart {
            title: "Accuracy kept".into(),
            x: "share of dense accuracy".into(),
            rows: vec![
                interval("topk:0.2", 0.99, 0.981, 1.004),
                interval("topk:0.8", 0.95, 0.93, 0.97),
            ],
            marks: vec![(1.0, "no difference".into()), (0.97, "the paper's".into())],
        };
        let svg = chart.svg();
        sane(&svg);
        assert_eq!(svg.matches("class=\"ref\"").count(), 2);
        assert!(svg.contains(">no difference<") && svg.contains("0.990 [0.981, 1.004]"));
    }

    #[test]
    fn any_intervals_make_a_chart() {
        let (nan, inf) = (f64::NAN, f64::INFINITY);
        let rows = vec![
            interval(&NASTY.repeat(40), 1.0, 0.5, 1.5),
            interval("", nan, 0.0, 1.0),
            interval("open", 1.0, -inf, inf),
            interval("no ends", 1.0, nan, nan),
            interval("swapped", 1.0, 2.0, 0.0),
            interval("huge", 1e300, -1e300, 1e308),
        ];
        let mut marks: Vec<_> = (0..40).map(|i| (i as f64 / 40.0, NASTY.repeat(9))).collect();
        marks.push((nan, "nowhere".into()));
        for count in 0..=rows.len() {
            for many in [0, 1, marks.len()] {
                let chart = IntervalChart {
                    title: NASTY.repeat(40),
                    x: NASTY.into(),
                    rows: rows[..count].to_vec(),
                    marks: marks[..many].to_vec(),
                };
                sane(&chart.svg());
            }
        }
        assert!(IntervalChart { rows, ..IntervalChart::default() }.svg().contains("no estimate"));
        sane(&IntervalChart::default().svg());
    }
}
