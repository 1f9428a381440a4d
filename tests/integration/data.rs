//! Data sets, tokenizer and packed batches, on small files written here.

use crisp::data::{Batch, Dataset, Encoded, Split, Tokenizer, batches, epoch_order};
use crisp::error::Kind;
use crisp::kernels::Sizes;
use crisp::train::{Batches, Settings};
use proptest::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A directory that is removed with the test, and a file in it.
fn file(name: &str, content: impl AsRef<[u8]>) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    fs::write(&path, content).unwrap();
    (directory, path)
}

fn names() -> Vec<String> {
    vec!["negative".into(), "positive".into()]
}

fn load(name: &str, content: impl AsRef<[u8]>, split: Split) -> Result<Dataset, String> {
    let (_directory, path) = file(name, content);
    Dataset::load(&path, split, &names()).map_err(|error| error.to_string())
}

fn rows(data: &Dataset) -> Vec<(&str, Option<u32>)> {
    data.examples.iter().map(|example| (example.text.as_str(), example.label)).collect()
}

/// Loads a training file that must be refused, and checks that the message says all of `parts`.
#[track_caller]
fn refused(name: &str, content: impl AsRef<[u8]>, parts: &[&str]) {
    let message = load(name, content, Split::Train).expect_err("the file should be refused");
    for part in parts.iter().chain([&name, &"\n  "]) {
        assert!(message.contains(part), "{part:?} is not in:\n{message}");
    }
}

mod dataset {
    use super::*;

    #[test]
    fn splits_have_names_and_synonyms() {
        for (name, split) in [
            ("train", Split::Train),
            ("validation", Split::Validation),
            ("dev", Split::Validation),
            ("test", Split::Test),
        ] {
            assert_eq!(name.parse::<Split>().unwrap(), split);
            assert_eq!(split.to_string().parse::<Split>().unwrap(), split);
        }
        let error = "Train".parse::<Split>().unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
        assert!(error.to_string().contains("\"Train\""));
    }

    #[test]
    fn tsv_keeps_quotes_and_spaces() {
        let text = "sentence\tlabel\nsays \"no , twice \t0\n\"quoted\" \t1\n ' \tpositive\n";
        let data = load("train.tsv", text, Split::Train).unwrap();
        assert_eq!(
            rows(&data),
            [("says \"no , twice ", Some(0)), ("\"quoted\" ", Some(1)), (" ' ", Some(1))]
        );
    }

    #[test]
    fn tsv_tolerates_bom_crlf_blank_end_and_other_columns() {
        let text = "\u{feff}id\tlabel\ttext\r\n7\t1\tgood \r\n8\t0\tbad\r\n\r\n\n";
        let data = load("train.tsv", text, Split::Train).unwrap();
        assert_eq!(rows(&data), [("good ", Some(1)), ("bad", Some(0))]);
        let without_end = load("train.tsv", "text\tlabel\na\t1", Split::Train).unwrap();
        assert_eq!(rows(&without_end), [("a", Some(1))]);
    }

    #[test]
    fn csv_quotes() {
        let text = "label,sentence\r\n1,\"a, \"\"b\"\"\r\nc\"\r\n\r\nnegative,plain \r\n";
        let data = load("x.CSV", text, Split::Train).unwrap();
        assert_eq!(rows(&data), [("a, \"b\"\r\nc", Some(1)), ("plain ", Some(0))]);
    }

    #[test]
    fn json_lines() {
        let text = "{\"text\": \"tab\\there\", \"label\": 1}\r\n\
                    {\"label\": \"negative\", \"idx\": 3, \"text\": \"é\"}\n\n";
        for name in ["train.jsonl", "train.json-lines", "train.json"] {
            let data = load(name, text, Split::Train).unwrap();
            assert_eq!(rows(&data), [("tab\there", Some(1)), ("é", Some(0))]);
        }
    }

    #[test]
    fn names_go_before_numbers_in_text_and_typed_numbers_are_indices() {
        let names = ["1".to_string(), "0".to_string()];
        let (_directory, tsv) = file("a.tsv", "text\tlabel\nx\t1\n");
        let data = Dataset::load(&tsv, Split::Train, &names).unwrap();
        assert_eq!(data.examples[0].label, Some(0));
        let (_directory, json) = file("a.jsonl", "{\"text\": \"x\", \"label\": 1}");
        let data = Dataset::load(&json, Split::Train, &names).unwrap();
        assert_eq!(data.examples[0].label, Some(1));
    }

    #[test]
    fn only_the_test_split_goes_without_labels() {
        let unlabelled = "index\tsentence\n0\tx\n";
        assert_eq!(rows(&load("t.tsv", unlabelled, Split::Test).unwrap()), [("x", None)]);
        let minus = "sentence\tlabel\nx\t-1\ny\t\nz\t1\n";
        assert_eq!(
            rows(&load("t.tsv", minus, Split::Test).unwrap()),
            [("x", None), ("y", None), ("z", Some(1))]
        );
        let json = "{\"text\": \"x\"}\n{\"text\": \"y\", \"label\": null}\n";
        let data = load("t.jsonl", json, Split::Test).unwrap();
        assert_eq!(rows(&data), [("x", None), ("y", None)]);

        refused("t.tsv", unlabelled, &["line 1", "no column label", "index, sentence"]);
        refused("t.tsv", minus, &["line 2", "-1"]);
        refused("t.tsv", "text\tlabel\nx\t1\ny\t\n", &["line 3", "missing"]);
        refused("t.jsonl", json, &["line 1", "missing"]);
    }

