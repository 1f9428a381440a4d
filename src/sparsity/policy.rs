//! The policy: how a user says which scores attention keeps, in which layers and when.

use super::{LayerRules, Rule};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

/// What each layer of a model keeps, as written on the command line and in a checkpoint's
/// `config.json`: rules joined by `+`, each for some layers (`topk:0.8@3-5`) and perhaps for one
/// phase (`,only=train`). A layer that no rule speaks of is dense.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Policy {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq)]
struct Part {
    rule: Rule,
    /// First and last layer, counted from 0 as in the names of the checkpoint's tensors; else all.
    layers: Option<(usize, usize)>,
    only: Option<Phase>,
}

/// When a rule holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Train,
    Eval,
}

impl Policy {
    /// Every key of the sentence, in every layer.
    pub fn dense() -> Self {
        Self::from(Rule::Dense)
    }

    /// The policy that training follows.
    pub fn training(&self) -> Self {
        self.during(Phase::Train)
    }

    /// The policy that evaluation follows: a sparsity that warms up is the final one there, so that
    /// what is evaluated is what a checkpoint promises.
    pub fn evaluation(&self) -> Self {
        let mut policy = self.during(Phase::Eval);
        policy.parts.iter_mut().for_each(|part| part.rule = part.rule.settled());
        policy
    }

    fn during(&self, phase: Phase) -> Self {
        let of_phase = |part: &&Part| part.only.is_none_or(|only| only == phase);
        let parts = self.parts.iter().filter(of_phase);
        Self { parts: parts.map(|part| Part { only: None, ..part.clone() }).collect() }
    }

    /// The rules of a model with so many layers.
    ///
    /// # Errors
    /// A rule for a layer that the model lacks.
    pub fn for_layers(&self, layers: usize) -> Result<LayerRules> {
        for part in &self.parts {
            if let Some((_, last)) = part.layers.filter(|(_, last)| *last >= layers) {
                return Err(Error::usage(format!(
                    "sparsity '{self}': layer {last} is spoken of, and the model has layers 0 to {}",
                    layers.saturating_sub(1)
                )));
            }
        }
        let mut rules: Vec<Rule> = Vec::new();
        let of_layer = (0..layers)
            .map(|layer| {
                let rule = self.rule(layer);
                rules.iter().position(|known| *known == rule).unwrap_or_else(|| {
                    rules.push(rule);
                    rules.len() - 1
                })
            })
            .collect();
        // One size for all rules, so that they share their blocks.
        let block = self.parts.iter().find_map(|part| part.rule.block()).unwrap_or(Rule::BLOCK);
        Ok(LayerRules { block, rules, of_layer })
    }

    fn rule(&self, layer: usize) -> Rule {
        let holds =
            |part: &&Part| part.layers.is_none_or(|(first, last)| (first..=last).contains(&layer));
        self.parts.iter().find(holds).map_or(Rule::Dense, |part| part.rule)
    }

    /// Refuses rules that contradict each other.
    fn check(&self) -> std::result::Result<(), String> {
        let mut blocks = self.parts.iter().filter_map(|part| part.rule.block());
        if let Some(first) = blocks.next()
            && let Some(other) = blocks.find(|block| *block != first)
        {
            return Err(format!(
                "blocks of {first} and of {other} tokens; all layers share one size"
            ));
        }
        for (index, part) in self.parts.iter().enumerate() {
            let meets = |other: &&Part| {
                let apart = match (part.layers, other.layers) {
                    (Some((a, b)), Some((c, d))) => b < c || d < a,
                    _ => false,
                };
                let phases = [part.only, other.only];
                !apart && (phases.contains(&None) || phases[0] == phases[1])
            };
            if let Some(other) = self.parts[..index].iter().find(meets) {
                return Err(format!("'{other}' and '{part}' are for the same layers"));
            }
        }
        Ok(())
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self::dense()
    }
}

