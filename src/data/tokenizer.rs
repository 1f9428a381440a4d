//! Text to word-piece ids: a BERT-like tokenizer in Hugging Face's files, read and written.

use crate::error::{Error, Result};
use crate::files;
use crate::parallel;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use tokenizers::{Model, ModelWrapper, NormalizerWrapper};

const CLS: &str = "[CLS]";
const SEP: &str = "[SEP]";
const UNK: &str = "[UNK]";

// The names of the files.
const WHOLE: &str = "tokenizer.json";
const PIECES: &str = "vocab.txt";
const SETTINGS: &str = "tokenizer_config.json";
const ROLES: &str = "special_tokens_map.json";

/// The special tokens of BERT, and the names that `transformers` has for their roles.
const SPECIAL: [(&str, &str); 5] = [
    ("pad_token", "[PAD]"),
    ("unk_token", UNK),
    ("cls_token", CLS),
    ("sep_token", SEP),
    ("mask_token", "[MASK]"),
];

/// The shortest useful sequence: `[CLS]`, one piece, `[SEP]`.
const SHORTEST: usize = 3;

/// What `tokenizer_config.json` says beyond the vocabulary. What is missing has BERT's default.
#[derive(Debug, Default, Deserialize)]
struct Settings {
    do_lower_case: Option<bool>,
    strip_accents: Option<bool>,
    tokenize_chinese_chars: Option<bool>,
    /// A JSON number of any size: `transformers` writes 10^30 for "no limit".
    model_max_length: Option<serde_json::Number>,
}

/// Splits text into word pieces and frames it as `[CLS] pieces [SEP]`.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    sep: u32,
    vocab_size: usize,
    max_id: u32,
    /// The longest sequence the model was made for; only kept to be written again.
    model_max_length: u64,
}

impl Tokenizer {
    /// Reads `tokenizer.json`, or, where there is none, `vocab.txt` (with the settings of
    /// `tokenizer_config.json`, if there is one).
    ///
    /// Truncation and padding that `tokenizer.json` may ask for are ignored: the length is the
    /// caller's, and batches are packed.
    ///
    /// # Errors
    /// Neither file is there, a file cannot be read or parsed, or the tokenizer does not frame text
    /// as `[CLS] … [SEP]`. Names the file.
    pub fn load(directory: &Path) -> Result<Self> {
        let config = directory.join(SETTINGS);
        let settings = match config.exists() {
            true => serde_json::from_str(&files::read_text(&config)?)
                .map_err(|why| Error::input(format!("{}: {why}", config.display())))?,
            false => Settings::default(),
        };

        let whole = directory.join(WHOLE);
        if whole.exists() {
            let parsed = tokenizers::Tokenizer::from_bytes(files::read(&whole)?);
            return parsed
                .map_err(|why| unreadable(&*why))
                .and_then(|inner| Self::new(inner, &settings))
                .map_err(|error| error.at(whole.display()));
        }
        let vocabulary = directory.join(PIECES);
        if vocabulary.exists() {
            return Self::from_lines(&files::read_text(&vocabulary)?, &settings)
                .map_err(|error| error.at(vocabulary.display()));
        }
        Err(Error::input(format!(
            "{}: no tokenizer: neither {WHOLE} nor {PIECES} is here",
            directory.display()
        ))
        .remedy("Copy one of the two from the model that the checkpoint was made from."))
    }

    /// Builds BERT's tokenizer from the text of a `vocab.txt`: one piece a line, its id the number
    /// of the line counted from 0.
    ///
    /// # Errors
    /// A piece that occurs twice (names both lines), or no `[CLS]`, `[SEP]` or `[UNK]`.
    pub fn from_vocabulary(text: &str, lowercase: bool) -> Result<Self> {
        let settings = Settings { do_lower_case: Some(lowercase), ..Settings::default() };
        Self::from_lines(text, &settings)
    }