    #[test]
    fn wrong_labels_are_shown_with_their_line() {
        refused("t.tsv", "text\tlabel\na\t1\nb\t2\n", &["line 3", "\"2\"", "from 0 to 1"]);
        refused("t.tsv", "text\tlabel\na\tPositive\n", &["line 2", "\"Positive\"", "\"positive\""]);
        refused("t.tsv", "text\tlabel\na\t-2\n", &["line 2", "\"-2\""]);
        refused("t.tsv", "text\tlabel\na\t1.0\n", &["line 2", "\"1.0\""]);
        refused("t.tsv", "text\tlabel\na\t99999999999999999999\n", &["99999999999999999999"]);
        refused("t.jsonl", "{\"text\": \"a\", \"label\": 0.5}", &["line 1", "0.5"]);
        refused("t.jsonl", "{\"text\": \"a\", \"label\": 4294967297}", &["4294967297"]);
        refused("t.jsonl", "{\"text\": \"a\", \"label\": [1]}", &["line 1", "[1]"]);
    }

    #[test]
    fn csv_lines_are_counted_through_quotes_and_blank_lines() {
        let text = "text,label\r\n\"two\r\nlines\",1\r\n\r\nlast,7\r\n";
        refused("t.csv", text, &["line 5", "\"7\""]);
        refused("t.csv", text.replace('\r', ""), &["line 5", "\"7\""]);
    }

    #[test]
    fn a_quote_left_open_does_not_swallow_the_file() {
        refused("t.csv", "label,text\n1,fine\n0,\"open\n1,lost\n", &["line 3", "never closed"]);
        refused("t.csv", "label,text\n1,\"", &["line 2", "never closed"]);
    }

    #[test]
    fn broken_tables() {
        refused("t.tsv", "", &["empty"]);
        refused("t.tsv", "\n", &["line 1", "no column sentence or text"]);
        refused("t.csv", "\n", &["no examples"]);
        refused("t.jsonl", " \n", &["line 1", "not JSON"]);
        refused("t.tsv", "sentence\tlabel\n", &["no examples"]);
        refused("t.csv", "sentence,label\n", &["no examples"]);
        refused("t.tsv", "a film\t1\n", &["line 1", "no column sentence or text", "a film, 1"]);
        refused("t.csv", "\n\nfilm,label\nx,1\n", &["line 3", "no column sentence or text"]);
        refused("t.tsv", "sentence\ttext\tlabel\n", &["line 1", "sentence and text"]);
        refused("t.tsv", "text\tlabel\tlabel\n", &["line 1", "more than one column"]);
        refused("t.tsv", "text\tlabel\na\tb\t1\n", &["line 2", "3 fields", "2", "a | b | 1"]);
        refused("t.csv", "text,label\nok,1\nshort\n", &["line 3", "1 fields", "short"]);
        refused("t.tsv", "text\tlabel\na\t1\n\nb\t1\n", &["line 3", "1 fields"]);
        refused("t.txt", "text\tlabel\na\t1\n", &["extension", ".tsv"]);
    }

    #[test]
    fn broken_json_lines() {
        let good = "{\"text\": \"a\", \"label\": 1}\n";
        refused("t.jsonl", format!("{good}{{\"text\": \"b\", "), &["line 2", "not JSON", "column"]);
        refused("t.jsonl", format!("{good}\n{good}"), &["line 2", "not JSON"]);
        refused("t.jsonl", format!("{good}[1]\n"), &["line 2", "not a JSON object", "[1]"]);
        refused("t.jsonl", "{\"label\": 1}\n", &["line 1", "no column sentence or text", "label"]);
        refused(
            "t.jsonl",
            "{\"text\": 3, \"label\": 1}\n",
            &["line 1", "text is not a string", "3"],
        );
    }

    #[test]
    fn text_that_is_not_utf8_names_line_and_bytes() {
        let bytes = b"text,label\nfine,1\nna\xefve,1\n";
        refused("t.csv", bytes, &["line 3", "UTF-8", "ef"]);
        refused("t.tsv", b"text\tlabel\ncut\xc3", &["line 2", "UTF-8", "c3"]);
        refused("t.jsonl", b"\xff\xfe{\0", &["line 1", "UTF-8", "ff"]);
    }

    #[test]
    fn long_values_are_cut_in_messages() {
        let message =
            load("t.tsv", format!("text\tlabel\na\t{}\n", "x".repeat(5000)), Split::Train)
                .unwrap_err();
        assert!(message.contains("xxx\"…"), "{message}");
        assert!(message.len() < 500, "{message}");
    }

    #[test]
    fn missing_paths() {
        let directory = tempfile::tempdir().unwrap();
        for (path, part) in [
            (directory.path().join("no-such"), "no-such"),
            (directory.path().to_path_buf(), "no file for the validation split"),
        ] {
            let error = Dataset::load(&path, Split::Validation, &names()).unwrap_err();
            assert_eq!(error.kind(), Kind::Input);
            let message = error.to_string();
            assert!(message.contains(part) && message.contains("dev"), "{message}");
        }
    }

