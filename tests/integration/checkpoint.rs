//! Configurations and checkpoints: every layout and type that is read, what is written, and what is
//! refused and with which words.

use crisp::kernels::matmul::Activation;
use crisp::model::checkpoint::{self, Tensor, load, read, save};
use crisp::model::{Config, Encoder, Head, Task, parameter_shapes};
use half::{bf16, f16};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use tempfile::TempDir;

const DIM: usize = 4;

/// One layer, 2 heads of width 2, 5 words, 3 positions.
fn distilbert() -> Value {
    json!({"model_type": "distilbert", "vocab_size": 5, "max_position_embeddings": 3, "dim": DIM,
           "hidden_dim": 6, "n_layers": 1, "n_heads": 2})
}

fn bert() -> Value {
    json!({"model_type": "bert", "vocab_size": 5, "max_position_embeddings": 3, "hidden_size": DIM,
           "intermediate_size": 6, "num_hidden_layers": 1, "num_attention_heads": 2,
           "layer_norm_eps": 1e-7})
}

fn parse(value: &Value) -> Result<Config, String> {
    Config::from_json(Path::new("config.json"), &value.to_string())
        .map_err(|error| error.to_string())
}

fn with(mut base: Value, key: &str, value: Value) -> Value {
    base[key] = value;
    base
}

/// Distinct numbers that float16 and bfloat16 hold exactly.
fn numbers(count: usize, start: usize) -> Vec<f32> {
    (0..count).map(|i| ((start + i) % 128) as f32 / 64.0 - 1.0).collect()
}

fn full(config: &Config) -> Vec<(String, Tensor)> {
    parameter_shapes(config)
        .into_iter()
        .enumerate()
        .map(|(i, (name, shape))| {
            let data = numbers(shape.iter().product(), 7 * i);
            (name, Tensor { shape, data })
        })
        .collect()
}

fn encoder(config: &Config) -> Vec<(String, Tensor)> {
    let mut all = full(config);
    all.truncate(all.len() - 4);
    all
}

fn tensor(shape: &[usize], data: Vec<f32>) -> Tensor {
    Tensor { shape: shape.to_vec(), data }
}