    fn from_lines(text: &str, settings: &Settings) -> Result<Self> {
        let mut vocabulary = BTreeMap::new();
        for (id, piece) in text.strip_prefix('\u{feff}').unwrap_or(text).lines().enumerate() {
            if let Some(first) = vocabulary.insert(piece, id) {
                return Err(Error::input(format!(
                    "the piece {piece:?} is on line {} and again on line {}",
                    first + 1,
                    id + 1
                ))
                .remedy("A piece has one id: remove or rename one of the two lines."));
            }
        }
        let id_of = |token: &str| {
            vocabulary.get(token).copied().ok_or_else(|| missing(token, vocabulary.len()))
        };
        let (cls, sep) = (id_of(CLS)?, id_of(SEP)?);
        id_of(UNK)?;

        let added = SPECIAL.iter().filter_map(|(_, token)| {
            let id = vocabulary.get(token)?;
            Some(json!({
                "id": id, "content": token, "special": true,
                "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            }))
        });
        let special = |token: &str| json!({"SpecialToken": {"id": token, "type_id": 0}});
        let text = |name: &str, segment: u32| json!({"Sequence": {"id": name, "type_id": segment}});
        // The tokenizer.json that this vocabulary stands for: one parser, one way to be wrong.
        let whole = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": added.collect::<Vec<_>>(),
            "normalizer": {
                "type": "BertNormalizer",
                "clean_text": true,
                "handle_chinese_chars": settings.tokenize_chinese_chars.unwrap_or(true),
                "strip_accents": settings.strip_accents,
                "lowercase": settings.do_lower_case.unwrap_or(true),
            },
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [special(CLS), text("A", 0), special(SEP)],
                "pair": [
                    special(CLS), text("A", 0), special(SEP),
                    text("B", 1), {"SpecialToken": {"id": SEP, "type_id": 1}},
                ],
                "special_tokens": {
                    CLS: {"id": CLS, "ids": [cls], "tokens": [CLS]},
                    SEP: {"id": SEP, "ids": [sep], "tokens": [SEP]},
                },
            },
            "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
            "model": {
                "type": "WordPiece",
                "unk_token": UNK,
                "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100,
                "vocab": vocabulary,
            },
        });
        let inner = tokenizers::Tokenizer::from_bytes(whole.to_string())
            .map_err(|why| unreadable(&*why))?;
        Self::new(inner, settings)
    }

