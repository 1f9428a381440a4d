//! Studies: several configurations, several seeds each, and what can be said about their
//! difference.

mod analysis;
mod collected;
mod design;
mod page;
mod statistics;
mod sweep;

pub use analysis::{Analysis, Comparison, ConfigurationResult, Discordance};
pub use collected::{Collected, CollectedRun, merge};
pub use design::{Configuration, Run, Shard, Study};
pub use page::{Written, write};
pub use statistics::{
    Interval, PAPER_GAIN_POINTS, PairedDifference, Student, Summary, discordant, mcnemar, median,
    paired, student_quantile, summary, unseen_disagreement, verdict,
};
pub use sweep::{Resources, StudyEvent, run};