fn dir_with(tensors: &[(String, Tensor)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    save(&dir.path().join("model.safetensors"), tensors, &[]).unwrap();
    dir
}

fn rename(tensors: Vec<(String, Tensor)>, name: impl Fn(&str) -> String) -> Vec<(String, Tensor)> {
    tensors.into_iter().map(|(old, tensor)| (name(&old), tensor)).collect()
}

/// DistilBERT's names as BERT has them.
fn as_bert(name: &str) -> String {
    [
        ("distilbert.", ""),
        ("transformer.layer", "encoder.layer"),
        ("attention.q_lin", "attention.self.query"),
        ("attention.k_lin", "attention.self.key"),
        ("attention.v_lin", "attention.self.value"),
        ("attention.out_lin", "attention.output.dense"),
        ("sa_layer_norm", "attention.output.LayerNorm"),
        ("ffn.lin1", "intermediate.dense"),
        ("ffn.lin2", "output.dense"),
        ("output_layer_norm", "output.LayerNorm"),
    ]
    .iter()
    .fold(name.to_string(), |name, (ours, theirs)| name.replace(ours, theirs))
}

fn fails(dir: &Path, config: &Config) -> String {
    load(dir, config, 1).unwrap_err().to_string()
}

// ---- config.json ----

#[test]
fn absent_keys_have_the_defaults_of_transformers() {
    let config = parse(&json!({"model_type": "distilbert"})).unwrap();
    assert_eq!(
        config,
        Config {
            encoder: Encoder {
                vocab_size: 30522,
                max_positions: 512,
                dim: 768,
                hidden_dim: 3072,
                layers: 6,
                heads: 12,
                activation: Activation::Gelu,
                dropout: 0.1,
                attention_dropout: 0.1,
                initializer_range: 0.02,
                layer_norm_eps: 1e-12,
                pad_token_id: 0,
                sinusoidal_positions: false,
            },
            head: Head::FirstToken { dropout: 0.2 },
            task: Task::Classes { labels: vec!["LABEL_0".into(), "LABEL_1".into()] },
            sparsity: None,
        }
    );
    assert_eq!(config.encoder.head_dim(), 64);
    let bert = parse(&json!({"model_type": "bert", "hidden_dropout_prob": 0.3})).unwrap();
    assert_eq!((bert.encoder.layers, bert.encoder.hidden_dim), (12, 3072));
    assert_eq!(bert.head, Head::FirstToken { dropout: 0.3 });
}

#[test]
fn a_configuration_written_reads_back_the_same() {
    let mut config = parse(&bert()).unwrap();
    assert_eq!(config.encoder.layer_norm_eps, 1e-7);
    config.sparsity = Some("topk:0.8".parse().unwrap());
    let labels = vec!["NEGATIVE".into(), "POSITIVE".into(), "\"neither\"".into()];
    config.task = Task::Classes { labels };
    config.encoder.pad_token_id = 2;
    config.head = Head::FirstToken { dropout: 0.3 };
    config.encoder.activation = Activation::Relu;
    let text = config.to_json();
    assert_eq!(Config::from_json(Path::new("config.json"), &text).unwrap(), config);
    let value: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(value["model_type"], "distilbert");
    assert_eq!(value["architectures"], json!(["DistilBertForSequenceClassification"]));
    assert_eq!(value["id2label"]["1"], "POSITIVE");
    assert_eq!(value["label2id"]["POSITIVE"], 1);
    assert_eq!(value["dropout"].to_string(), "0.1");
    assert_eq!(value["crisp"], json!({"sparsity": "topk:0.8", "layer_norm_eps": 1e-7}));
    // Nothing of ours in the file of a plain model.
    assert!(!parse(&distilbert()).unwrap().to_json().contains("crisp"));
}

#[test]
fn labels_come_from_any_of_the_three_keys() {
    let labels = |key: &str, value: Value| {
        let config = parse(&with(distilbert(), key, value)).unwrap();
        config.task.labels().to_vec()
    };
    assert_eq!(labels("id2label", json!({"1": "b", "0": "a"})), ["a", "b"]);
    assert_eq!(labels("label2id", json!({"b": 1, "a": 0})), ["a", "b"]);
    assert_eq!(labels("num_labels", json!(3)), ["LABEL_0", "LABEL_1", "LABEL_2"]);
}

#[test]
fn what_cannot_be_computed_is_refused_by_key_and_value() {
    for (base, key, value) in [
        (distilbert(), "model_type", json!("roberta")),
        (distilbert(), "activation", json!("gelu_new")),
        (distilbert(), "activation", json!(3)),
        (distilbert(), "n_heads", json!(3)),
        (distilbert(), "n_heads", json!(0)),
        (distilbert(), "n_layers", json!(-1)),
        (distilbert(), "n_layers", json!(2_000_000)),
        (distilbert(), "dim", json!(1.5)),
        (distilbert(), "vocab_size", json!(1_u64 << 40)),
        (distilbert(), "hidden_dim", json!("6")),
        (distilbert(), "dropout", json!(1.0)),
        (distilbert(), "attention_dropout", json!(-0.1)),
        (distilbert(), "seq_classif_dropout", json!(true)),
        (distilbert(), "initializer_range", json!(0.0)),
        (distilbert(), "pad_token_id", json!(5)),
        (distilbert(), "id2label", json!({"0": "a", "2": "b"})),
        (distilbert(), "id2label", json!({"0": "a", "1": "a"})),
        (distilbert(), "label2id", json!({"a": 0, "b": 0})),
        (distilbert(), "num_labels", json!(1)),
        (distilbert(), "problem_type", json!("regression")),
        (distilbert(), "crisp", json!("topk")),
        (distilbert(), "crisp", json!({"sparsity": "top:0.8"})),
        (bert(), "hidden_act", json!("gelu_pytorch_tanh")),
        (bert(), "position_embedding_type", json!("relative_key")),
        (bert(), "is_decoder", json!(true)),
        (bert(), "layer_norm_eps", json!(0)),
    ] {
        let error = parse(&with(base, key, value.clone())).unwrap_err();
        assert!(error.starts_with("config.json: "), "{error}");
        assert!(error.contains(key), "{key}: {error}");
        let value = value.to_string();
        let named = value.starts_with('{') || error.contains(value.trim_matches('"'));
        assert!(named, "{value}: {error}");
    }
    // Each size is fine, their product is not.
    let large = with(distilbert(), "dim", json!(1 << 20));
    let error = parse(&with(large, "vocab_size", json!(1 << 20))).unwrap_err();
    assert!(error.contains("1099511627776 elements"), "{error}");
    for text in ["", "{", "[]", "3", "{\"model_type\": null}"] {
        Config::from_json(Path::new("config.json"), text).unwrap_err();
    }
}

// ---- Reading ----

#[test]
fn a_checkpoint_round_trip_keeps_every_bit() {
    let config = parse(&distilbert()).unwrap();
    let mut tensors = full(&config);
    tensors[0].1.data[3] = f32::from_bits(1);
    tensors[0].1.data[4] = -0.0;
    let dir = dir_with(&tensors);
    let loaded = load(dir.path(), &config, 1).unwrap();
    assert!(loaded.fresh.is_empty() && loaded.unused.is_empty());
    assert_eq!(loaded.parameters, tensors);
    assert_eq!(loaded.parameters[0].1.data[4].to_bits(), (-0.0f32).to_bits());
    // Plain reading, in the order of writing, with bytes that depend on the content alone.
    let path = dir.path().join("model.safetensors");
    let first = fs::read(&path).unwrap();
    let metadata = [("b", "2"), ("a", "1"), ("c", "3")];
    save(&path, &tensors, &metadata).unwrap();
    assert_eq!(read(&path).unwrap(), tensors);
    let second = fs::read(&path).unwrap();
    save(&path, &tensors, &metadata).unwrap();
    assert_eq!(fs::read(&path).unwrap(), second);
    assert_ne!(first, second);
    assert!(second.windows(13).any(|bytes| bytes == b"\"format\":\"pt\""));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

/// The same numbers in another type, through the safetensors crate.
fn write_as(path: &Path, tensors: &[(String, Tensor)], dtype: Dtype) {
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, tensor)| {
            let of = |x: &f32| match dtype {
                Dtype::F16 => f16::from_f32(*x).to_le_bytes().to_vec(),
                Dtype::BF16 => bf16::from_f32(*x).to_le_bytes().to_vec(),
                Dtype::F64 => f64::from(*x).to_le_bytes().to_vec(),
                _ => x.to_le_bytes().to_vec(),
            };
            tensor.data.iter().flat_map(of).collect()
        })
        .collect();
    let views = tensors.iter().zip(&bytes).map(|((name, tensor), bytes)| {
        let view = TensorView::new(dtype, tensor.shape.clone(), bytes).unwrap();
        (name.as_str(), view)
    });
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

#[test]
fn three_types_are_read_and_others_refused() {
    let config = parse(&distilbert()).unwrap();
    let tensors = full(&config);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
        write_as(&path, &tensors, dtype);
        assert_eq!(load(dir.path(), &config, 1).unwrap().parameters, tensors);
    }
    write_as(&path, &tensors, Dtype::F64);
    let error = fails(dir.path(), &config);
    assert!(error.contains("stored as F64"), "{error}");
    assert!(read(&path).unwrap_err().to_string().contains("F64"));
}