    #[test]
    fn a_directory_finds_the_split_by_name() {
        let directory = tempfile::tempdir().unwrap();
        let line = |text: &str| format!("sentence\tlabel\n{text}\t1\n");
        fs::write(directory.path().join("train.tsv"), line("t")).unwrap();
        fs::write(directory.path().join("README.md"), "train").unwrap();
        fs::write(directory.path().join("train.tsv.partial"), "half").unwrap();
        fs::create_dir(directory.path().join("train.csv")).unwrap();
        fs::create_dir(directory.path().join("data")).unwrap();
        fs::write(directory.path().join("data/test.tsv"), line("x")).unwrap();
        for validation in ["dev.csv", "validation.jsonl", "val.tsv", "valid.tsv", "Dev.TSV"] {
            let path = directory.path().join(validation);
            let text = match validation {
                "dev.csv" => "sentence,label\nv,1\n".to_string(),
                "validation.jsonl" => "{\"sentence\": \"v\", \"label\": 1}".to_string(),
                _ => line("v"),
            };
            fs::write(&path, text).unwrap();
            let data = Dataset::load(directory.path(), Split::Validation, &names()).unwrap();
            assert_eq!((rows(&data), &data.path), (vec![("v", Some(1))], &path));
            fs::remove_file(&path).unwrap();
        }
        let train = Dataset::load(directory.path(), Split::Train, &names()).unwrap();
        assert_eq!(rows(&train), [("t", Some(1))]);
        assert_eq!(train.path, directory.path().join("train.tsv"));
        let test = Dataset::load(directory.path(), Split::Test, &names()).unwrap();
        assert_eq!(test.path, directory.path().join("data").join("test.tsv"));
    }

    #[test]
    fn two_candidates_are_both_named() {
        for (one, other) in
            [("train.tsv", "train.csv"), ("train.tsv", "train-00000-of-00001.parquet")]
        {
            let directory = tempfile::tempdir().unwrap();
            for name in [one, other] {
                fs::write(directory.path().join(name), "sentence\tlabel\na\t1\n").unwrap();
            }
            let error = Dataset::load(directory.path(), Split::Train, &names()).unwrap_err();
            let message = error.to_string();
            let other = other.replace("00000-of", "*-of");
            assert!(message.contains(one) && message.contains(&other), "{message}");
        }
    }

    #[test]
    fn fingerprint_is_the_sha256_of_the_bytes() {
        let text = "sentence\tlabel\ngood \t1\n";
        let data = load("t.tsv", text, Split::Train).unwrap();
        // printf 'sentence\tlabel\ngood \t1\n' | sha256sum
        assert_eq!(data.fingerprint, FINGERPRINT);
        let embedded = Dataset::from_tsv(Path::new("quickstart"), text.as_bytes(), &names());
        let embedded = embedded.unwrap();
        assert_eq!(
            (&embedded.examples, &embedded.fingerprint),
            (&data.examples, &data.fingerprint)
        );
        assert_eq!(embedded.path, Path::new("quickstart"));
        let other = load("t.tsv", text.replace("good", "food"), Split::Train).unwrap();
        assert_ne!(other.fingerprint, data.fingerprint);
    }

    const FINGERPRINT: &str = "3478c96ab93294a1c246b6d374dbd94a11202ea8fda3e5c77003fc592644c24e";

    #[test]
    fn embedded_data_is_checked_too() {
        let error = Dataset::from_tsv(Path::new("quickstart"), b"text\tlabel\na\t9\n", &names());
        let message = error.unwrap_err().to_string();
        assert!(message.starts_with("quickstart: line 2: "), "{message}");
    }

    #[test]
    fn every_tenth_example_can_be_held_out() {
        let lines: String = (1..=29).map(|n| format!("{n}\t{}\n", n % 2)).collect();
        let mut train = load("t.tsv", format!("text\tlabel\n{lines}"), Split::Train).unwrap();
        let whole = train.clone();
        let held_out = train.hold_out().unwrap();
        assert_eq!(rows(&held_out), [("10", Some(0)), ("20", Some(0))]);
        assert_eq!((&held_out.path, &held_out.fingerprint), (&whole.path, &whole.fingerprint));
        let others: Vec<_> = whole
            .examples
            .into_iter()
            .filter(|example| !held_out.examples.contains(example))
            .collect();
        assert_eq!(train.examples, others);

        train.truncate(9);
        let error = train.clone().hold_out().unwrap_err().to_string();
        assert!(error.contains("t.tsv: 9 examples are too few"), "{error}");
        assert_eq!(train.examples.len(), 9);
    }

    #[test]
    fn truncate_keeps_the_first() {
        let text = "sentence\tlabel\na\t1\nb\t0\nc\t0\n";
        let mut data = load("t.tsv", text, Split::Train).unwrap();
        data.truncate(2);
        assert_eq!(rows(&data), [("a", Some(1)), ("b", Some(0))]);
        data.truncate(9);
        assert_eq!(data.examples.len(), 2);
    }

