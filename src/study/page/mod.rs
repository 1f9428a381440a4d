//! The page of a study, and the same as text and figures.

mod figures;
mod tables;

use super::analysis::Analysis;
use super::collected::{Collected, CollectedRun};
use crate::engine::Look;
use crate::error::Result;
use crate::files;
use crate::report::chart::standalone;
use crate::report::page::{Page, Table};
use crate::report::{adapter_name, heads_figures, layers_figures, record_pairs, sparsity_table};
use figures::StudyFigures;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tables::StudyTables;

/// What was written of a study.
pub struct Written {
    /// The page.
    pub report: PathBuf,
    /// The tables, as text.
    pub text: String,
}

/// What stands on the page, in the page and in the text.
struct Content<'a> {
    collected: &'a Collected,
    analysis: &'a Analysis,
    title: String,
    subtitle: String,
    notes: Vec<String>,
    tables: StudyTables,
    figures: StudyFigures,
}

/// Writes `report.html`, `report.md` (the tables), `report.json` (all figures) and `figures/*.svg`
/// into a study's directory.
///
/// # Errors
/// What the operating system refuses.
pub fn write(root: &Path, collected: &Collected, analysis: &Analysis) -> Result<Written> {
    let content = Content {
        collected,
        analysis,
        title: format!("Does sparse attention change {}?", collected.study.model),
        subtitle: subtitle(collected),
        notes: notes(collected, analysis),
        tables: StudyTables::new(collected, analysis),
        figures: StudyFigures::new(collected, analysis),
    };
    let report = root.join("report.html");
    files::write(&report, content.page().as_bytes())?;
    let text = content.text();
    files::write(&root.join("report.md"), text.as_bytes())?;
    files::write_json(&root.join("report.json"), analysis)?;
    files::create_dir(&root.join("figures"))?;
    for figure in content.figures.all() {
        let path = root.join("figures").join(format!("{}.svg", figure.name));
        files::write(&path, standalone(&figure.svg).as_bytes())?;
    }
    Ok(Written { report, text })
}

impl Content<'_> {
    /// What each comparison means, in words.
    fn verdicts(&self) -> impl Iterator<Item = &str> {
        self.analysis.comparisons.iter().map(|comparison| comparison.verdict.as_str())
    }

    fn page(&self) -> String {
        let mut page = Page::new(self.title.as_str(), self.subtitle.as_str());
        for verdict in self.verdicts() {
            page.verdict(verdict);
        }
        self.add_result(&mut page);
        page.section("Training");
        for figure in &self.figures.curves {
            page.figure(&figure.svg, &figure.caption);
        }
        page.section("Operations and time");
        page.table(&self.tables.operations).table(&self.tables.times);
        self.add_sparsity(&mut page);
        add_attention(&mut page, self.collected);
        self.add_settings(&mut page);
        page.finish()
    }

    fn add_result(&self, page: &mut Page) {
        page.section("Result");
        for note in &self.notes {
            page.text(note);
        }
        let StudyTables { results, differences, losses, tests, .. } = &self.tables;
        add_if_filled(page, [results, differences]);
        let figure = &self.figures.difference;
        page.figure(&figure.svg, &figure.caption);
        add_if_filled(page, [losses, tests]);
    }

    fn add_sparsity(&self, page: &mut Page) {
        page.section("Sparsity realised, by layer and head");
        for result in &self.analysis.configurations {
            let name = &result.configuration.name;
            let caption = format!(
                "{name}: share of the pairs of query and key left out in the last evaluation"
            );
            let table = sparsity_table(&result.evaluation_sparsity, &caption);
            page.fold(name, |page| {
                page.table(&table);
            });
        }
    }

    fn add_settings(&self, page: &mut Page) {
        page.section("Settings and fingerprints");
        if let Some(first) = self.collected.runs.first() {
            let mut pairs = record_pairs(&first.record);
            let each_run_s = ["sparsity", "seed", "attention dropout"];
            pairs.retain(|(name, _)| !each_run_s.contains(&name.as_str()));
            pairs.push(("seeds".into(), listed(self.collected.study.seeds.iter())));
            page.pairs(&pairs);
        }
        page.fold("Every run", |page| {
            page.table(&self.tables.runs);
        });
    }

    /// Verdicts, notes and tables as Markdown.
    fn text(&self) -> String {
        let mut text = format!("# {}\n\n{}\n\n", self.title, self.subtitle);
        for part in self.verdicts().chain(self.notes.iter().map(String::as_str)) {
            text.push_str(part);
            text.push_str("\n\n");
        }
        for table in self.tables.all() {
            text.push_str(&table.text());
            text.push('\n');
        }
        text
    }
}

