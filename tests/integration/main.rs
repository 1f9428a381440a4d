//! All tests of the library and the binary from outside, in one program: it is linked once.
//!
//! One module per subject; `cargo test --release --test integration shaders` runs one of them.
//! Every test that computes needs an adapter (a software one will do); without one it fails and
//! says why.

mod accumulation;
mod cards;
mod checkpoint;
mod command_line;
mod data;
mod device_loss;
mod doctor;
mod features;
mod floors;
mod front_door;
mod hub;
mod kernels;
mod late_updates;
mod measuring;
mod memory;
mod mixed;
mod parity;
mod shaders;
mod study;
mod support;
mod tuning;