    proptest! {
        #[test]
        fn tables_never_panic(bytes in prop::collection::vec(
            prop_oneof![
                4 => prop::sample::select(&b"\t\n\r,\"{}:01-ab \xef\xbb\xbf"[..]),
                1 => any::<u8>(),
            ],
            0..80,
        ), header in any::<bool>()) {
            for (name, first) in [("a.tsv", "text\tlabel\n"), ("a.csv", "text,label\n")] {
                let mut content = if header { first.as_bytes().to_vec() } else { Vec::new() };
                content.extend_from_slice(&bytes);
                if let Err(message) = load(name, &content, Split::Test) {
                    prop_assert!(message.contains(name), "{}", message);
                }
            }
        }

        #[test]
        fn json_lines_never_panic(lines in prop::collection::vec(
            "\\{\"text\": ?\"[a-z\\\\\"]{0,3}\", \"label\": ?[0-9.\"-]{0,3}\\}|\\PC{0,9}",
            0..9,
        )) {
            let _ = load("a.jsonl", lines.join("\n"), Split::Train);
        }

        #[test]
        fn tsv_gives_back_what_was_written(
            written in prop::collection::vec(("[^\t\r\n]{0,20}", 0u32..2), 1..20),
            crlf in any::<bool>(),
        ) {
            let end = if crlf { "\r\n" } else { "\n" };
            let mut content = format!("sentence\tlabel{end}");
            for (text, label) in &written {
                content.push_str(&format!("{text}\t{label}{end}"));
            }
            let data = load("a.tsv", content, Split::Train).unwrap();
            let expected: Vec<_> =
                written.iter().map(|(text, label)| (text.as_str(), Some(*label))).collect();
            prop_assert_eq!(rows(&data), expected);
        }

        #[test]
        fn csv_gives_back_what_was_written(
            written in prop::collection::vec(("[a,\"\r\né ]{0,8}", 0u32..2), 1..9),
        ) {
            let mut content = "sentence,label\n".to_string();
            for (text, label) in &written {
                content.push_str(&format!("\"{}\",{label}\n", text.replace('"', "\"\"")));
            }
            let data = load("a.csv", content, Split::Train).unwrap();
            let expected: Vec<_> =
                written.iter().map(|(text, label)| (text.as_str(), Some(*label))).collect();
            prop_assert_eq!(rows(&data), expected);
        }
    }
}

#[cfg(not(feature = "parquet"))]
#[test]
fn without_its_feature_a_parquet_file_is_refused_in_words() {
    refused("x.parquet", "PAR1", &["Parquet", "feature `parquet`"]);
}

#[cfg(feature = "parquet")]
mod parquet_files {
    use super::*;
    use parquet::basic::Compression;
    use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;
    use std::sync::Arc;

