//! `crisp devices`: which adapters there are.

use super::{print, print_json, progress};
use crate::error::{Error, Result};
use crate::gpu::{Device, Matrices, adapters};

#[derive(clap::Args)]
pub struct Arguments {
    /// One JSON object per adapter.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments) -> Result<()> {
    let found = adapters();
    if found.is_empty() {
        // Opening one says what to install on this system.
        return Device::open(None).map(|_| ()).and(Err(Error::device("no adapter was found")));
    }
    for (index, adapter) in found.iter().enumerate() {
        if arguments.json {
            print_json(adapter)?;
            continue;
        }
        let mark = if index == 0 { "*" } else { " " };
        print(&format!("{mark} {} ({}, {})", adapter.name, adapter.backend, adapter.kind))?;
        print(&format!("    driver {} {}", adapter.driver, adapter.driver_version))?;
        print(&format!(
            "    buffers up to {}, bindings up to {}, {} storage buffers a kernel, {} of workgroup \
             memory",
            progress::bytes(adapter.max_buffer_bytes),
            progress::bytes(adapter.max_binding_bytes),
            adapter.max_storage_buffers,
            progress::bytes(u64::from(adapter.max_workgroup_bytes)),
        ))?;
        let yes = |flag: bool| if flag { "yes" } else { "no" };
        let [smallest, largest] = adapter.subgroup_sizes;
        let subgroups = match adapter.subgroups {
            true => format!("subgroups of {smallest} to {largest}"),
            false => "no subgroup functions".into(),
        };
        print(&format!(
            "    {subgroups}, half precision: {}, timestamps: {}",
            yes(adapter.shader_f16),
            yes(adapter.timestamps),
        ))?;
        let of = |edge: Option<u32>, element| Some(format!("{}x{} of {element}", edge?, edge?));
        let Matrices { float16, float32 } = adapter.matrices;
        let matrices = [of(float16, "float16"), of(float32, "float32")];
        let matrices: Vec<String> = matrices.into_iter().flatten().collect();
        if !matrices.is_empty() {
            print(&format!("    cooperative matrices: {}", matrices.join(", ")))?;
        }
    }
    if !arguments.json {
        print("* is taken unless --adapter names another")?;
    }
    Ok(())
}
