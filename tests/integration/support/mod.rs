//! What several of the tests need.

pub mod binary;
pub mod transformer;
pub mod trial;