    enum Values<'a> {
        Text(&'a [&'a str]),
        Bytes(&'a [&'a [u8]]),
        /// With nulls: the column is optional.
        Integers(&'a [Option<i64>]),
        Doubles(&'a [f64]),
    }

    /// A Parquet file of one row group.
    fn parquet(columns: &[(&str, Values)], compression: Compression) -> Vec<u8> {
        let fields: String = columns
            .iter()
            .map(|(name, values)| match values {
                Values::Text(_) => format!("required binary {name} (UTF8); "),
                Values::Bytes(_) => format!("required binary {name}; "),
                Values::Integers(_) => format!("optional int64 {name}; "),
                Values::Doubles(_) => format!("required double {name}; "),
            })
            .collect();
        let schema = Arc::new(parse_message_type(&format!("message rows {{ {fields} }}")).unwrap());
        let properties = WriterProperties::builder().set_compression(compression).build();
        let mut writer =
            SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties)).unwrap();
        let mut group = writer.next_row_group().unwrap();
        for (_, values) in columns {
            let mut column = group.next_column().unwrap().unwrap();
            match values {
                Values::Text(texts) => {
                    let values: Vec<_> = texts.iter().map(|text| ByteArray::from(*text)).collect();
                    column.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
                }
                Values::Bytes(texts) => {
                    let values: Vec<_> =
                        texts.iter().map(|text| ByteArray::from(text.to_vec())).collect();
                    column.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
                }
                Values::Integers(integers) => {
                    let values: Vec<i64> = integers.iter().flatten().copied().collect();
                    let levels: Vec<i16> =
                        integers.iter().map(|value| value.is_some().into()).collect();
                    column.typed::<Int64Type>().write_batch(&values, Some(&levels), None).unwrap();
                }
                Values::Doubles(values) => {
                    column.typed::<DoubleType>().write_batch(values, None, None).unwrap();
                }
            }
            column.close().unwrap();
        }
        group.close().unwrap();
        writer.into_inner().unwrap()
    }

    fn sentences(texts: &[&str], labels: &[Option<i64>]) -> Vec<u8> {
        let columns = [("sentence", Values::Text(texts)), ("label", Values::Integers(labels))];
        parquet(&columns, Compression::SNAPPY)
    }

    #[test]
    fn labels_are_integers_names_or_missing() {
        let labels = [Some(1), None, Some(-1), Some(0)];
        let bytes = sentences(&["a ", "b", "c", "é"], &labels);
        assert_eq!(
            rows(&load("x.parquet", bytes, Split::Test).unwrap()),
            [("a ", Some(1)), ("b", None), ("c", None), ("é", Some(0))]
        );
        let named = [
            ("idx", Values::Integers(&[Some(5)])),
            ("label", Values::Text(&["positive"])),
            ("text", Values::Text(&["a"])),
        ];
        for compression in [
            Compression::UNCOMPRESSED,
            Compression::GZIP(Default::default()),
            Compression::LZ4_RAW,
            Compression::ZSTD(Default::default()),
        ] {
            let data = load("x.parquet", parquet(&named, compression), Split::Train).unwrap();
            assert_eq!(rows(&data), [("a", Some(1))]);
        }
    }

    /// Written by pyarrow 26 with `pq.write_table(table, path, compression="zstd")`.
    const ZSTD: &[u8] = include_bytes!("../fixtures/zstd.parquet");

    #[test]
    fn what_other_programs_pack_with_zstd_is_read() {
        let data = load("x.parquet", ZSTD, Split::Train).unwrap();
        let three = [
            ("a fine film ", Some(1)),
            ("dull , dull , dull", Some(0)),
            ("tout à fait charmant", Some(1)),
        ];
        assert_eq!(rows(&data), three.repeat(40));
    }

    #[test]
    fn many_rows_keep_their_order() {
        let texts: Vec<String> = (0..10_000).map(|row| format!("row {row}")).collect();
        let borrowed: Vec<&str> = texts.iter().map(String::as_str).collect();
        let labels: Vec<Option<i64>> =
            (0..10_000).map(|row| (row % 3 != 0).then_some(i64::from(row % 2))).collect();
        let data = load("x.parquet", sentences(&borrowed, &labels), Split::Test).unwrap();
        assert_eq!(data.examples.len(), 10_000);
        for (row, example) in data.examples.iter().enumerate() {
            assert_eq!(example.text, texts[row]);
            assert_eq!(example.label.map(i64::from), labels[row]);
        }
    }

    #[test]
    fn shards_are_joined_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        fs::create_dir(&data).unwrap();
        let shard = |text: &str| sentences(&[text], &[Some(1)]);
        fs::write(data.join("train-00001-of-00002.parquet"), shard("second")).unwrap();
        let missing = Dataset::load(directory.path(), Split::Train, &names()).unwrap_err();
        assert!(missing.to_string().contains("number 0 is missing"), "{missing}");
        fs::write(data.join("train-00000-of-00002.parquet"), shard("first")).unwrap();
        fs::write(data.join("validation-00000-of-00001-0f3a.parquet"), shard("v")).unwrap();

        let train = Dataset::load(directory.path(), Split::Train, &names()).unwrap();
        assert_eq!(rows(&train), [("first", Some(1)), ("second", Some(1))]);
        assert_eq!(train.path, data);
        let validation = Dataset::load(directory.path(), Split::Validation, &names()).unwrap();
        assert_eq!(rows(&validation), [("v", Some(1))]);

        fs::write(data.join("train-00002-of-00002.parquet"), shard("third")).unwrap();
        let extra = Dataset::load(directory.path(), Split::Train, &names()).unwrap_err();
        assert!(extra.to_string().contains("number 2"), "{extra}");
    }

    #[test]
    fn wrong_values_name_the_row() {
        let bytes = sentences(&["a", "b"], &[Some(1), Some(2)]);
        refused("x.parquet", bytes, &["row 2", "label 2"]);
        refused("x.parquet", sentences(&["a"], &[None]), &["row 1", "missing"]);
        refused("x.parquet", sentences(&[], &[]), &["no examples"]);
        let labels = [Some(1)];
        let file = |name: &'static str, text, label| {
            parquet(&[(name, text), ("label", label)], Compression::SNAPPY)
        };
        let bytes = file("film", Values::Text(&["a"]), Values::Integers(&labels));
        refused("x.parquet", bytes, &["no column sentence or text", "film, label"]);
        let bytes = file("text", Values::Text(&["a"]), Values::Doubles(&[1.0]));
        refused("x.parquet", bytes, &["column label", "neither a string nor an integer"]);
        let bytes = file("text", Values::Integers(&[Some(12)]), Values::Integers(&labels));
        refused("x.parquet", bytes, &["row 1", "the number 12"]);
        let bytes = file("text", Values::Integers(&[None]), Values::Integers(&labels));
        refused("x.parquet", bytes, &["row 1", "null"]);
        let bytes = file("text", Values::Bytes(&[b"\xff"]), Values::Integers(&labels));
        refused("x.parquet", bytes, &["row 1", "UTF-8", "ff"]);
    }

    #[test]
    fn truncated_anywhere_is_an_error() {
        let whole = sentences(&["one", "two", "three"], &[Some(1), Some(0), None]);
        for end in 1..whole.len() {
            refused("x.parquet", &whole[..end], &["Parquet"]);
        }
        refused("x.parquet", "sentence\tlabel\na\t1\n", &["Parquet"]);
    }

    #[test]
    fn damaged_anywhere_never_panics() {
        let whole = sentences(&["one", "two", "three"], &[Some(1), Some(0), None]);
        for at in 0..whole.len() {
            for flip in [0x01, 0x10, 0x80, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] ^= flip;
                let _ = load("x.parquet", &damaged, Split::Test);
            }
        }
    }
}

mod tokenizer {
    use super::*;

    const VOCABULARY: &str = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n.\n,\na\nfilm\ngood\n##s\n\
                              Bad\nbad\ne\né\n好\n";

    fn small() -> Tokenizer {
        Tokenizer::from_vocabulary(VOCABULARY, true).unwrap()
    }

