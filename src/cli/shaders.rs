//! `crisp shaders`: the complete shader texts that a model takes, as files. Needs no adapter.

use super::{print, source};
use crate::error::Result;
use crate::train::Shaders;
use std::path::PathBuf;

#[derive(clap::Args)]
pub struct Arguments {
    /// A new or an empty directory; `shaders.json` in it will say which file is which kernel with
    /// which constants, and what uses it.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// A directory in Hugging Face layout, a hub id, or `quickstart`.
    #[arg(long, value_name = "M", default_value = source::QUICKSTART)]
    model: String,
    /// The texts of models of usual and of odd shapes, and all that `crisp tune` chooses from.
    #[arg(long, conflicts_with = "model")]
    all: bool,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let shaders = match arguments.all {
        true => Shaders::all()?,
        false => Shaders::of_model(&source::config(&arguments.model)?)?,
    };
    let count = shaders.write(&arguments.directory)?;
    print(&format!("{count} shaders in {}", arguments.directory.display()))
}
