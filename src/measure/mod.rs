//! Parts of a model measured by themselves on the adapter: products, which are tuned by it, and
//! attention.

mod attention;
pub mod doctor;
mod products;
pub mod reference;
mod tuning_file;

pub use attention::{AttentionBench, tune_attention};
pub use products::{ProductBench, tune};
pub use tuning_file::{export_tuning, import_tuning, load_tuning, save_tuning};