    fn directory(files: &[(&str, &str)]) -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, content) in files {
            fs::write(directory.path().join(name), content).unwrap();
        }
        directory
    }

    #[track_caller]
    fn unloadable(files: &[(&str, &str)], parts: &[&str]) {
        let directory = directory(files);
        let message = Tokenizer::load(directory.path()).unwrap_err().to_string();
        for part in parts {
            assert!(message.contains(part), "{part:?} is not in:\n{message}");
        }
    }

    #[test]
    fn pieces_case_accents_and_unknown() {
        let tokenizer = small();
        let ids = |text: &str| tokenizer.encode(text, 64).unwrap();
        assert_eq!(ids("A GOOD films."), [2, 7, 9, 8, 10, 5, 3]);
        assert_eq!(ids("a  bad\tfilm "), [2, 7, 12, 8, 3]);
        assert_eq!(ids("É"), [2, 13, 3]);
        assert_eq!(ids("a好a"), [2, 7, 15, 7, 3]);
        assert_eq!(ids("zebra"), [2, 1, 3]);
        assert_eq!(ids(""), [2, 3]);
        assert_eq!(tokenizer.vocab_size(), 16);
        assert_eq!(tokenizer.max_id(), 15);

        let cased = Tokenizer::from_vocabulary(VOCABULARY, false).unwrap();
        assert_eq!(cased.encode("Bad bad É é", 64).unwrap(), [2, 11, 12, 1, 14, 3]);
    }

    #[test]
    fn truncation_keeps_cls_and_sep() {
        let tokenizer = small();
        let text = "a good film , a bad film .";
        assert_eq!(tokenizer.encode(text, 10).unwrap(), [2, 7, 9, 8, 6, 7, 12, 8, 5, 3]);
        assert_eq!(tokenizer.encode(text, 9).unwrap(), [2, 7, 9, 8, 6, 7, 12, 8, 3]);
        assert_eq!(tokenizer.encode(text, 3).unwrap(), [2, 7, 3]);
        for length in [0, 1, 2] {
            let error = tokenizer.encode(text, length).unwrap_err();
            assert_eq!(error.kind(), Kind::Usage);
            assert!(error.to_string().contains(&length.to_string()), "{error}");
        }
    }

    #[test]
    fn many_texts_keep_their_order() {
        let tokenizer = small();
        for count in [0, 1, 2, 3, 97] {
            let texts: Vec<String> = (0..count).map(|n| "a good ".repeat(n % 7)).collect();
            let all = tokenizer.encode_all(&texts, 9).unwrap();
            assert_eq!(all.len(), count);
            for (text, ids) in texts.iter().zip(&all) {
                assert_eq!(ids, &tokenizer.encode(text, 9).unwrap());
            }
        }
        assert_eq!(tokenizer.encode_all(&["a"], 2).unwrap_err().kind(), Kind::Usage);
    }

    #[test]
    fn vocabulary_file_and_its_settings() {
        let cased = "{\"do_lower_case\": false, \"model_max_length\": 1e30}";
        let plain = directory(&[("vocab.txt", VOCABULARY)]);
        let tokenizer = Tokenizer::load(plain.path()).unwrap();
        assert_eq!(tokenizer.encode("Bad", 8).unwrap(), [2, 12, 3]);
        let with = directory(&[("vocab.txt", VOCABULARY), ("tokenizer_config.json", cased)]);
        let tokenizer = Tokenizer::load(with.path()).unwrap();
        assert_eq!(tokenizer.encode("Bad", 8).unwrap(), [2, 11, 3]);
        let settings = "{\"strip_accents\": false, \"tokenize_chinese_chars\": false}";
        let with = directory(&[("vocab.txt", VOCABULARY), ("tokenizer_config.json", settings)]);
        let tokenizer = Tokenizer::load(with.path()).unwrap();
        assert_eq!(tokenizer.encode("É a好a", 8).unwrap(), [2, 14, 1, 3]);
        let crlf = directory(&[("vocab.txt", &VOCABULARY.replace('\n', "\r\n"))]);
        let tokenizer = Tokenizer::load(crlf.path()).unwrap();
        assert_eq!(tokenizer.encode("bad", 8).unwrap(), [2, 12, 3]);
    }

    #[test]
    fn saved_files_load_again() {
        for lowercase in [true, false] {
            let tokenizer = Tokenizer::from_vocabulary(VOCABULARY, lowercase).unwrap();
            let saved = tempfile::tempdir().unwrap();
            let saved = saved.path().join("new");
            tokenizer.save(&saved).unwrap();
            assert_eq!(fs::read_to_string(saved.join("vocab.txt")).unwrap(), VOCABULARY);
            let json = |name: &str| -> serde_json::Value {
                serde_json::from_slice(&fs::read(saved.join(name)).unwrap()).unwrap()
            };
            let config = json("tokenizer_config.json");
            assert_eq!(config["do_lower_case"], lowercase);
            assert_eq!(config["tokenizer_class"], "DistilBertTokenizer");
            assert_eq!(config["model_max_length"], 512);
            assert_eq!(json("special_tokens_map.json")["mask_token"], "[MASK]");

            // From tokenizer.json, then, once it is gone, from vocab.txt.
            for gone in ["special_tokens_map.json", "tokenizer.json"] {
                fs::remove_file(saved.join(gone)).unwrap();
                let again = Tokenizer::load(&saved).unwrap();
                assert_eq!(again.max_id(), tokenizer.max_id());
                for text in ["Bad bad films .", "É é 好", "[MASK] a [SEP]", "", "x"] {
                    let expected = tokenizer.encode(text, 16).unwrap();
                    assert_eq!(again.encode(text, 16).unwrap(), expected, "{text:?}");
                }
            }
        }
    }

    #[test]
    fn truncation_and_padding_of_the_file_are_ignored() {
        let saved = tempfile::tempdir().unwrap();
        small().save(saved.path()).unwrap();
        let path = saved.path().join("tokenizer.json");
        let mut whole: serde_json::Value =
            serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        whole["truncation"] = serde_json::json!({
            "direction": "Left", "max_length": 4, "strategy": "LongestFirst", "stride": 0
        });
        whole["padding"] = serde_json::json!({
            "strategy": {"Fixed": 12}, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"
        });
        fs::write(&path, whole.to_string()).unwrap();
        let tokenizer = Tokenizer::load(saved.path()).unwrap();
        assert_eq!(tokenizer.encode("a good film .", 64).unwrap(), [2, 7, 9, 8, 5, 3]);
    }

    #[test]
    fn a_vocabulary_with_gaps_is_not_written_as_lines() {
        let saved = tempfile::tempdir().unwrap();
        small().save(saved.path()).unwrap();
        let path = saved.path().join("tokenizer.json");
        let gap = fs::read_to_string(&path).unwrap().replace("\"好\":15", "\"好\":40");
        let source = directory(&[("tokenizer.json", &gap)]);
        let tokenizer = Tokenizer::load(source.path()).unwrap();
        assert_eq!((tokenizer.max_id(), tokenizer.vocab_size()), (40, 16));
        let again = tempfile::tempdir().unwrap();
        tokenizer.save(again.path()).unwrap();
        assert!(!again.path().join("vocab.txt").exists());
        assert_eq!(Tokenizer::load(again.path()).unwrap().encode("好", 8).unwrap(), [2, 40, 3]);
    }

    #[test]
    fn what_is_missing_or_broken_is_named() {
        unloadable(&[], &["tokenizer.json", "vocab.txt"]);
        let saved = tempfile::tempdir().unwrap();
        small().save(saved.path()).unwrap();
        let whole = fs::read_to_string(saved.path().join("tokenizer.json")).unwrap();
        unloadable(&[("tokenizer.json", &whole[..300])], &["tokenizer.json", "line 1"]);
        unloadable(&[("tokenizer.json", "{}")], &["tokenizer.json"]);
        let mut bare: serde_json::Value = serde_json::from_str(&whole).unwrap();
        bare["post_processor"] = serde_json::Value::Null;
        unloadable(&[("tokenizer.json", &bare.to_string())], &["tokenizer.json", "[CLS]", "[SEP]"]);
        unloadable(&[("tokenizer.json", &whole.replace("[CLS]", "<s>"))], &["[CLS]"]);
        for token in ["[CLS]", "[SEP]", "[UNK]"] {
            let without = VOCABULARY.replace(token, "[unused0]");
            unloadable(&[("vocab.txt", &without)], &["vocab.txt", token, "16"]);
        }
        let twice = format!("{VOCABULARY}film\n");
        unloadable(&[("vocab.txt", &twice)], &["vocab.txt", "\"film\"", "line 9", "line 17"]);
        unloadable(
            &[("vocab.txt", VOCABULARY), ("tokenizer_config.json", "{\"do_lower_case\": 3}")],
            &["tokenizer_config.json", "line 1"],
        );
    }
}

