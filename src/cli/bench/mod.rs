//! `crisp bench`: what this adapter takes for a kernel, or for a whole step.

mod attention;
mod matmul;
mod step;

use super::Common;
use crate::error::Result;

#[derive(clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// One matrix product, float32.
    Matmul(matmul::Arguments),
    /// Attention over a mask, forward and backward, beside dense attention.
    Attention(attention::Arguments),
    /// A step of training, or of evaluation.
    Step(step::Arguments),
}

pub fn run(arguments: Arguments, common: &Common) -> Result<()> {
    match arguments.what {
        What::Matmul(arguments) => matmul::run(arguments, common),
        What::Attention(arguments) => attention::run(arguments, common),
        What::Step(arguments) => step::run(arguments, common),
    }
}
