//! `crisp reproduce`: the paper's comparison, with several seeds and what can be said from them.

use super::progress::{ProgressLine, duration};
use super::recipe::{Chosen, Own, Recipe, Subset, choose};
use super::train::{STOP, stop_on_interrupt};
use super::{Common, note, open, print, print_json, source};
use crate::error::{Error, Kind, Result};
use crate::report::page::Table;
use crate::sparsity::Policy;
use crate::study::{self, Analysis, Collected, Configuration, Resources, Shard, Study, StudyEvent};
use crate::train::{Overrides, Settings};
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    recipe: Recipe,
    /// Shares that are dropped, each a configuration beside dense.
    #[arg(long, value_name = "S,…", value_delimiter = ',', default_value = "0.2,0.5,0.8")]
    levels: Vec<String>,
    /// What the levels are levels of: `topk`, `block-topk`, or either with options
    /// (`topk,over=128`).
    #[arg(long, value_name = "RULE", default_value = "topk")]
    rule: String,
    /// Another policy to compare; may be given several times.
    #[arg(long, value_name = "S")]
    also: Vec<String>,
    /// A control: `random` (keys drawn at random, as many as each level keeps; beside block-topk
    /// that share of the keys) or `attention-dropout:P` (dense, its weights dropped with that
    /// probability); may be given several times.
    #[arg(long, value_name = "C")]
    control: Vec<String>,
    /// Runs of each configuration.
    #[arg(long, value_name = "N", default_value_t = 5,
        value_parser = clap::value_parser!(u64).range(1..=10_000))]
    seeds: u64,
    /// The first seed; the others follow it.
    #[arg(long, value_name = "N", default_value_t = 1)]
    first_seed: u64,
    /// Do only the I-th of N parts of the runs, so that several machines share a study.
    #[arg(long, value_name = "I/N", conflicts_with = "collect")]
    shard: Option<Shard>,
    /// Run nothing: collect what these directories (of shards, or --output itself) hold, and report
    /// it.
    #[arg(long, value_name = "DIR", num_args = 0..)]
    collect: Option<Vec<PathBuf>>,
    /// A sentence whose attention the report shows, instead of two of the validation set; may be
    /// given several times.
    #[arg(long, value_name = "TEXT")]
    show: Vec<String>,
    /// Keep each run's model (by default only its records are kept).
    #[arg(long)]
    keep_models: bool,
    /// The statistics as one JSON object.
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: Arguments, common: &Common) -> Result<()> {
    if let Some(shards) = &arguments.collect {
        return collect(shards, arguments.recipe.output.as_deref(), arguments.json);
    }
    let Planned { study, root, fallback } = plan(&arguments)?;
    check_layers(&study)?;
    let study = study.join(&root, &mut say_waiting)?;
    note(&format!(
        "{} configurations of {} seeds in {}",
        study.configurations.len(),
        study.seeds.len(),
        root.display()
    ));
    stop_on_interrupt()?;
    sweep(&study, &root, &arguments, common)?;
    let collected = Collected::read(&root)?;
    if collected.runs.is_empty() {
        note("no run of the study is done yet, so there is nothing to report");
    } else {
        report(&root, &collected, arguments.json)?;
    }
    check_diverged(&collected)?;
    match fallback {
        Some(text) if !arguments.json => print(&text),
        _ => Ok(()),
    }
}

/// Runs nothing: brings the records of several directories together, and reports them.
fn collect(shards: &[PathBuf], output: Option<&Path>, json: bool) -> Result<()> {
    let root = match (output, shards) {
        (Some(root), _) => root,
        (None, [one]) => one,
        (None, _) => {
            return Err(Error::usage("--collect of several directories needs an --output"));
        }
    };
    let others: Vec<PathBuf> = shards.iter().filter(|shard| *shard != root).cloned().collect();
    study::merge(&others, root, &mut say_waiting)?;
    report(root, &Collected::read(root)?, json)
}

fn say_waiting(root: &Path) {
    note(&format!("{}: another process is adding to this study; waiting for it", root.display()));
}

