//! Every setting of a training run, declared once: a row here is a field, its default, its range,
//! a flag, a key in TOML, a line of help, and an entry of `run.json` that a resumed run may not
//! change.

use crate::data::Batch;
use crate::error::{Error, Result};
use crate::graph::Precision;
use crate::sparsity::Policy;
use serde::{Deserialize, Serialize};

/// What there is to know of one setting, for those who read settings from text.
pub struct Setting {
    /// As in `run.json`, and (with dashes, too) in TOML: `batch_size`.
    pub name: &'static str,
    /// What it is, in a sentence.
    pub help: &'static str,
    /// How the command line writes it.
    pub flag: Flag,
    /// What the default means, where its value does not say it.
    default: Option<&'static str>,
    set: fn(&mut Settings, &str) -> Result<()>,
    text: fn(&Settings) -> String,
    /// What it must be, where it is not.
    wanted: fn(&Settings) -> Option<&'static str>,
}

/// A flag of the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flag {
    /// `--name VALUE`, and what help calls the value.
    Value(&'static str),
    /// `--name`: sets `true`.
    On,
    /// `--no-name`: sets `false`.
    Off,
}

/// What a setting can hold: a value, or `None` for what follows from others.
trait Value: Sized {
    /// The value without the `Option`.
    type Item;
    fn parse(text: &str) -> Result<Self>;
    fn item(&self) -> Option<&Self::Item>;
    fn text(&self) -> String;
}

macro_rules! values {
    ($($kind:ty, $text:expr;)+) => {$(
        impl Value for $kind {
            type Item = Self;
            fn parse(text: &str) -> Result<Self> {
                text.parse::<Self>().map_err(|why| Error::usage(format!("'{text}': {why}")))
            }
            fn item(&self) -> Option<&Self> {
                Some(self)
            }
            fn text(&self) -> String {
                $text(self)
            }
        }
    )+};
}

values! {
    u32, Self::to_string;
    u64, Self::to_string;
    usize, Self::to_string;
    bool, Self::to_string;
    // 5e-5 rather than 0.00005, and 1 rather than 1.0.
    f32, |value: &Self| format!("{value:?}").trim_end_matches(".0").to_owned();
}

macro_rules! named_values {
    ($($kind:ty),+) => {$(
        impl Value for $kind {
            type Item = Self;
            fn parse(text: &str) -> Result<Self> {
                text.parse()
            }
            fn item(&self) -> Option<&Self> {
                Some(self)
            }
            fn text(&self) -> String {
                self.to_string()
            }
        }
    )+};
}

named_values! { Policy, Precision }

impl<T: Value> Value for Option<T> {
    type Item = T::Item;
    fn parse(text: &str) -> Result<Self> {
        T::parse(text).map(Some)
    }
    fn item(&self) -> Option<&T::Item> {
        self.as_ref().and_then(T::item)
    }
    fn text(&self) -> String {
        self.as_ref().map_or("default".into(), T::text)
    }
}