mod batch {
    use super::*;

    fn encoded(ids: &[u32], label: Option<u32>) -> Encoded {
        Encoded { ids: ids.to_vec(), label }
    }

    #[test]
    fn a_batch_by_hand() {
        let (one, two) = (encoded(&[2, 9, 7, 3], Some(1)), encoded(&[2, 7, 3], None));
        let batch = Batch::pack(&[&one, &two]).unwrap();
        assert_eq!(batch.ids, [2, 9, 7, 3, 2, 7, 3]);
        assert_eq!(batch.places, [0, 1, 2, 3, 65_536, 65_537, 65_538]);
        assert_eq!(batch.offsets, [0, 4, 7]);
        assert_eq!(batch.labels, [1, u32::MAX]);
        assert_eq!(batch.sorted_tokens, [0, 4, 3, 6, 2, 5, 1]);
        assert_eq!(batch.segments, [0, 2, 4, 6, 7]);
        assert_eq!(batch.segment_ids, [2, 3, 7, 9]);
        assert_eq!((batch.tokens(), batch.sequences(), batch.distinct()), (7, 2, 4));
    }

    #[test]
    fn limits() {
        let message = |examples: &[&Encoded]| Batch::pack(examples).unwrap_err().to_string();
        let one = encoded(&[5], None);
        assert!(message(&[]).contains("none"));
        assert!(message(&[&one, &encoded(&[], None)]).contains("sequence 1"));
        let longest = encoded(&vec![5; Batch::MAX], None);
        let batch = Batch::pack(&[&one, &longest]).unwrap();
        assert_eq!(batch.places.last(), Some(&(1 << 16 | 65_534)));
        assert_eq!(batch.distinct(), 1);
        let long = message(&[&one, &encoded(&vec![5; Batch::MAX + 1], None)]);
        assert!(long.contains("sequence 1") && long.contains("65536"), "{long}");
        let batch = Batch::pack(&vec![&one; Batch::MAX]).unwrap();
        assert_eq!(batch.places.last(), Some(&(65_534 << 16)));
        let many = message(&vec![&one; Batch::MAX + 1]);
        assert!(many.contains("65536"), "{many}");
    }

