//! Charts as SVG: lines over steps, and intervals around estimates.

mod axis;
mod intervals;
mod lines;
pub(super) mod svg;

pub use intervals::{IntervalChart, IntervalRow};
pub use lines::{LineChart, Series};
pub use svg::standalone;
