//! A training step of a small DistilBERT (4 layers of 128) on 32 sentences of 13 tokens, as SST-2
//! has them.
//!
//! `cargo bench --bench step`; `crisp bench step` takes any model and data.

use crisp::data::Encoded;
use crisp::engine::Prepared;
use crisp::gpu::Device;
use crisp::graph::{Role, Session};
use crisp::kernels::Scalars;
use crisp::model::{Config, checkpoint, parameters};
use crisp::sparsity::Policy;
use crisp::train::{Settings, Trainer};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::collections::HashMap;
use std::path::Path;

const CONFIG: &str = r#"{"model_type": "distilbert", "dim": 128, "n_heads": 2, "n_layers": 4,
    "hidden_dim": 512, "vocab_size": 1000, "max_position_embeddings": 128, "activation": "gelu"}"#;

fn step(criterion: &mut Criterion) {
    let config = Config::from_json(Path::new("config.json"), CONFIG).expect("a configuration");
    let mut session = Session::new(Device::open(None).unwrap_or_else(|why| panic!("{why}")));
    let loaded = checkpoint::fresh(&config, 1);
    let tensors: HashMap<&str, &checkpoint::Tensor> =
        loaded.parameters.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    for parameter in parameters(&config) {
        let values = parameter.gather(&tensors).expect("every parameter");
        session
            .set(&parameter.name, Role::Weight, &parameter.shape, &values)
            .expect("room on the device");
    }
    let sentences: Vec<Encoded> = (0..32u32)
        .map(|sentence| Encoded {
            ids: (0..13).map(|place| (sentence * 131 + place * 17) % 1000).collect(),
            label: Some(sentence % 2),
        })
        .collect();
    let mut group = criterion.benchmark_group("step");
    group.sample_size(10).throughput(Throughput::Elements(32));
    for text in ["dense", "topk:0.8", "block-topk:0.8,block=8"] {
        let policy: Policy = text.parse().expect("a policy");
        let rules = policy.training().for_layers(config.encoder.layers).expect("rules");
        let prepared =
            Prepared::new(&sentences.iter().collect::<Vec<_>>(), &rules).expect("a batch");
        let largest = prepared.sizes();
        let parts = [prepared];
        let settings = Settings::default();
        let mut trainer = Trainer::new(&mut session, &config, &policy, &settings, largest)
            .expect("a training step");
        let scalars = Scalars { seed: 42, step: 1, learning_rate: 1e-6, ..Scalars::default() };
        group.bench_function(text, |bencher| {
            bencher.iter(|| {
                let pending = trainer.step(&session, &parts, scalars).expect("a step");
                trainer.finish(&session, pending, &parts).expect("its loss")
            });
        });
    }
}

criterion_group!(benches, step);
criterion_main!(benches);
