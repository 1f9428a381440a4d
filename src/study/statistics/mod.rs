//! Does one way of attending score differently from another? Paired differences over seeds and
//! examples, intervals for them, McNemar's test, and a verdict in words.
//!
//! Pure functions of numbers: no files, no device, and the same seed gives the same result.

mod bootstrap;
mod distribution;
mod paired;
mod summary;
mod two_way;
mod verdict;

pub use distribution::{Student, discordant, mcnemar, student_quantile, unseen_disagreement};
pub use paired::{PairedDifference, paired};
pub use summary::{Interval, Summary, median, summary};
pub use verdict::{PAPER_GAIN_POINTS, verdict};