#[test]
fn every_layout_of_distilbert_is_read() {
    let config = parse(&distilbert()).unwrap();
    let whole = full(&config);
    let encoder = encoder(&config);
    let bare = rename(encoder.clone(), |name| name.replace("distilbert.", ""));
    let mut masked = encoder.clone();
    masked.push(("vocab_projector.bias".into(), tensor(&[5], numbers(5, 0))));
    for (tensors, unused) in [(bare, vec![]), (masked, vec!["vocab_projector.bias"])] {
        let dir = dir_with(&tensors);
        let loaded = load(dir.path(), &config, 1).unwrap();
        assert_eq!(loaded.parameters[..encoder.len()], encoder);
        assert_eq!(loaded.fresh.len(), 4);
        assert!(loaded.fresh.iter().all(|name| name.contains("classifier")));
        assert_eq!(loaded.unused, unused);
        // The head is the one that this seed gives, whatever else is drawn.
        let empty = tempfile::tempdir().unwrap();
        let all = load(empty.path(), &config, 1).unwrap();
        assert_eq!(loaded.parameters[encoder.len()..], all.parameters[encoder.len()..]);
    }
    // In two files, with the layers apart from the embeddings.
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = whole.split_at(4);
    let mut map = serde_json::Map::new();
    for (file, part) in
        [("model-00001-of-00002.safetensors", a), ("model-00002-of-00002.safetensors", b)]
    {
        save(&dir.path().join(file), part, &[]).unwrap();
        map.extend(part.iter().map(|(name, _)| (name.clone(), file.into())));
    }
    let index = dir.path().join("model.safetensors.index.json");
    fs::write(&index, json!({"weight_map": map}).to_string()).unwrap();
    assert_eq!(load(dir.path(), &config, 1).unwrap().parameters, whole);
    map.insert("classifier.scale".into(), "model-00002-of-00002.safetensors".into());
    fs::write(&index, json!({"weight_map": map}).to_string()).unwrap();
    assert!(fails(dir.path(), &config).contains("classifier.scale"));
    fs::remove_file(dir.path().join("model-00002-of-00002.safetensors")).unwrap();
    assert!(fails(dir.path(), &config).contains("model-00002"));
    for bad in ["{", "{}", r#"{"weight_map": {"a": "../x.safetensors"}}"#] {
        fs::write(&index, bad).unwrap();
        assert!(fails(dir.path(), &config).contains("index.json"));
    }
}