/// Adds the tables that have rows: with one configuration there is nothing to compare.
fn add_if_filled(page: &mut Page, tables: [&Table; 2]) {
    for table in tables.into_iter().filter(|table| !table.rows.is_empty()) {
        page.table(table);
    }
}

fn listed(items: impl Iterator<Item = impl ToString>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(", ")
}

fn subtitle(collected: &Collected) -> String {
    let study = &collected.study;
    let run = collected.runs.first();
    let sentences = run.map_or(0, |run| run.predictions.len());
    let steps = run.and_then(|run| run.record.result.as_ref()).map_or(0, |result| result.steps);
    format!(
        "{} on {}: {} configurations, {} seed{} each, {steps} steps of {} sentences, judged on \
         {sentences} validation sentences. {}.",
        study.model,
        study.data,
        study.configurations.len(),
        study.seeds.len(),
        if study.seeds.len() == 1 { "" } else { "s" },
        study.settings.batch_size,
        run.map_or(String::new(), |run| adapter_name(&run.record.adapter)),
    )
}

fn notes(collected: &Collected, analysis: &Analysis) -> Vec<String> {
    let mut notes = vec![
        "Runs of one seed share data order, fresh weights and dropout. All figures are of the \
         model after the last step, not of the best step: that one is chosen by the sentences that \
         it is judged on."
            .to_owned(),
    ];
    if !analysis.missing.is_empty() {
        notes.push(format!(
            "Not finished: {} of {} runs ({}). What is shown is about the others.",
            analysis.missing.len(),
            analysis.missing.len() + collected.runs.len(),
            listed(analysis.missing.iter()),
        ));
    }
    if !analysis.diverged.is_empty() {
        notes.push(format!(
            "Diverged, and so without a result: {}. The others of such a configuration are those \
             that did not, which flatters it.",
            listed(analysis.diverged.iter())
        ));
    }
    let adapters: BTreeSet<String> =
        collected.runs.iter().map(|run| adapter_name(&run.record.adapter)).collect();
    if adapters.len() > 1 {
        notes.push(format!(
            "The runs come from different adapters ({}): compare no times.",
            listed(adapters.iter())
        ));
    }
    if analysis.comparisons.len() > 1 {
        notes.push(
            "Each interval covers the truth in 95 % of studies on its own; of several, one is more \
             likely to miss it."
                .into(),
        );
    }
    notes
}

/// The same sentences under each configuration, from the runs of the first seed that has any.
fn add_attention(page: &mut Page, collected: &Collected) {
    let Some(first) = collected.runs.iter().find(|run| run.attention.is_some()) else { return };
    let runs: Vec<&CollectedRun> = collected
        .runs
        .iter()
        .filter(|run| run.run.seed == first.run.seed && run.attention.is_some())
        .collect();
    page.section("Where attention looks");
    page.text(&format!(
        "The same sentences under each configuration, seed {}: for each layer the mean weights of \
         its heads. Rows are queries, columns keys; pairs that no head keeps are blank.",
        first.run.seed
    ));
    for (number, sentence) in sentences(first).iter().enumerate() {
        page.text(&format!("“{}”", sentence.tokens.join(" ")));
        for run in &runs {
            // A run that was made to show other sentences has nothing to show beside these.
            let look = sentences(run).get(number).filter(|look| look.tokens == sentence.tokens);
            let Some(look) = look else { continue };
            let name = &collected.study.configurations[run.run.configuration].name;
            page.text(name);
            page.figures(&layers_figures(look));
            // One sentence in full is enough: a map takes some kilobytes.
            if number == 0 {
                page.fold(&format!("{name}: every head"), |page| heads_figures(page, look));
            }
        }
    }
}

/// The sentences whose attention a run shows.
fn sentences(run: &CollectedRun) -> &[Look] {
    run.attention.as_ref().map_or(&[], |attention| attention.sentences.as_slice())
}
