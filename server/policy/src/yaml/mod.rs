//! Reads a bundle. In: a text in YAML (or JSON, which is YAML). Out: a checked bundle. Refused: all at once, with line,
//! column, field, limit and value, and with the nearest name for a key that does not exist.

mod globs;
mod parts;
mod rule;
#[cfg(test)]
mod tests;

use crate::bundle::{Bundle, Rule};
use crate::limits::{
    ALIAS_EVENTS_MAX, BUNDLE_BYTES_MAX, BUNDLE_DEPTH_MAX, BUNDLE_NODES_MAX, NAME_LEN_MAX, RULE_ID_LEN_MAX,
    RULES_MAX, TEXT_LEN_MAX,
};
use coretex_document::{Limits, Node, Notes, Problems, Spot};
use coretex_domain::policy::Verdict;
use std::collections::HashMap;
use std::sync::Arc;

const LIMITS: Limits = Limits {
    name: "bundle",
    needs: "`name` and `rules`",
    bytes_max: BUNDLE_BYTES_MAX,
    nodes_max: BUNDLE_NODES_MAX,
    depth_max: BUNDLE_DEPTH_MAX,
    alias_events_max: ALIAS_EVENTS_MAX,
};

pub(crate) fn parse(text: &str) -> Result<Bundle, Problems> {
    let root = coretex_document::read(text, &LIMITS)?;
    let mut notes = Notes::default();
    let bundle = read_bundle(&root, &mut notes);
    match (bundle, notes.is_empty()) {
        (Some(bundle), true) => Ok(bundle),
        _ => Err(notes.into_problems()),
    }
}

fn read_bundle(root: &Spot, notes: &mut Notes) -> Option<Bundle> {
    let fields = notes.map(root, "", &["name", "description", "default", "rules"])?;
    let name = fields.text("name", NAME_LEN_MAX, notes);
    if name.is_none() && !fields.has("name") {
        notes.at(root, "name", "is missing; a bundle has a name");
    }
    if let (Some(name), Some(spot)) = (&name, fields.spot("name")) {
        notes.check_id(spot, "name", name, RULE_ID_LEN_MAX);
    }
    let description = fields.text("description", TEXT_LEN_MAX, notes);
    let words = [("allow", Verdict::Allow), ("deny", Verdict::Deny)];
    let default = fields.word("default", &words, notes).unwrap_or(Verdict::Deny);
    if !fields.has("rules") {
        notes.at(root, "rules", "is missing; write `rules: []` for a bundle that only has a default");
    }
    let rules = fields.spot("rules").map(|spot| read_rules(spot, notes)).unwrap_or_default();
    Some(Bundle { name: name?, description, default, rules })
}

fn read_rules(spot: &Spot, notes: &mut Notes) -> Vec<Rule> {
    let Node::List(items) = &spot.value else {
        notes.at(spot, "rules", format!("is {}, where a list of rules is wanted", spot.value.kind()));
        return Vec::new();
    };
    if items.len() > RULES_MAX {
        notes.at(spot, "rules", format!("has {} rules, at most {RULES_MAX}", items.len()));
        return Vec::new();
    }
    let mut lines: HashMap<Arc<str>, u64> = HashMap::with_capacity(items.len());
    let mut rules = Vec::with_capacity(items.len());
    for (number, item) in items.iter().enumerate() {
        let Some((id, at, rule)) = rule::read(number, item, notes) else { continue };
        let line = at.referenced.line();
        if let Some(first) = lines.get(&id) {
            let path = format!("rules[{number}].id");
            notes.at(at, &path, format!("\"{id}\" is the id of the rule at line {first} already"));
        } else {
            lines.insert(id, line);
        }
        rules.extend(rule);
    }
    rules
}
