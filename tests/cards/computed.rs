//! Products by cooperative matrices, computed without a card: lavapipe has such matrices since
//! Mesa 26, of float16 with sums in float32. The texts for cards are the same but for constants.

use super::drivers::script;
use crisp::gpu::Device;
use crisp::graph::Session;
use crisp::measure::doctor::examine;
use std::path::Path;

/// A driver that computes.
const LAVAPIPE: &str = "sid/lavapipe";

/// What a variant by cooperative matrices is called.
const BY_MATRICES: &str = "matmul_matrices";

/// Holds every product that the first Vulkan device can compute against float64, as `crisp doctor`
/// does, and prints how many there are by cooperative matrices and their largest error.
///
/// # Errors
/// One is wrong, or none is by such matrices.
pub fn print_products() -> Result<(), String> {
    let device = Device::open(None).map_err(|why| why.to_string())?;
    let name = device.adapter.name.clone();
    let mut session = Session::new(device);
    let found = examine(&mut session, "product", |_| ()).map_err(|why| why.to_string())?;
    let wrong = found.kernels.iter().filter(|kernel| !kernel.passed);
    let wrong: Vec<&str> = wrong.map(|kernel| kernel.variant.as_str()).collect();
    if !wrong.is_empty() {
        return Err(format!("{name} does not compute what it should: {}", wrong.join("; ")));
    }
    let by_matrices = found.kernels.iter().filter(|it| it.variant.contains(BY_MATRICES));
    let errors: Vec<f64> = by_matrices.filter_map(|kernel| kernel.max_error).collect();
    if errors.is_empty() {
        return Err(format!("{name} has no cooperative matrices"));
    }
    let largest = errors.iter().copied().fold(0.0, f64::max);
    println!("{} products by cooperative matrices, error at most {largest:.1e}", errors.len());
    Ok(())
}

/// Starts this program for that under lavapipe, and says what it has found.
///
/// # Errors
/// As [`print_products`], or the driver cannot be started.
pub fn products(program: &Path) -> Result<String, String> {
    let mut command = script();
    command.args(["run", LAVAPIPE]).arg(program).arg("products");
    // It has sound matrices in vectors of this size only.
    command.env("LP_NATIVE_VECTOR_WIDTH", "256");
    let output = command.output().map_err(|why| format!("{LAVAPIPE}: {command:?}: {why}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    match output.status.success() {
        true => Ok(format!("{LAVAPIPE} computes {}", text(&output.stdout))),
        false => Err(format!("{LAVAPIPE}: {}", text(&output.stderr))),
    }
}