    proptest! {
        #[test]
        fn packing_loses_and_invents_nothing(examples in prop::collection::vec(
            (
                prop::collection::vec(prop_oneof![0u32..12, any::<u32>()], 1..30),
                prop::option::of(0u32..3),
            ),
            1..20,
        )) {
            let examples: Vec<_> =
                examples.iter().map(|(ids, label)| encoded(ids, *label)).collect();
            let batch = Batch::pack(&examples.iter().collect::<Vec<_>>()).unwrap();
            prop_assert_eq!(batch.sequences(), examples.len());
            prop_assert_eq!(batch.offsets.len(), examples.len() + 1);
            prop_assert_eq!(batch.offsets[examples.len()] as usize, batch.tokens());
            prop_assert_eq!(batch.places.len(), batch.tokens());
            for (sequence, example) in examples.iter().enumerate() {
                let span = batch.offsets[sequence] as usize..batch.offsets[sequence + 1] as usize;
                prop_assert_eq!(&batch.ids[span.clone()], &example.ids[..]);
                prop_assert_eq!(batch.labels[sequence], example.label.unwrap_or(u32::MAX));
                for (position, token) in span.enumerate() {
                    prop_assert_eq!(batch.places[token] >> 16, sequence as u32);
                    prop_assert_eq!(batch.places[token] & 0xffff, position as u32);
                }
            }

            // The reference for the transposed view: a stable sort, and a set.
            let mut sorted: Vec<u32> = (0..batch.tokens() as u32).collect();
            sorted.sort_by_key(|&token| batch.ids[token as usize]);
            prop_assert_eq!(&batch.sorted_tokens, &sorted);
            let distinct: std::collections::BTreeSet<u32> = batch.ids.iter().copied().collect();
            prop_assert_eq!(&batch.segment_ids, &distinct.into_iter().collect::<Vec<_>>());
            prop_assert_eq!(batch.segments.len(), batch.distinct() + 1);
            prop_assert_eq!(batch.segments[0], 0);
            prop_assert_eq!(batch.segments[batch.distinct()] as usize, batch.tokens());
            for (run, id) in batch.segments.windows(2).zip(&batch.segment_ids) {
                prop_assert!(run[0] < run[1]);
                for &token in &batch.sorted_tokens[run[0] as usize..run[1] as usize] {
                    prop_assert_eq!(batch.ids[token as usize], *id);
                }
            }
        }

        #[test]
        fn an_epoch_visits_everything_once(examples in 0usize..300, seed: u64, epoch: u32) {
            let mut order = epoch_order(examples, seed, epoch, true);
            order.sort_unstable();
            prop_assert_eq!(order, epoch_order(examples, seed, epoch, false));
        }

        /// Memory is planned for the largest batch of a run, by walking all of them.
        #[test]
        fn the_largest_batch_is_reached_and_never_passed(
            lengths in prop::collection::vec(1usize..70, 1..60),
            seed: u64,
            steps in 1u32..30,
            batch_size in 1usize..9,
            shuffle: bool,
        ) {
            let examples: Vec<Encoded> = lengths
                .iter()
                .map(|length| Encoded { ids: vec![7; *length], label: None })
                .collect();
            let settings = Settings { seed, batch_size, shuffle, ..Settings::default() };
            let mut batches = Batches::new(&examples, &settings, 2).unwrap();
            let largest = batches.largest(steps);
            let mut seen = Sizes::default();
            for step in 1..=steps {
                for part in batches.prepare(step).unwrap() {
                    seen = seen.max(part.sizes());
                }
            }
            // Distinct words are not counted ahead: room is kept for as many as there are tokens.
            prop_assert_eq!(largest, Sizes { distinct: seen.tokens, ..seen });
        }
    }

    /// These orders are a promise: computed apart from this code, from the published generator.
    #[test]
    fn the_order_of_an_epoch_is_pinned() {
        assert_eq!(epoch_order(10, 42, 0, true), [5, 1, 9, 6, 7, 2, 4, 0, 8, 3]);
        assert_eq!(epoch_order(10, 42, 1, true), [6, 2, 0, 7, 8, 3, 9, 5, 4, 1]);
        assert_eq!(epoch_order(10, 43, 0, true), [9, 7, 1, 3, 2, 8, 5, 0, 4, 6]);
        assert_eq!(epoch_order(5, 42, 7, false), [0, 1, 2, 3, 4]);
        assert_eq!(
            epoch_order(67_349, 42, 2, true)[..6],
            [2576, 64_431, 19_101, 65_674, 17_137, 29_334]
        );
        assert!(epoch_order(0, 42, 0, true).is_empty());
    }

    /// Each of the 24 orders of 4 examples has to turn up about as often as any other.
    #[test]
    fn no_order_is_favoured() {
        let mut counts = std::collections::HashMap::new();
        for seed in 0..240 {
            for epoch in 0..100 {
                *counts.entry(epoch_order(4, seed, epoch, true)).or_insert(0) += 1;
            }
        }
        assert_eq!(counts.len(), 24);
        // 1000 expected of each, standard deviation 31: five of them to either side.
        assert!(counts.values().all(|count| (845..1155).contains(count)), "{counts:?}");
    }

    #[test]
    fn batches_are_cut_in_order() {
        let cut = |size| batches(&[4, 2, 0, 1, 3], size).map(<[u32]>::to_vec).collect::<Vec<_>>();
        assert_eq!(cut(2), [vec![4, 2], vec![0, 1], vec![3]]);
        assert_eq!(cut(5), [[4, 2, 0, 1, 3]]);
        assert_eq!(cut(usize::MAX).len(), 1);
        assert_eq!(cut(0).len(), 5);
        assert_eq!(batches(&[], 3).count(), 0);
    }
}
