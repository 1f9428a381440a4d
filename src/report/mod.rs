//! What people read: tables, timelines, plots and pages. Reads records of what was measured; runs
//! nothing.

pub mod attention_map;
pub mod chart;
pub mod page;
mod parts;
mod profile;
mod run;

pub use parts::{
    adapter_name, curve, heads_figures, layers_figures, operations_table, record_pairs,
    sparsity_table,
};
pub use profile::{Row, chrome_trace, rows, table};
pub use run::{attention_page, run_page};
