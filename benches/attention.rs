//! Attention of 12 heads of 64, mask, forward and backward, by policy and length.
//!
//! `cargo bench --bench attention`; `crisp bench attention` says what of it is mask, forward and
//! backward.

use crisp::gpu::Device;
use crisp::graph::Session;
use crisp::kernels::Heads;
use crisp::measure::AttentionBench;
use crisp::sparsity::Policy;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

fn attention(criterion: &mut Criterion) {
    let mut session = Session::new(Device::open(None).unwrap_or_else(|why| panic!("{why}")));
    let heads = Heads { count: 12, dim: 64 };
    let mut group = criterion.benchmark_group("attention");
    group.sample_size(10);
    for length in [16, 128, 512] {
        for text in ["dense", "topk:0.8", "block-topk:0.8", "local:32", "random:0.8"] {
            let policy: Policy = text.parse().expect("a policy");
            let rules = policy.for_layers(1).expect("a rule");
            let mut bench = AttentionBench::new(&mut session, &rules, heads, length, 4)
                .expect("attention on the device");
            group.bench_function(BenchmarkId::new(text, length), |bencher| {
                bencher.iter(|| {
                    let pending = bench.run(&session).expect("a run");
                    pending.wait::<u32>(&session.device).expect("its end")
                });
            });
        }
    }
}

criterion_group!(benches, attention);
criterion_main!(benches);
