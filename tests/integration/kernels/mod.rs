//! Every kernel against a float64 reference, through the graph that a model uses: forward, and the
//! gradient with a random gradient from above. The reference's own gradient is held against central
//! differences of its forward, so that both cannot be wrong in the same way unseen.
//!
//! One file per family, named as the shaders and `src/kernels/` name it. Every op runs with the
//! kernels of both targets, on whichever adapter is there; without one the tests fail and say why.

mod attention;
mod column_sum;
mod cross_entropy;
mod embedding;
mod first_token;
mod graph;
mod layer_norm;
mod mask;
mod matmul;
mod normed;
mod optimizer;
mod pointwise;
mod reference;