    /// Makes sure of what the rest relies on: `[CLS]` first, `[SEP]` last, nothing cut or padded.
    fn new(mut inner: tokenizers::Tokenizer, settings: &Settings) -> Result<Self> {
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|why| unreadable(&*why))?;
        let vocabulary = inner.get_vocab(true);
        let id_of = |token: &str| {
            vocabulary.get(token).copied().ok_or_else(|| missing(token, vocabulary.len()))
        };
        let (cls, sep) = (id_of(CLS)?, id_of(SEP)?);
        let empty = inner.encode_fast("", true).map_err(|why| unreadable(&*why))?;
        if empty.get_ids() != [cls, sep] {
            return Err(Error::input(format!(
                "an empty text becomes {:?}, not [\"[CLS]\", \"[SEP]\"]",
                empty.get_tokens()
            ))
            .remedy(
                "The post_processor must put [CLS] before and [SEP] after the text; without a \
                 tokenizer.json, BERT's own is built from vocab.txt.",
            ));
        }
        let model_max_length = settings.model_max_length.as_ref().and_then(|n| n.as_u64());
        Ok(Self {
            sep,
            vocab_size: vocabulary.len(),
            max_id: vocabulary.values().copied().max().unwrap_or(0),
            model_max_length: model_max_length.unwrap_or(512),
            inner,
        })
    }

    /// The ids of `[CLS] text [SEP]`, at most `max_length` of them: pieces are dropped from the end
    /// of the text, never the two special tokens.
    ///
    /// # Errors
    /// `max_length` leaves no room for a piece of text; the tokenizer has no id for a piece.
    pub fn encode(&self, text: &str, max_length: usize) -> Result<Vec<u32>> {
        if max_length < SHORTEST {
            return Err(Error::usage(format!(
                "a max length of {max_length} leaves no room for text between [CLS] and [SEP]"
            ))
            .remedy(format!("Choose a max length of {SHORTEST} or more.")));
        }
        let encoding = self.inner.encode_fast(text, true).map_err(|why| {
            let start: String = text.chars().take(60).collect();
            Error::input(format!("cannot tokenize the text that starts {start:?}: {why}"))
        })?;
        let mut ids = encoding.get_ids().to_vec();
        if ids.len() > max_length {
            ids.truncate(max_length - 1);
            ids.push(self.sep);
        }
        Ok(ids)
    }

    /// [`encode`](Self::encode) for many texts, on all cores. The order is kept.
    ///
    /// # Errors
    /// As `encode`, for the first text that fails.
    pub fn encode_all<S: AsRef<str> + Sync>(
        &self,
        texts: &[S],
        max_length: usize,
    ) -> Result<Vec<Vec<u32>>> {
        parallel::map(texts, |text| self.encode(text.as_ref(), max_length))
    }

    /// How many different tokens there are, special and added ones included.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The largest id that [`encode`](Self::encode) can give. The model's word embedding must have
    /// more rows than this.
    pub fn max_id(&self) -> u32 {
        self.max_id
    }

    /// The word pieces of these ids, as the vocabulary spells them.
    pub fn tokens(&self, ids: &[u32]) -> Vec<String> {
        let spelled = |id: &u32| self.inner.id_to_token(*id).unwrap_or_else(|| format!("#{id}"));
        ids.iter().map(spelled).collect()
    }

    /// The files that a tokenizer is kept in.
    pub const FILES: [&str; 4] = [WHOLE, PIECES, SETTINGS, ROLES];
    /// Those of which one is enough.
    pub const EITHER: [&str; 2] = [WHOLE, PIECES];

    /// Writes `tokenizer.json`, `tokenizer_config.json`, `special_tokens_map.json` and, where a
    /// list of pieces can say all of the model, `vocab.txt`. `AutoTokenizer` of `transformers`
    /// reads the directory.
    ///
    /// # Errors
    /// A file cannot be written; names it.
    pub fn save(&self, directory: &Path) -> Result<()> {
        files::create_dir(directory)?;
        let whole = self.inner.to_string(false).map_err(|why| {
            Error::input(format!("{}: cannot write {WHOLE}: {why}", directory.display()))
        })?;
        files::write(&directory.join(WHOLE), whole.as_bytes())?;
        let vocabulary = self.vocabulary();
        if let Some(text) = &vocabulary {
            files::write(&directory.join(PIECES), text.as_bytes())?;
        }

        let special: serde_json::Map<_, _> = SPECIAL
            .iter()
            .filter(|(_, token)| self.inner.token_to_id(token).is_some())
            .map(|(role, token)| (role.to_string(), json!(token)))
            .collect();
        let mut config = special.clone();
        config.insert("model_max_length".into(), json!(self.model_max_length));
        // A class of the BERT family makes transformers set up the normalizer anew from these
        // settings; a tokenizer that they cannot describe goes by its tokenizer.json alone.
        let class = match (self.inner.get_normalizer(), &vocabulary) {
            (Some(NormalizerWrapper::BertNormalizer(bert)), Some(_)) => {
                config.insert("do_lower_case".into(), json!(bert.lowercase));
                config.insert("strip_accents".into(), json!(bert.strip_accents));
                config.insert("tokenize_chinese_chars".into(), json!(bert.handle_chinese_chars));
                "DistilBertTokenizer"
            }
            _ => "PreTrainedTokenizerFast",
        };
        config.insert("tokenizer_class".into(), json!(class));
        for (name, content) in [(SETTINGS, config), (ROLES, special)] {
            let text = format!("{:#}\n", serde_json::Value::Object(content));
            files::write(&directory.join(name), text.as_bytes())?;
        }
        Ok(())
    }

    /// The text of `vocab.txt`, or nothing where a piece's line would not be its id.
    fn vocabulary(&self) -> Option<String> {
        let ModelWrapper::WordPiece(model) = self.inner.get_model() else {
            return None;
        };
        let mut pieces: Vec<(u32, String)> =
            model.get_vocab().into_iter().map(|(piece, id)| (id, piece)).collect();
        pieces.sort_unstable();
        let mut text = String::new();
        for (line, (id, piece)) in pieces.iter().enumerate() {
            if *id as usize != line || piece.contains(['\n', '\r']) {
                return None;
            }
            text.push_str(piece);
            text.push('\n');
        }
        Some(text)
    }
}

fn unreadable(why: &dyn fmt::Display) -> Error {
    Error::input(format!("not a tokenizer that can be read: {why}"))
        .remedy("Copy the file again from the model that the checkpoint was made from.")
}

fn missing(token: &str, size: usize) -> Error {
    Error::input(format!("the token {token} is not among the {size} of the vocabulary")).remedy(
        "Crisp needs the tokenizer of a BERT-like model, with [CLS], [SEP] and [UNK]; add the \
         token, or use another model's tokenizer.",
    )
}
