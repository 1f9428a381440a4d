//! The flags that say how something is trained, and what they mean together with a file of
//! settings.

use super::{note, progress, source};
use crate::error::Result;
use crate::model::hub::{self, Kind};
use crate::train::{Flag, Overrides, Setting, Settings, SettingsFile};
use clap::builder::ArgAction;
use clap::{Arg, ArgMatches, Command};
use std::marker::PhantomData;
use std::path::PathBuf;

/// What training runs have in common.
#[derive(clap::Args, Clone)]
pub struct Recipe {
    /// A directory in Hugging Face layout, a hub id, or `quickstart`.
    #[arg(long, value_name = "M")]
    model: Option<String>,
    /// A directory with train and dev files, one file, a hub id, or `quickstart`.
    #[arg(long, value_name = "D")]
    data: Option<String>,
    /// Where it goes; by default a new directory under `runs/`, or for a study `studies/` and the
    /// model's name.
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
    /// Settings in TOML, named as these flags; a flag wins over the file.
    #[arg(long, value_name = "FILE.toml")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Flags<Shared>,
}

/// Some of the settings.
pub trait Subset {
    /// Whether a setting of this name is one of them.
    fn holds(name: &str) -> bool;
}

/// Those in which the runs of a study are alike.
#[derive(Clone)]
pub struct Shared;

/// Those that each run of a study has for itself.
#[derive(Clone)]
pub struct Own;

impl Subset for Own {
    fn holds(name: &str) -> bool {
        ["sparsity", "seed"].contains(&name)
    }
}

impl Subset for Shared {
    fn holds(name: &str) -> bool {
        !Own::holds(name)
    }
}