#[test]
fn a_bert_becomes_a_distilbert_with_its_segment_folded_in() {
    let config = parse(&bert()).unwrap();
    let encoder = encoder(&config);
    let segment = numbers(2 * DIM, 50);
    let mut expected = encoder.clone();
    for (i, x) in expected[1].1.data.iter_mut().enumerate() {
        *x += segment[i % DIM];
    }
    let mut tensors = rename(encoder, as_bert);
    tensors.push(("embeddings.token_type_embeddings.weight".into(), tensor(&[2, DIM], segment)));
    tensors.push(("pooler.dense.bias".into(), tensor(&[DIM], numbers(DIM, 0))));
    let old_names = |name: &str| match name.contains("LayerNorm") {
        true => name.replace("weight", "gamma").replace("bias", "beta"),
        false => name.to_string(),
    };
    for (tensors, prefix) in [
        (tensors.clone(), ""),
        (rename(tensors.clone(), |name| format!("bert.{name}")), "bert."),
        (rename(tensors, old_names), ""),
    ] {
        let mut tensors = tensors;
        // Of the right shape, and yet not DistilBERT's: the layer before it is another function.
        tensors.push(("classifier.weight".into(), tensor(&[2, DIM], numbers(2 * DIM, 0))));
        let dir = dir_with(&tensors);
        let loaded = load(dir.path(), &config, 1).unwrap();
        assert_eq!(loaded.parameters[..expected.len()], expected);
        assert_eq!(loaded.fresh.len(), 4);
        assert_eq!(
            loaded.unused,
            [format!("{prefix}pooler.dense.bias"), "classifier.weight".into()]
        );
        // The same in two files, the first without a name that only BERT has.
        let sharded = tempfile::tempdir().unwrap();
        let mut map = serde_json::Map::new();
        let (a, b) = tensors.split_at(4);
        for (file, part) in [("a.safetensors", a), ("b.safetensors", b)] {
            save(&sharded.path().join(file), part, &[]).unwrap();
            map.extend(part.iter().map(|(name, _)| (name.clone(), file.into())));
        }
        let index = sharded.path().join("model.safetensors.index.json");
        fs::write(index, json!({"weight_map": map}).to_string()).unwrap();
        let again = load(sharded.path(), &config, 1).unwrap();
        assert_eq!(again.parameters, loaded.parameters);
    }
}

// ---- Fresh parameters ----

