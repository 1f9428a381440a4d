//! Studies: several configurations, several seeds each, and what can be said about their difference.

mod analysis;
mod page;
mod statistics;
mod sweep;

pub use analysis::{Analysis, Comparison, ConfigurationResult, Discordance};
pub use page::{Written, write};
pub use statistics::{
    Interval, PAPER_GAIN_POINTS, PairedDifference, Student, Summary, discordant, mcnemar, median,
    paired, student_quantile, summary, unseen_disagreement, verdict,
};
pub use sweep::{
    Collected, CollectedRun, Configuration, Resources, Run, Shard, Study, StudyEvent, merge, run,
};
