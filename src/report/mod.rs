//! What people read: tables, timelines, plots and pages. Reads records of what was measured; runs nothing.

pub mod attention_map;
pub mod chart;
pub mod page;
mod profile;
mod run;

pub use profile::{Row, chrome_trace, rows, table};
pub use run::{
    SparsityTable, adapter_name, attention_page, curve, heads_figures, layers_figures,
    operations_table, record_pairs, run_page,
};