impl From<Rule> for Policy {
    /// The rule, in every layer and always.
    fn from(rule: Rule) -> Self {
        Self { parts: vec![Part { rule, layers: None, only: None }] }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.rule)?;
        match self.only {
            Some(Phase::Train) => f.write_str(",only=train")?,
            Some(Phase::Eval) => f.write_str(",only=eval")?,
            None => {}
        }
        match self.layers {
            Some((first, last)) if first == last => write!(f, "@{first}"),
            Some((first, last)) => write!(f, "@{first}-{last}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.parts.is_empty() {
            return f.write_str("dense");
        }
        for (index, part) in self.parts.iter().enumerate() {
            write!(f, "{}{part}", if index > 0 { "+" } else { "" })?;
        }
        Ok(())
    }
}

impl From<Policy> for String {
    fn from(policy: Policy) -> Self {
        policy.to_string()
    }
}

impl TryFrom<String> for Policy {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl FromStr for Policy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: String| {
            Error::usage(format!("sparsity '{text}': {why}")).remedy(
                "It is `dense`, `topk:0.8`, `block-topk:0.8`, `random:0.8` (0.8 being the share dropped; \
                 `0->0.8` lets it grow over the run), or `local:8` (tokens seen on each side). Options \
                 follow: `,over=128`, `,block=32`, `,warmup=500`, `,global`, `,seed=7`, `,only=train`; and \
                 layers, `@3-5`, with several rules joined by `+`.",
            )
        };
        let parts = text.trim().split('+').map(part).collect::<std::result::Result<Vec<_>, _>>();
        let policy = Self { parts: parts.map_err(wrong)? };
        policy.check().map_err(wrong)?;
        Ok(policy)
    }
}