/// Makes [`Settings`], its default and its table from the rows. `in` gives the range and how a
/// message calls it; `=>` behind a default says what it means, where the value does not.
macro_rules! settings {
    (|$settings:ident| $(
        $(#[doc = $help:literal])+
        $name:ident: $kind:ty = $default:expr $(=> $meaning:literal)?, $flag:expr
            $(, in $range:expr => $wanted:literal)?;
    )+) => {
        /// What a run is trained with. Written to `run.json`, compared when a run is resumed.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct Settings {
            $($(#[doc = $help])+ pub $name: $kind,)+
        }

        impl Default for Settings {
            /// The recipe for fine-tuning a pretrained model.
            fn default() -> Self {
                Self { $($name: $default,)+ }
            }
        }

        impl Settings {
            /// All settings, in the order in which help and records have them.
            pub const ALL: &[Setting] = &[$(Setting {
                name: stringify!($name),
                help: concat!($($help),+).trim_ascii(),
                flag: $flag,
                default: settings!(@first $($meaning)?),
                set: |settings, text| {
                    settings.$name = Value::parse(text)?;
                    Ok(())
                },
                text: |settings| Value::text(&settings.$name),
                wanted: |$settings| {
                    $(let item = Value::item(&$settings.$name);
                    if item.is_some_and(|item| !($range).contains(item)) {
                        return Some($wanted);
                    })?
                    let _ = $settings;
                    None
                },
            },)+];
        }
    };
    (@first) => { None };
    (@first $meaning:literal) => { Some($meaning) };
}

settings! { |settings|
    /// What attention keeps: `dense`, `topk:0.8`, `block-topk:0.8`, `local:8`, `random:0.8`, for
    /// some layers (`topk:0.8@3-5`), growing over the run (`topk:0->0.8`); docs/sparsity.md has
    /// all of it.
    sparsity: Policy = Policy::dense() => "what the model was trained with, else dense",
        Flag::Value("S");
    /// Passes over the training set.
    epochs: u32 = 3, Flag::Value("N"),
        in u32::from(settings.max_steps.is_none()).. => "at least 1";
    /// Optimizer steps, instead of epochs.
    max_steps: Option<u32> = None, Flag::Value("N"), in 1.. => "at least 1";
    /// Sentences per step.
    batch_size: usize = 32, Flag::Value("N"), in 1..=Batch::MAX => "between 1 and 65,535";
    /// Compute a step in at most N parts, one after another: the activations of one part, the
    /// result of the whole.
    gradient_accumulation: usize = 1, Flag::Value("N"),
        in 1..=settings.batch_size => "between 1 and the batch size";
    /// Word pieces kept of a sentence.
    max_length: usize = 128, Flag::Value("N"),
        in 3.. => "at least 3 ([CLS], one word piece, [SEP])";
    /// Highest learning rate.
    learning_rate: f32 = 5e-5, Flag::Value("F"), in 0.0..=f32::MAX => "a number of 0 or more";
    /// Steps of warm-up.
    warmup_steps: Option<u32> = None => "6 % of all", Flag::Value("N");
    /// Weight decay, not on biases and LayerNorms.
    weight_decay: f32 = 0.01, Flag::Value("F"), in 0.0..=f32::MAX => "a number of 0 or more";
    /// Largest global gradient norm, 0 for none.
    clip: f32 = 1.0, Flag::Value("F"), in 0.0..=f32::MAX => "a number of 0 or more";
    /// Override every dropout probability of the model.
    dropout: Option<f32> = None, Flag::Value("F"), in 0.0..1.0 => "in [0, 1)";
    /// Override the model's dropout of attention weights.
    attention_dropout: Option<f32> = None, Flag::Value("F"), in 0.0..1.0 => "in [0, 1)";
    /// Data order, fresh weights and dropout follow from it.
    seed: u64 = 42, Flag::Value("N");
    /// Keep the order of the file.
    shuffle: bool = true, Flag::Off;
    /// Use the first N training sentences.
    max_train_samples: Option<usize> = None, Flag::Value("N"), in 1.. => "at least 1";
    /// Use the first N evaluation sentences.
    max_eval_samples: Option<usize> = None, Flag::Value("N"), in 1.. => "at least 1";
    /// Steps between evaluations.
    eval_every: Option<u32> = None => "an epoch", Flag::Value("N"), in 1.. => "at least 1";
    /// Steps between checkpoints.
    save_every: Option<u32> = None => "at each evaluation", Flag::Value("N"),
        in 1.. => "at least 1";
    /// What activations, their gradients and the factors of products are stored in: `f32`, or
    /// `mixed`, float16 with a scaled loss.
    precision: Precision = Precision::F32, Flag::Value("P");
    /// Where the loss scale of mixed precision begins; it is halved where gradients overflow, and
    /// doubled after 2,000 steps without. A step's loss is a sum: 4,096 is 131,072 of the mean of
    /// 32 sentences.
    loss_scale: f32 = 4096.0, Flag::Value("F"),
        in 1.0..=16_777_216.0 => "between 1 and 16,777,216";
    /// Keep no activations but those between the blocks, and compute the others again in backward:
    /// less memory for long inputs, a third more work, the same result.
    checkpoint_activations: bool = false, Flag::On;
}

impl Setting {
    /// The setting of a name, written with dashes or underscores.
    pub fn named(name: &str) -> Option<&'static Self> {
        let name = name.replace('-', "_");
        Settings::ALL.iter().find(|setting| setting.name == name)
    }

    /// The flag, without its dashes: `batch-size`, `no-shuffle`.
    pub fn flag_name(&self) -> String {
        let name = self.name.replace('_', "-");
        if self.flag == Flag::Off { format!("no-{name}") } else { name }
    }

    /// What holds where nothing is said, in words; none where it goes without saying.
    pub fn default_text(&self) -> Option<String> {
        let text = self.text(&Settings::default());
        match (self.default, self.flag) {
            (Some(meaning), _) => Some(meaning.into()),
            (None, Flag::Value(_)) if text != "default" => Some(text),
            _ => None,
        }
    }

    /// Its value, as a person writes it.
    pub fn text(&self, settings: &Settings) -> String {
        (self.text)(settings)
    }

    /// Sets it to what the text says. Its range is [checked](Settings::check) with all others.
    ///
    /// # Errors
    /// The text is not a value of its kind.
    pub fn set(&self, settings: &mut Settings, text: &str) -> Result<()> {
        (self.set)(settings, text)
    }
}

impl Settings {
    /// Steps of the whole run over so many examples.
    pub fn total_steps(&self, examples: usize) -> u32 {
        let per_epoch = examples.div_ceil(self.batch_size.max(1)) as u64;
        let total = self.max_steps.map_or(per_epoch * u64::from(self.epochs), u64::from);
        total.min(u64::from(u32::MAX)) as u32
    }

    /// Sentences that are computed together: those of a part of a step.
    pub fn part_size(&self) -> usize {
        self.batch_size.div_ceil(self.gradient_accumulation.max(1)).max(1)
    }

    /// Refuses values out of their range.
    ///
    /// # Errors
    /// Names the setting and its value.
    pub fn check(&self) -> Result<()> {
        self.check_as(|setting| setting.name.into())
    }

    /// As [`check`](Self::check), with the reader's own name for a setting, such as its flag.
    ///
    /// # Errors
    /// Names the setting and its value.
    pub fn check_as(&self, name: impl Fn(&Setting) -> String) -> Result<()> {
        for setting in Self::ALL {
            if let Some(wanted) = (setting.wanted)(self) {
                let (name, value) = (name(setting), setting.text(self));
                return Err(Error::usage(format!("{name} {value}: it must be {wanted}")));
            }
        }
        Ok(())
    }

    /// Each setting's name and value.
    pub fn pairs(&self) -> impl Iterator<Item = (&'static str, String)> {
        Self::ALL.iter().map(|setting| (setting.name, setting.text(self)))
    }

    /// The settings that differ, by name, with both values: what a resumed run may not change.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let both = self.pairs().zip(other.pairs());
        both.filter(|((_, ours), (_, theirs))| ours != theirs)
            .map(|((name, ours), (_, theirs))| format!("{name} was {theirs} and is {ours}"))
            .collect()
    }
}

