//! One rule of a bundle: what it matches and what it says.

use super::globs::{self, globs};
use super::parts;
use crate::bundle::{Match, Rule, word};
use crate::condition::Condition;
use crate::glob::Alphabet;
use crate::limits::{EXPRESSION_BYTES_MAX, LIST_MAX, RULE_ID_LEN_MAX, TEXT_LEN_MAX};
use coretex_document::{Fields, Node, Notes, Spot, join, text};
use coretex_domain::names;
use coretex_domain::policy::Verdict;
use std::sync::Arc;

const KEYS: &[&str] =
    &["id", "match", "when", "verdict", "reason", "remediations", "approval", "rate", "constraints"];

const MATCH_KEYS: &[&str] = &[
    "topics",
    "tenants",
    "actors",
    "actor_types",
    "capabilities",
    "risk_tags",
    "requires",
    "labels",
    "pack",
];

const VERDICTS: &[(&str, Verdict)] = &[
    (word(Verdict::Allow), Verdict::Allow),
    (word(Verdict::Deny), Verdict::Deny),
    (word(Verdict::RequireApproval), Verdict::RequireApproval),
    (word(Verdict::Throttle), Verdict::Throttle),
    (word(Verdict::AllowWithConstraints), Verdict::AllowWithConstraints),
];

/// Reads one rule. The id comes out also if the rule does not, so that a second use of it is found.
pub(super) fn read<'n>(
    number: usize,
    spot: &'n Spot,
    notes: &mut Notes,
) -> Option<(Arc<str>, &'n Spot, Option<Rule>)> {
    let bare = format!("rules[{number}]");
    // The id belongs in every message about the rule, so it is looked up before the rest is read.
    let path = match named(spot) {
        Some(id) => format!("{bare}({id})"),
        None => bare,
    };
    let fields = notes.map(spot, &path, KEYS)?;
    let id = fields.text("id", RULE_ID_LEN_MAX, notes);
    match (&id, fields.spot("id")) {
        (Some(id), Some(at)) => notes.check_id(at, &fields.path("id"), id, RULE_ID_LEN_MAX),
        (None, None) => notes.at(spot, &fields.path("id"), "is missing; every rule has an id of its own"),
        _ => {}
    }
    let verdict = fields.word("verdict", VERDICTS, notes);
    if !fields.has("verdict") {
        notes.at(spot, &fields.path("verdict"), "is missing; say what the rule answers");
    }
    let rule = read_rest(&fields, spot, id.clone(), verdict, notes);
    Some((id?, fields.spot("id")?, rule))
}

/// The id of a rule if it is fit to be shown.
fn named(spot: &Spot) -> Option<&str> {
    let Node::Map(fields) = &spot.value else { return None };
    let (_, id) = fields.iter().find(|(key, _)| key.value == "id")?;
    match &id.value {
        Node::Text(id) if id.len() <= RULE_ID_LEN_MAX && !id.contains(char::is_control) => Some(id),
        _ => None,
    }
}

fn read_rest(
    fields: &Fields<'_>,
    spot: &Spot,
    id: Option<Arc<str>>,
    verdict: Option<Verdict>,
    notes: &mut Notes,
) -> Option<Rule> {
    let matching = match fields.spot("match") {
        Some(found) => read_match(found, &fields.path("match"), notes),
        None => {
            notes.at(
                spot,
                &fields.path("match"),
                "is missing; write match: {topics: [\"*\"]} for a rule about all jobs",
            );
            None
        }
    };
    let when = fields.spot("when").and_then(|found| read_condition(found, &fields.path("when"), notes));
    let reason = fields.text("reason", TEXT_LEN_MAX, notes);
    let remediations = parts::remediations(fields, notes);
    let approval = parts::approval(fields, notes);
    let rate = parts::rate(fields, notes);
    let constraints = parts::constraints(fields, notes);
    let verdict = verdict?;
    let belongs = [
        ("approval", Verdict::RequireApproval, false),
        ("rate", Verdict::Throttle, true),
        ("constraints", Verdict::AllowWithConstraints, true),
    ];
    for (name, owner, is_needed) in belongs {
        match fields.spot(name) {
            Some(found) if verdict != owner => {
                let told =
                    format!("belongs to the verdict {}, but the verdict is {}", word(owner), word(verdict));
                notes.at(found, &fields.path(name), told);
            }
            None if verdict == owner && is_needed => {
                notes.at(
                    spot,
                    &fields.path(name),
                    format!("is missing; the verdict {} needs it", word(owner)),
                );
            }
            _ => {}
        }
    }
    let approval = (verdict == Verdict::RequireApproval).then(|| approval.unwrap_or_default());
    Some(Rule {
        id: id?,
        matching: matching?,
        when,
        verdict,
        reason,
        remediations,
        approval,
        rate,
        constraints,
    })
}

fn read_match(spot: &Spot, path: &str, notes: &mut Notes) -> Option<Match> {
    let fields = notes.map(spot, path, MATCH_KEYS)?;
    if fields.is_empty() {
        notes.at(spot, path, "is empty; write {topics: [\"*\"]} for a rule about all jobs");
    }
    Some(Match {
        topics: globs::field(&fields, "topics", Alphabet::Topic, notes),
        tenants: globs::field(&fields, "tenants", Alphabet::Namespace, notes),
        actors: globs::field(&fields, "actors", Alphabet::Free, notes),
        actor_types: globs::field(&fields, "actor_types", Alphabet::Free, notes),
        capabilities: globs::field(&fields, "capabilities", Alphabet::Free, notes),
        risk_tags: globs::field(&fields, "risk_tags", Alphabet::Free, notes),
        requires: globs::field(&fields, "requires", Alphabet::Free, notes),
        labels: read_labels(&fields, notes),
        pack: globs::field(&fields, "pack", Alphabet::Free, notes),
    })
}

fn read_labels(
    fields: &Fields<'_>,
    notes: &mut Notes,
) -> std::collections::BTreeMap<Arc<str>, Vec<crate::Glob>> {
    let Some(spot) = fields.spot("labels") else { return Default::default() };
    let path = fields.path("labels");
    let Node::Map(labels) = &spot.value else {
        notes.at(
            spot,
            &path,
            format!("is {}, where a map is wanted, as in {{env: prod}}", spot.value.kind()),
        );
        return Default::default();
    };
    if labels.is_empty() {
        notes.at(spot, &path, "is empty; leave it out");
    }
    if labels.len() > LIST_MAX {
        notes.at(spot, &path, format!("has {} labels, at most {LIST_MAX}", labels.len()));
        return Default::default();
    }
    let mut read = std::collections::BTreeMap::new();
    for (key, value) in labels {
        let path = join(&path, key.value.get(..64).unwrap_or(&key.value));
        if let Err(told) = names::check_key(&key.value) {
            notes.at(value, &path, format!("the key of a label {told}"));
        }
        if let Node::Null = value.value {
            notes.at(value, &path, "has no value; write \"*\" for any value");
        } else if read.insert(key.value.as_str().into(), globs(value, &path, Alphabet::Free, notes)).is_some()
        {
            notes.at(value, &path, "is given twice");
        }
    }
    read
}

fn read_condition(spot: &Spot, path: &str, notes: &mut Notes) -> Option<Condition> {
    if let Node::Bool(value) = spot.value {
        notes.at(spot, path, format!("is always {value}; leave it out, or write an expression"));
        return None;
    }
    let text = text(spot, path, EXPRESSION_BYTES_MAX, notes)?;
    Condition::parse(&text).map_err(|wrong| notes.at(spot, path, parts::told(&text, wrong))).ok()
}