/// `RULE[,option…][@layers]`; the layers may also follow the rule at once.
fn part(text: &str) -> std::result::Result<Part, String> {
    let mut layers = None;
    let mut only = None;
    let mut of_rule = Vec::new();
    let mut seen = HashSet::new();
    for word in text.split(',') {
        let (word, range) = match word.split_once('@') {
            Some((word, range)) => (word, Some(range)),
            None => (word, None),
        };
        if let Some(range) = range {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let number = |text: &str| {
                text.parse::<usize>()
                    .map_err(|_| format!("'@{range}' names no layers, as `@3-5` does"))
            };
            let ends = (number(first)?, number(last)?);
            if ends.0 > ends.1 || layers.is_some() {
                return Err(format!("'@{range}' names no layers, as `@3-5` does"));
            }
            layers = Some(ends);
        }
        let key = word.split(['=', ':']).next().unwrap_or_default();
        if !seen.insert(key) {
            return Err(format!("'{key}' is said twice"));
        }
        match word.split_once('=') {
            Some(("only", "train")) => only = Some(Phase::Train),
            Some(("only", "eval")) => only = Some(Phase::Eval),
            Some(("only", other)) => return Err(format!("only={other}; it is train or eval")),
            _ => of_rule.push(word),
        }
    }
    Ok(Part { rule: Rule::parse(&of_rule)?, layers, only })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_back_as_written() {
        for text in [
            "dense",
            "topk:0.8",
            "topk:0.5,over=128",
            "topk:0→0.8",
            "topk:0.2→0.8,warmup=500@3-5",
            "block-topk:0.8",
            "block-topk:0.9,block=32",
            "local:8",
            "local:8,global@0",
            "random:0.8",
            "random:0.8,over=64,seed=7",
            "topk:0.8,only=train",
            "local:4@0-2+topk:0.8,only=eval@3-5",
        ] {
            let policy: Policy = text.parse().unwrap();
            assert_eq!(policy.to_string(), text);
        }
        for (text, same) in [
            (" topk:0->0.8 ", "topk:0→0.8"),
            ("topk:0.80@3-3,over=9", "topk:0.8,over=9@3"),
            ("block-topk:0.5,block=16", "block-topk:0.5"),
        ] {
            assert_eq!(text.parse::<Policy>().unwrap().to_string(), same);
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "top",
            "topk",
            "topk:1",
            "topk:-0.1",
            "topk:nan",
            "topk:0.5,block=8",
            "topk:0.5,global",
            "dense:0.5",
            "dense,over=3",
            "block-topk:0.5,block=7",
            "topk:0.5,over=0",
            "topk:0.5,over",
            "topk:0.5,warmup=10",
            "topk:0->",
            "topk:0->1",
            "local",
            "local:0.5",
            "local:-1",
            "random:0.5,seed=x",
            "topk:0.5@",
            "topk:0.5@5-3",
            "topk:0.5@1@2",
            "topk:0.5,only=never",
            "topk:0.5,only=train,only=eval",
            "topk:0.5,over=4,over=5",
            "local:3,global,global",
            "topk:0.5+",
            "topk:0.5+topk:0.8",
            "topk:0.5@0-3+topk:0.8@3",
            "block-topk:0.5,block=8@0+block-topk:0.5@1",
        ] {
            let error = text.parse::<Policy>().expect_err(text).to_string();
            assert!(error.contains("sparsity") && error.contains("topk:0.8"), "{error}");
        }
    }

    #[test]
    fn layers_follow_their_rules_and_are_dense_without_one() {
        let policy: Policy = "local:4@0-1+topk:0.8@3".parse().unwrap();
        let layers = policy.for_layers(5).unwrap();
        assert_eq!(layers.of_layer, [0, 0, 1, 2, 1]);
        assert_eq!((layers.rules[1], layers.block), (Rule::Dense, 16));
        assert!(policy.for_layers(3).is_err());
        let blocks: Policy = "block-topk:0.5,block=32@1".parse().unwrap();
        assert_eq!(blocks.for_layers(2).unwrap().block, 32);
    }

    #[test]
    fn a_phase_leaves_the_other_dense() {
        let policy: Policy = "topk:0→0.8,only=train+local:3,only=eval".parse().unwrap();
        assert_eq!(policy.training().to_string(), "topk:0→0.8");
        assert_eq!(policy.evaluation().to_string(), "local:3");
        let policy: Policy = "topk:0.8,only=train".parse().unwrap();
        assert_eq!(policy.evaluation().to_string(), "dense");
        assert_eq!(policy.evaluation().for_layers(2).unwrap().rules, [Rule::Dense]);
    }

    #[test]
    fn a_warm_up_grows_and_is_over_in_evaluation() {
        let shares = |text: &str, steps: &[u32]| -> Vec<String> {
            let policy: Policy = text.parse().unwrap();
            let rules = policy.training().for_layers(1).unwrap();
            steps.iter().map(|step| rules.at(*step, 100).rules[0].to_string()).collect()
        };
        let found = shares("topk:0.2→0.8,warmup=10", &[1, 6, 11, 99]);
        assert_eq!(found, ["topk:0.2", "topk:0.5", "topk:0.8", "topk:0.8"]);
        // Without a number it is half of the run.
        let found = shares("block-topk:0→0.5", &[26, 51]);
        assert_eq!(found, ["block-topk:0.25", "block-topk:0.5"]);
        let policy: Policy = "topk:0.2→0.8,warmup=10".parse().unwrap();
        assert_eq!(policy.evaluation().to_string(), "topk:0.8");
    }

    /// Two rules that become one in the end stay two, so that a layer finds its own at every step.
    #[test]
    fn rules_keep_their_places_while_they_grow() {
        let policy: Policy = "topk:0→0.8@0+topk:0.8@1".parse().unwrap();
        let rules = policy.training().for_layers(2).unwrap().at(100, 100);
        assert_eq!(rules.rules[0], rules.rules[1]);
        assert_eq!(rules.of_layer, [0, 1]);
    }
}