/// Values of settings in text, from a file or the command line; of two for one setting the later
/// holds.
#[derive(Clone, Default)]
pub struct Overrides(Vec<Override>);

#[derive(Clone)]
struct Override {
    setting: &'static Setting,
    text: String,
    /// What messages call it: `--batch-size`, or file, line and key.
    place: String,
}

impl Overrides {
    /// Adds a value. `place` is what messages call it: a flag, or a file with its line and key.
    ///
    /// # Errors
    /// The text is not a value of the setting's kind.
    pub fn add(&mut self, setting: &'static Setting, text: String, place: String) -> Result<()> {
        setting.set(&mut Settings::default(), &text).map_err(|error| error.at(&place))?;
        self.0.push(Override { setting, text, place });
        Ok(())
    }

    /// Adds those of another, which win over these.
    pub fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// Whether one is for this setting.
    pub fn has(&self, setting: &Setting) -> bool {
        self.place(setting).is_some()
    }

    fn place(&self, setting: &Setting) -> Option<&str> {
        let mut latest = self.0.iter().rev();
        latest.find(|one| one.setting.name == setting.name).map(|one| one.place.as_str())
    }

    /// The settings of a run: these, and for all else those of the recipe.
    ///
    /// # Errors
    /// A value out of its range.
    pub fn over(&self, recipe: Settings) -> Result<Settings> {
        let mut settings = recipe;
        for Override { setting, text, place } in &self.0 {
            setting.set(&mut settings, text).map_err(|error| error.at(place))?;
        }
        settings.check_as(|setting| self.place(setting).unwrap_or(setting.name).into())?;
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(name: &str) -> &'static Setting {
        Setting::named(name).unwrap()
    }

