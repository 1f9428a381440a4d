//! Matrix products at the sizes of DistilBERT-base on 512 tokens, in the three transpositions.
//!
//! `cargo bench --bench matmul`; the throughput is in operations (shown as elements) per second.

use crisp::gpu::Device;
use crisp::graph::Session;
use crisp::kernels::matmul::{Products, Transposition};
use crisp::kernels::tune::ProductClass;
use crisp::kernels::{Element, Sizes};
use crisp::measure::ProductBench;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::time::Duration;

fn products(criterion: &mut Criterion) {
    let mut session = Session::new(Device::open(None).unwrap_or_else(|why| panic!("{why}")));
    let mut group = criterion.benchmark_group("matmul");
    group.sample_size(10);
    for (transposition, sizes) in [
        (Transposition::Nt, [512, 2304, 768]),
        (Transposition::Nt, [512, 768, 768]),
        (Transposition::Nt, [512, 3072, 768]),
        (Transposition::Nt, [512, 768, 3072]),
        (Transposition::Nn, [512, 768, 3072]),
        (Transposition::Nn, [512, 3072, 768]),
        (Transposition::Tn, [768, 768, 512]),
        (Transposition::Tn, [3072, 768, 512]),
    ] {
        let products = Products::One(transposition);
        let class = ProductClass { products, sizes, factors: Element::F32 };
        let variant = session.tuning.products(class.into(), &Sizes::default());
        let mut bench = ProductBench::new(&mut session, class).expect("factors on the device");
        let mut once = bench.plan(variant, 1).expect("a kernel that compiles");
        group.throughput(Throughput::Elements(2 * sizes.iter().product::<u64>()));
        group.bench_function(class.to_string(), |bencher| {
            bencher.iter_custom(|iterations| {
                let seconds = |_| bench.time(&mut once).expect("a product");
                Duration::from_secs_f64((0..iterations).map(seconds).sum())
            });
        });
    }
}

criterion_group!(benches, products);
criterion_main!(benches);
