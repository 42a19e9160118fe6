//! Section `policy`: the bundle that judges every job, read and checked before anybody is judged.

use super::Profile;
use super::layers::Layers;
use super::refusal::Refusal;
use crate::policy_file::PolicyFile;
use coretex_domain::policy::Verdict;
use coretex_policy::{Bundle, set};
use std::path::PathBuf;

/// Who judges.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Absent: whatever was applied, else the built-in policy.
    pub file: Option<PolicyFile>,
}

const MEND: &str =
    "`coretex policy check FILE` tells every mistake with its line; docs/guide/policy.md has the format";

impl Policy {
    pub fn build(layers: &mut Layers) -> Option<Policy> {
        let Some(path) = layers.text("policy.file") else { return Some(Policy { file: None }) };
        let refuse = |layers: &mut Layers, message: String| {
            layers.refuse_at("policy.file", Refusal::new("R10", message, MEND));
        };
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => {
                refuse(layers, format!("cannot read {path}: {error}"));
                return None;
            }
        };
        let bundle = match Bundle::parse(&text) {
            Ok(bundle) => bundle,
            Err(problems) => {
                refuse(layers, format!("{path} cannot be used: {}", one_line(&problems.to_string())));
                return None;
            }
        };
        if &*bundle.name != set::DEFAULT && bundle.default == Verdict::Deny {
            let told =
                "only the policy named default decides by its default; name it so, or write `default: allow`";
            refuse(layers, format!("{path} cannot be used: {told}"));
            return None;
        }
        Some(Policy { file: Some(PolicyFile { path: PathBuf::from(path), yaml: text, bundle }) })
    }

    /// A server for others does not allow everything.
    pub fn validate(&self, profile: Profile, layers: &mut Layers) {
        if profile == Profile::Production && self.file.as_ref().is_some_and(|file| file.bundle.allows_all()) {
            let message = "the bundle allows everything";
            let mend = "write a rule that denies, or leave policy.file out to keep the built-in policy";
            layers.refuse_at("policy.file", Refusal::new("R10", message, mend));
        }
    }
}

fn one_line(problems: &str) -> String {
    problems.lines().collect::<Vec<_>>().join("; ")
}