#[test]
fn without_weights_everything_is_drawn_as_documented() {
    let mut config = parse(&json!({"model_type": "distilbert", "vocab_size": 4000, "dim": 64,
        "n_heads": 2, "hidden_dim": 96, "n_layers": 1, "max_position_embeddings": 8,
        "pad_token_id": 3, "initializer_range": 0.5}))
    .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let loaded = load(dir.path(), &config, 7).unwrap();
    let shapes = parameter_shapes(&config);
    assert_eq!(loaded.fresh.len(), shapes.len());
    for ((name, tensor), (expected, shape)) in loaded.parameters.iter().zip(&shapes) {
        assert_eq!((name, &tensor.shape), (expected, shape));
        assert_eq!(tensor.data.len(), shape.iter().product::<usize>());
    }
    let get = |loaded: &checkpoint::Loaded, wanted: &str| {
        let mut all = loaded.parameters.iter();
        all.find(|(name, _)| name.ends_with(wanted)).unwrap().1.data.clone()
    };
    assert!(get(&loaded, "lin1.bias").iter().all(|x| *x == 0.0));
    assert!(get(&loaded, "sa_layer_norm.weight").iter().all(|x| *x == 1.0));
    assert!(get(&loaded, "LayerNorm.bias").iter().all(|x| *x == 0.0));
    let words = get(&loaded, "word_embeddings.weight");
    assert!(words[3 * 64..4 * 64].iter().all(|x| *x == 0.0));
    assert!(words[..3 * 64].iter().all(|x| *x != 0.0));
    // Moments of a normal distribution: 256,000 draws put them within a percent.
    let moment = |power: i32| {
        let sum: f64 = words.iter().map(|x| f64::from(*x / 0.5).powi(power)).sum();
        sum / (words.len() - 64) as f64
    };
    assert!(moment(1).abs() < 0.01, "{}", moment(1));
    assert!((moment(2) - 1.0).abs() < 0.01, "{}", moment(2));
    assert!((moment(4) - 3.0).abs() < 0.06, "{}", moment(4));
    // Neighbours are independent.
    let pairs = words.chunks_exact(2).map(|pair| f64::from(pair[0] * pair[1]) / 0.25);
    assert!((pairs.sum::<f64>() / (words.len() / 2) as f64).abs() < 0.01);

    let same = load(dir.path(), &config, 7).unwrap();
    assert_eq!(same.parameters, loaded.parameters);
    let other = load(dir.path(), &config, 8).unwrap();
    assert_ne!(get(&other, "q_lin.weight"), get(&loaded, "q_lin.weight"));
    assert_ne!(get(&loaded, "k_lin.weight"), get(&loaded, "q_lin.weight"));
    // A smaller vocabulary is a prefix, and changes no other parameter.
    config.encoder.vocab_size = 100;
    config.encoder.sinusoidal_positions = true;
    let smaller = load(dir.path(), &config, 7).unwrap();
    assert_eq!(get(&smaller, "word_embeddings.weight"), words[..6400]);
    assert_eq!(get(&smaller, "lin2.weight"), get(&loaded, "lin2.weight"));
    let positions = get(&smaller, "position_embeddings.weight");
    assert_eq!(positions[..4], [0.0, 1.0, 0.0, 1.0]);
    let angle = 5.0 / 10_000f64.powf(2.0 / 64.0);
    assert!((f64::from(positions[5 * 64 + 2]) - angle.sin()).abs() < 1e-7);
    assert!((f64::from(positions[5 * 64 + 3]) - angle.cos()).abs() < 1e-7);
}

#[test]
fn fresh_parameters_are_the_same_on_every_platform_and_in_every_version() {
    let config = parse(&distilbert()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let loaded = load(dir.path(), &config, 42).unwrap();
    let (name, head) = &loaded.parameters[loaded.parameters.len() - 2];
    assert_eq!(name, "classifier.weight");
    let bits: Vec<u32> = head.data.iter().take(4).map(|x| x.to_bits()).collect();
    assert_eq!(bits, FIRST_OF_SEED_42, "{:?}", &head.data[..4]);
}

/// Computed apart from this crate, from the description of the generator.
const FIRST_OF_SEED_42: [u32; 4] = [3163000910, 1006705817, 3162664523, 1003499291];

// ---- Refusals ----

#[test]
fn damaged_files_are_errors_and_never_a_panic() {
    let config = parse(&distilbert()).unwrap();
    let dir = dir_with(&full(&config));
    let path = dir.path().join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    for length in [0, 4, 8, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&path, &whole[..length]).unwrap();
        let error = fails(dir.path(), &config);
        assert!(error.contains("model.safetensors"), "{error}");
        assert!(error.contains("cut off or damaged"), "{error}");
        read(&path).unwrap_err();
    }
    let mut longer = whole.clone();
    longer.push(0);
    fs::write(&path, &longer).unwrap();
    fails(dir.path(), &config);
    // Any single byte of the header changed: an error or a reading, no panic.
    for at in 0..200 {
        let mut changed = whole.clone();
        changed[at] ^= 0x15;
        fs::write(&path, &changed).unwrap();
        let _ = load(dir.path(), &config, 1);
    }
    fs::write(&path, "version https://git-lfs.github.com/spec/v1\n").unwrap();
    assert!(fails(dir.path(), &config).contains("git lfs pull"));
}