/// Says now, rather than after the runs before it, that a policy is for a layer that the model
/// lacks.
fn check_layers(study: &Study) -> Result<()> {
    let seed = study.seeds.first().copied().unwrap_or_default();
    let layers = source::model(&study.model, seed)?.config.encoder.layers;
    for configuration in &study.configurations {
        configuration.sparsity.for_layers(layers)?;
    }
    Ok(())
}

/// Runs what is left of the study, and says how it goes on.
fn sweep(study: &Study, root: &Path, arguments: &Arguments, common: &Common) -> Result<()> {
    let resources = Resources {
        open: &|| open(common),
        load: &|seed| {
            let model = source::model_for(&study.data, &study.model, seed)?;
            let (train, validation) =
                source::training_data(&study.data, model.config.task.labels())?;
            Ok((model, train, validation))
        },
        show: &arguments.show,
        stop: &STOP,
    };
    let mut progress = ProgressLine::new();
    let shard = arguments.shard.unwrap_or(Shard::WHOLE);
    let mut show = |event: StudyEvent<'_>| show(&mut progress, event);
    let ran = study::run(study, root, shard, arguments.keep_models, &resources, &mut show);
    progress.finish();
    ran.map_err(|error| match error.kind() {
        Kind::Interrupted => {
            error.remedy("The same command goes on where it was, and repeats no run that is done.")
        }
        _ => error,
    })
}

/// What happens in a sweep, for the person at the terminal.
fn show(progress: &mut ProgressLine, event: StudyEvent<'_>) {
    match event {
        StudyEvent::Begun(run, number, count) => {
            *progress = ProgressLine::new();
            note(&format!("run {number} of {count}: {}", run.name));
        }
        StudyEvent::Done(run) => note(&format!("{}: done before", run.name)),
        StudyEvent::Busy(run) => note(&format!("{}: another process is at it", run.name)),
        StudyEvent::Diverged(run, why) => {
            progress.finish();
            note(&format!("{}: {why}", run.name));
        }
        StudyEvent::In(event) => progress.show(event),
        StudyEvent::Ended(run, record) => {
            progress.finish();
            if let Some(result) = &record.result {
                note(&format!(
                    "{}: accuracy {:.4}, loss {:.4}, in {}",
                    run.name,
                    result.eval_accuracy,
                    result.eval_loss,
                    duration(result.seconds)
                ));
            }
        }
    }
}

/// Ends with an error where runs have diverged: the report is about the others.
fn check_diverged(collected: &Collected) -> Result<()> {
    if collected.diverged.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = collected.diverged.iter().map(|run| run.name.as_str()).collect();
    Err(Error::diverged(format!("these runs have diverged: {}", names.join(", "))).remedy(
        "Remove their directories to try them again; a lower --learning-rate needs another \
         --output.",
    ))
}

/// The study that the flags describe.
struct Planned {
    study: Study,
    /// Where it goes.
    root: PathBuf,
    /// What to say with the result where the paper's task could not be had.
    fallback: Option<String>,
}

fn plan(arguments: &Arguments) -> Result<Planned> {
    let given = arguments.recipe.clone().given(Overrides::default())?;
    for setting in Settings::ALL.iter().filter(|setting| Own::holds(setting.name)) {
        if given.overrides.has(setting) {
            return Err(Error::usage(format!(
                "the settings file names a {}, and each run of a study has its own",
                setting.name
            ))
            .remedy("Leave it out; see --levels, --also, --seeds and --first-seed."));
        }
    }
    let Chosen { model, data, given, recipe, fallback } = choose(given);
    let settings = given.overrides.over(recipe)?;
    let configurations = configurations(arguments)?;
    let last = arguments
        .first_seed
        .checked_add(arguments.seeds - 1)
        .ok_or_else(|| Error::usage(format!("--first-seed {}: too large", arguments.first_seed)))?;
    let root = given.output.unwrap_or_else(|| {
        let model = Path::new(&model).file_name().unwrap_or_default();
        PathBuf::from("studies").join(model)
    });
    let study = Study {
        crisp: env!("CARGO_PKG_VERSION").into(),
        model,
        data,
        settings,
        configurations,
        seeds: (arguments.first_seed..=last).collect(),
    };
    Ok(Planned { study, root, fallback })
}

