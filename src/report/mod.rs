//! What people read: tables and timelines. Reads records of what was measured; runs nothing.

mod profile;

pub use profile::{Row, chrome_trace, rows, table};