#[test]
fn tensors_that_do_not_fit_are_named_with_both_shapes() {
    let config = parse(&distilbert()).unwrap();
    let mut tensors = full(&config);
    tensors[0].1 = tensor(&[6, DIM], numbers(6 * DIM, 0));
    let error = fails(dir_with(&tensors).path(), &config);
    for part in ["word_embeddings.weight", "[6, 4]", "[5, 4]"] {
        assert!(error.contains(part), "{error}");
    }
    // More labels in config.json than in the classifier.
    let three = parse(&with(distilbert(), "num_labels", json!(3))).unwrap();
    let error = fails(dir_with(&full(&config)).path(), &three);
    for part in ["classifier.weight", "[2, 4]", "[3, 4]", "LABEL_2"] {
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn numbers_that_are_not_finite_are_named() {
    let config = parse(&distilbert()).unwrap();
    for (value, shown) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf")] {
        let mut tensors = full(&config);
        tensors[5].1.data[2] = value;
        let dir = dir_with(&tensors);
        let error = fails(dir.path(), &config);
        assert!(error.contains(&tensors[5].0), "{error}");
        assert!(error.contains(&format!("element 2: {shown}")), "{error}");
        // Where it may mean something, it is passed on.
        read(&dir.path().join("model.safetensors")).unwrap();
    }
}

#[test]
fn what_an_encoder_lacks_is_listed() {
    let config = parse(&distilbert()).unwrap();
    let mut tensors = full(&config);
    let (gone, _) = tensors.remove(7);
    let error = fails(dir_with(&tensors).path(), &config);
    assert!(error.contains("1 tensor(s)") && error.contains(&gone), "{error}");
    // A configuration with more layers than the checkpoint.
    let deeper = parse(&with(distilbert(), "n_layers", json!(2))).unwrap();
    let error = fails(dir_with(&full(&config)).path(), &deeper);
    assert!(error.contains("16 tensor(s)") && error.contains("8 more"), "{error}");
    // BERT without the embedding of segments.
    let bert_config = parse(&bert()).unwrap();
    let tensors = rename(encoder(&bert_config), as_bert);
    let error = fails(dir_with(&tensors).path(), &bert_config);
    assert!(error.contains("token_type_embeddings"), "{error}");
    let other = [("h.0.attn.weight".to_string(), tensor(&[1], vec![0.0]))];
    let error = fails(dir_with(&other).path(), &config);
    assert!(error.contains("does not look like"), "{error}");
    assert!(error.contains("h.0.attn.weight"), "{error}");
    assert!(fails(dir_with(&[]).path(), &config).contains("does not look like"));
}

#[test]
fn two_tensors_for_one_parameter_are_an_error() {
    let config = parse(&distilbert()).unwrap();
    let mut tensors = full(&config);
    let (name, first) = tensors[0].clone();
    tensors.push((name.replace("distilbert.", ""), first));
    assert!(fails(dir_with(&tensors).path(), &config).contains("both stand for"));
}

#[test]
fn weights_in_another_format_are_not_passed_over() {
    let config = parse(&distilbert()).unwrap();
    for (name, says) in [
        ("pytorch_model.bin", "save_pretrained"),
        ("tf_model.h5", "safetensors"),
        ("adapter_model.safetensors", "merge"),
        ("weights.safetensors", "Rename"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(name), "x").unwrap();
        let error = fails(dir.path(), &config);
        assert!(error.contains(name) && error.contains(says), "{error}");
    }
    let nowhere = Path::new("no/such/directory");
    assert!(fails(nowhere, &config).contains("no such directory"));
    assert!(Config::load(nowhere).unwrap_err().to_string().contains("no such directory"));
}

#[test]
fn what_cannot_be_saved_leaves_the_old_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.safetensors");
    let good = ("a".to_string(), tensor(&[2], vec![1.0, 2.0]));
    save(&path, std::slice::from_ref(&good), &[]).unwrap();
    let bad = ("b".to_string(), tensor(&[3], vec![1.0]));
    for wrong in [vec![good.clone(), bad], vec![good.clone(), good.clone()]] {
        save(&path, &wrong, &[]).unwrap_err();
        assert_eq!(read(&path).unwrap(), std::slice::from_ref(&good));
    }
    save(&dir.path().join("no/such/x.safetensors"), &[good], &[]).unwrap_err();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}
