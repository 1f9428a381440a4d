//! One op by itself: a graph, its gradient, a program, and a look at what it computes.
//!
//! ```sh
//! cargo run --release --example one_kernel
//! ```

use crisp::Result;
use crisp::gpu::Device;
use crisp::graph::ops::{self, Affine};
use crisp::graph::{Graph, Program, Seed, Session, Step, gradients};
use crisp::kernels::{Element, Scalars, Size, Sizes, Symbol};

fn main() -> Result<()> {
    let [y, dx] = run(&[1.0, 2.0, 3.0, 4.0, -4.0, 0.0, 2.0, 2.0])?;
    println!("LayerNorm {y:?}\nits gradient {dx:?}");
    Ok(())
}

/// LayerNorm of `x [tokens, 4]`, and the gradient of x where that of the result is 1, 0, 0, 0 in
/// each row.
pub fn run(x: &[f32]) -> Result<[Vec<f32>; 2]> {
    let mut session = Session::new(Device::open(None)?);
    let mut graph = Graph::new();
    let columns = Size::from(4u32);
    let shape = [Symbol::Tokens.into(), columns];
    let input = graph.input("x", Element::F32, shape);
    let from_above = graph.input("dy", Element::F32, shape);
    let affine = Affine {
        weight: graph.input("weight", Element::F32, [columns]),
        bias: graph.input("bias", Element::F32, [columns]),
    };
    let y = ops::layer_norm(&mut graph, input, None, affine, 1e-5)?;
    let found = gradients(&mut graph, y, Seed::Tensor(from_above))?;

    // Planned for these many rows; it runs for any number up to that.
    let tokens = (x.len() / 4) as u32;
    let largest = Sizes { tokens, ..Sizes::default() };
    let outputs = [y, found[&input]];
    let mut program = Program::build(&mut session, &graph, largest, &outputs, 1)?;

    let dy: Vec<f32> = (0..x.len()).map(|at| if at % 4 == 0 { 1.0 } else { 0.0 }).collect();
    let words = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    let [x, dy, ones, zeros] = [words(x), words(&dy), words(&[1.0; 4]), words(&[0.0; 4])];
    let inputs: [(_, &[u32]); 4] =
        [(input, &x), (from_above, &dy), (affine.weight, &ones), (affine.bias, &zeros)];
    let step = Step { sizes: largest, scalars: Scalars::default(), inputs: &inputs };
    let mut results = program.run(&session, &step)?.wait::<f32>(&session.device)?.into_iter();
    Ok([results.next().unwrap_or_default(), results.next().unwrap_or_default()])
}