/// The flags of some of the settings, as they were given: setting and text.
#[derive(Clone)]
pub struct Flags<S>(Vec<(&'static Setting, String)>, PhantomData<S>);

impl<S: Subset> Flags<S> {
    fn settings() -> impl Iterator<Item = &'static Setting> {
        Settings::ALL.iter().filter(|setting| S::holds(setting.name))
    }

    /// What the flags say.
    ///
    /// # Errors
    /// A text that is not a value of its setting's kind.
    pub fn overrides(self) -> Result<Overrides> {
        let mut overrides = Overrides::default();
        for (setting, text) in self.0 {
            overrides.add(setting, text, flag(setting))?;
        }
        Ok(overrides)
    }
}

impl<S: Subset> clap::Args for Flags<S> {
    fn augment_args(command: Command) -> Command {
        command.args(Self::settings().map(argument))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<S: Subset> clap::FromArgMatches for Flags<S> {
    fn from_arg_matches(matches: &ArgMatches) -> std::result::Result<Self, clap::Error> {
        let given = |setting: &'static Setting| {
            let text = match setting.flag {
                Flag::Value(_) => matches.get_one::<String>(setting.name)?.clone(),
                Flag::On => matches.get_flag(setting.name).then(|| "true".into())?,
                Flag::Off => matches.get_flag(setting.name).then(|| "false".into())?,
            };
            Some((setting, text))
        };
        Ok(Self(Self::settings().filter_map(given).collect(), PhantomData))
    }

    fn update_from_arg_matches(
        &mut self,
        matches: &ArgMatches,
    ) -> std::result::Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// A setting's flag as a person writes it: `--batch-size`.
fn flag(setting: &Setting) -> String {
    format!("--{}", setting.flag_name())
}

/// A setting's flag as clap has it.
fn argument(setting: &'static Setting) -> Arg {
    let help = setting.help.trim_end_matches('.');
    let help = match default(setting) {
        Some(default) => format!("{help} [default: {default}]"),
        None => help.into(),
    };
    let argument = Arg::new(setting.name).long(setting.flag_name()).help(help);
    match setting.flag {
        // A number may be negative: that it is out of range is said by its name.
        Flag::Value(hint) => argument.value_name(hint).allow_negative_numbers(true),
        Flag::On | Flag::Off => argument.action(ArgAction::SetTrue),
    }
}

/// A setting's default, and the quickstart's where it has its own.
fn default(setting: &Setting) -> Option<String> {
    let usual = setting.default_text()?;
    let quickstart = setting.text(&source::quickstart_recipe());
    Some(match quickstart == setting.text(&Settings::default()) {
        true => usual,
        false => format!("{usual}; quickstart {quickstart}"),
    })
}

/// Refuses settings out of their range, by their flags.
pub fn check(settings: &Settings) -> Result<()> {
    settings.check_as(flag)
}

/// What is trained on what, and the settings that were given.
pub struct Chosen {
    /// The model's name.
    pub model: String,
    /// The data's name.
    pub data: String,
    /// Flags and file.
    pub given: SettingsFile,
    /// What holds where nothing was given.
    pub recipe: Settings,
    /// What to say with the result where the paper's task could not be had.
    pub fallback: Option<String>,
}

impl Recipe {
    /// The flags over the file, with a run's own, where the command has such flags.
    ///
    /// # Errors
    /// A file that cannot be read or has other keys; a value of the wrong kind.
    pub fn given(self, own: Overrides) -> Result<SettingsFile> {
        let file = match &self.config {
            Some(path) => SettingsFile::load(path)?,
            None => SettingsFile::default(),
        };
        let mut overrides = file.overrides;
        overrides.extend(self.settings.overrides()?);
        overrides.extend(own);
        Ok(SettingsFile {
            model: self.model.or(file.model),
            data: self.data.or(file.data),
            output: self.output.or(file.output),
            overrides,
        })
    }
}

/// What the settings are about: with neither model nor data the paper's task, or the quickstart
/// where that cannot be had.
pub fn choose(given: SettingsFile) -> Chosen {
    let mut fallback = None;
    let (model, data) = match (given.model.clone(), given.data.clone()) {
        (Some(model), Some(data)) => (model, data),
        (None, None) => match paper_task() {
            Ok(()) => (source::MODEL.into(), source::DATA.into()),
            Err(why) => {
                let text = format!(
                    "NOTE: {} or {} cannot be had here, so this trains the embedded quickstart: our \
                     own small corpus and a small model from fresh weights, not the paper's task.",
                    source::MODEL,
                    source::DATA
                );
                note(&format!("{text}\n  The reason: {why}"));
                fallback = Some(text);
                (source::QUICKSTART.into(), source::QUICKSTART.into())
            }
        },
        (Some(model), None) if model == source::QUICKSTART => (model.clone(), model),
        (None, Some(data)) if data == source::QUICKSTART => (data.clone(), data),
        (Some(model), None) => (model, source::DATA.into()),
        (None, Some(data)) => (source::MODEL.into(), data),
    };
    let recipe = match model == source::QUICKSTART {
        true => source::quickstart_recipe(),
        false => Settings::default(),
    };
    Chosen { model, data, given, recipe, fallback }
}

/// Looks for the paper's model and data, in the cache and then on the network.
fn paper_task() -> Result<()> {
    for (kind, id) in [(Kind::Model, source::MODEL), (Kind::Dataset, source::DATA)] {
        note(&format!("looking for {id} in the hub's cache, then on the network"));
        let mut told = String::new();
        hub::resolve(kind, id, &mut |file, _, total| {
            if told != file {
                told = file.to_owned();
                let size =
                    total.map_or(String::new(), |total| format!(" ({})", progress::bytes(total)));
                note(&format!("fetching {file}{size}"));
            }
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args, FromArgMatches};

    fn command() -> Command {
        Flags::<Own>::augment_args(Recipe::augment_args(Command::new("train")))
    }

    fn parse(arguments: &[&str]) -> Result<Settings> {
        let matches = command().try_get_matches_from(arguments).unwrap();
        let own = Flags::<Own>::from_arg_matches(&matches).unwrap().overrides()?;
        let recipe = Recipe::from_arg_matches(&matches).unwrap();
        recipe.given(own)?.overrides.over(Settings::default())
    }

    #[test]
    fn each_setting_has_one_flag_and_a_line_of_help() {
        let mut command = command();
        let help = command.render_help().to_string();
        for line in [
            "--batch-size <N>",
            "Sentences per step [default: 32]",
            "Highest learning rate [default: 5e-5; quickstart 0.001]",
            "Steps of warm-up [default: 6 % of all; quickstart 40]",
            "Largest global gradient norm, 0 for none [default: 1]",
            "[default: what the model was trained with, else dense]",
            "Steps between checkpoints [default: at each evaluation]",
            "--no-shuffle ",
            "--checkpoint-activations ",
        ] {
            assert_eq!(help.matches(line).count(), 1, "{line}: {help}");
        }
        let flags = command.get_arguments().filter_map(Arg::get_long);
        let named = flags.filter(|flag| Setting::named(flag).is_some()).count();
        assert_eq!(named, Settings::ALL.len() - 1, "all but --no-shuffle are called as they are");
    }

    #[test]
    fn flags_set_their_settings_and_are_named_where_they_are_wrong() {
        let arguments = "train --seed 7 --clip 0.5 --no-shuffle --checkpoint-activations";
        let settings = parse(&arguments.split(' ').collect::<Vec<_>>()).unwrap();
        let wanted = Settings {
            seed: 7,
            clip: 0.5,
            shuffle: false,
            checkpoint_activations: true,
            ..Settings::default()
        };
        assert_eq!(settings, wanted);
        for (arguments, why) in [
            (["train", "--batch-size", "0"], "--batch-size 0: it must be between 1 and 65,535"),
            (["train", "--clip", "-1"], "--clip -1: it must be a number of 0 or more"),
            (["train", "--seed", "x"], "--seed: 'x': invalid digit found in string"),
            (["train", "--gradient-accumulation", "33"], "between 1 and the batch size"),
        ] {
            let error = parse(&arguments).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }
}