/// Dense attention, the levels, the other policies and the controls, each once.
fn configurations(arguments: &Arguments) -> Result<Vec<Configuration>> {
    let (rule, options) = match arguments.rule.split_once(',') {
        Some((rule, options)) => (rule, format!(",{options}")),
        None => (arguments.rule.as_str(), String::new()),
    };
    let mut all = vec![Configuration::of(&Policy::dense())];
    for level in &arguments.levels {
        let policy = format!("{rule}:{}{options}", level.trim()).parse();
        let policy = policy.map_err(|why: Error| why.at("--rule with --levels"))?;
        all.push(Configuration::of(&policy));
    }
    for policy in &arguments.also {
        all.push(Configuration::of(&policy.parse()?));
    }
    for control in &arguments.control {
        match control.split_once(':') {
            None if control == "random" => all.extend(random(&arguments.levels, &options)?),
            Some(("attention-dropout", probability)) => {
                all.push(attention_dropout(control, probability)?);
            }
            _ => {
                return Err(Error::usage(format!("--control {control}: there is no such control"))
                    .remedy("It is `random` or `attention-dropout:0.3`."));
            }
        }
    }
    let mut distinct: Vec<Configuration> = Vec::new();
    for configuration in all {
        if !distinct.contains(&configuration) {
            distinct.push(configuration);
        }
    }
    Ok(distinct)
}

/// Random keys, as many as each level keeps; of blocks, that share of the keys.
fn random(levels: &[String], options: &str) -> Result<Vec<Configuration>> {
    let options: String = options
        .split(',')
        .filter(|option| !option.is_empty() && !option.starts_with("block="))
        .map(|option| format!(",{option}"))
        .collect();
    levels
        .iter()
        .map(|level| Ok(Configuration::of(&format!("random:{}{options}", level.trim()).parse()?)))
        .collect()
}

/// Dense attention with a dropout of its own.
fn attention_dropout(control: &str, probability: &str) -> Result<Configuration> {
    let parsed: Option<f32> = probability.parse().ok();
    let probability = parsed
        .filter(|probability| (0.0..1.0).contains(probability))
        .ok_or_else(|| Error::usage(format!("--control {control}: no probability in [0, 1)")))?;
    Ok(Configuration::attention_dropout(probability))
}

/// Writes the report of what is done, and prints its table and verdicts.
fn report(root: &Path, collected: &Collected, json: bool) -> Result<()> {
    let analysis = Analysis::of(collected)?;
    let written = study::write(root, collected, &analysis)?;
    if json {
        return print_json(&analysis);
    }
    print(&summary(&analysis).text())?;
    for comparison in &analysis.comparisons {
        print(&comparison.verdict)?;
    }
    if !analysis.missing.is_empty() {
        let plural = if analysis.missing.len() == 1 { "" } else { "s" };
        print(&format!("not finished: {} run{plural}", analysis.missing.len()))?;
    }
    print(&format!("report in {}", written.report.display()))
}

fn summary(analysis: &Analysis) -> Table {
    let columns = ["configuration", "seeds", "accuracy, %", "sd", "loss", "step, s"];
    let row = |result: &study::ConfigurationResult| {
        vec![
            result.configuration.name.clone(),
            result.seeds.len().to_string(),
            format!("{:.2}", result.accuracy.mean * 100.0),
            result.accuracy.deviation.map_or("–".into(), |sd| format!("{:.2}", sd * 100.0)),
            format!("{:.4}", result.loss.mean),
            format!("{:.3}", result.step_seconds.mean),
        ]
    };
    Table {
        caption: String::new(),
        columns: columns.map(String::from).to_vec(),
        rows: analysis.configurations.iter().map(row).collect(),
    }
}