    #[test]
    fn every_default_is_in_its_range_and_is_read_back_as_written() {
        let recipe = Settings::default();
        recipe.check().unwrap();
        for setting in Settings::ALL {
            let text = setting.text(&recipe);
            let mut other = recipe.clone();
            if text != "default" {
                setting.set(&mut other, &text).unwrap();
            }
            assert_eq!(other, recipe, "{}", setting.name);
            assert!(setting.help.ends_with('.') && !setting.help.contains("  "));
        }
        let json = serde_json::to_value(&recipe).unwrap();
        let names: Vec<&String> = json.as_object().unwrap().keys().collect();
        assert_eq!(names, Settings::ALL.iter().map(|setting| setting.name).collect::<Vec<_>>());
        assert_eq!(serde_json::from_value::<Settings>(json).unwrap(), recipe);
    }

    #[test]
    fn each_range_is_held_at_its_ends() {
        for (name, good, bad) in [
            ("epochs", "1", "0"),
            ("max_steps", "1", "0"),
            ("batch_size", "65535", "65536"),
            ("batch_size", "1", "0"),
            ("gradient_accumulation", "32", "33"),
            ("gradient_accumulation", "1", "0"),
            ("max_length", "3", "2"),
            ("learning_rate", "0", "-1e-9"),
            ("learning_rate", "3e38", "inf"),
            ("weight_decay", "0", "nan"),
            ("clip", "0", "-1"),
            ("dropout", "0", "1"),
            ("attention_dropout", "0.999", "-0.1"),
            ("max_train_samples", "1", "0"),
            ("max_eval_samples", "1", "0"),
            ("eval_every", "1", "0"),
            ("save_every", "1", "0"),
        ] {
            let mut settings = Settings::default();
            setting(name).set(&mut settings, good).unwrap();
            settings.check().unwrap();
            setting(name).set(&mut settings, bad).unwrap();
            let error = settings.check().unwrap_err().to_string();
            assert!(error.starts_with(name) && error.contains("it must be"), "{error}");
        }
    }

    #[test]
    fn the_later_of_two_wins_and_messages_name_its_place() {
        let mut file = Overrides::default();
        let add = |overrides: &mut Overrides, name, text: &str, place: &str| {
            overrides.add(setting(name), text.into(), place.into())
        };
        add(&mut file, "batch-size", "4", "run.toml: batch-size").unwrap();
        add(&mut file, "gradient_accumulation", "8", "run.toml: gradient-accumulation").unwrap();
        add(&mut file, "clip", "0.5", "run.toml: clip").unwrap();
        let error = file.over(Settings::default()).unwrap_err().to_string();
        assert_eq!(
            error,
            "run.toml: gradient-accumulation 8: it must be between 1 and the batch size"
        );
        let mut flags = Overrides::default();
        add(&mut flags, "batch_size", "16", "--batch-size").unwrap();
        file.extend(flags.clone());
        let settings = file.over(Settings { seed: 7, ..Settings::default() }).unwrap();
        assert_eq!((settings.batch_size, settings.clip, settings.seed), (16, 0.5, 7));
        assert!(file.has(setting("clip")) && !flags.has(setting("clip")));
        let error = add(&mut flags, "seed", "-1", "--seed").unwrap_err().to_string();
        assert!(error.starts_with("--seed: '-1'"), "{error}");
        let error = add(&mut flags, "sparsity", "topk:2", "--sparsity").unwrap_err().to_string();
        assert!(error.starts_with("--sparsity: sparsity 'topk:2'"), "{error}");
    }

    #[test]
    fn differences_are_named_with_both_values() {
        let began = Settings::default();
        let mut now = began.clone();
        assert!(now.differences(&began).is_empty());
        now.learning_rate = 1e-3;
        now.max_steps = Some(5);
        now.sparsity = "topk:0.80".parse().unwrap();
        assert_eq!(
            now.differences(&began),
            [
                "sparsity was dense and is topk:0.8",
                "max_steps was default and is 5",
                "learning_rate was 5e-5 and is 0.001"
            ]
        );
    }
}
