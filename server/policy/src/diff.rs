//! What differs between two bundles, rule by rule and field by field.

use crate::bundle::{Bundle, Rule, word};
use coretex_domain::policy::Verdict;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

/// All differences. Empty if the two say the same.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Diff {
    /// Old and new, where the default differs.
    pub default: Option<(Verdict, Verdict)>,
    /// `name` and `description` of the bundle itself.
    pub about: Vec<Field>,
    pub added: Vec<Arc<str>>,
    pub removed: Vec<Arc<str>>,
    pub changed: Vec<Changed>,
    /// Rules of both that stand in another order among the others; the first match decides, so order is meaning.
    pub moved: Vec<Arc<str>>,
}

/// A rule of both bundles that is not the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Changed {
    pub rule_id: Arc<str>,
    pub fields: Vec<Field>,
}

/// A field that differs.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// For example `match.topics` or `constraints.budgets.max_runtime`.
    pub path: String,
    pub old: Option<Value>,
    pub new: Option<Value>,
}

pub fn diff(old: &Bundle, new: &Bundle) -> Diff {
    let by_id = |bundle: &Bundle| -> HashMap<Arc<str>, usize> {
        bundle.rules.iter().enumerate().map(|(number, rule)| (rule.id.clone(), number)).collect()
    };
    let (olds, news) = (by_id(old), by_id(new));
    let ids = |rules: &[Rule], other: &HashMap<Arc<str>, usize>| -> Vec<Arc<str>> {
        rules.iter().map(|rule| rule.id.clone()).filter(|id| !other.contains_key(id)).collect()
    };
    let both = || new.rules.iter().filter_map(|rule| Some((olds.get(&rule.id).copied()?, rule)));
    let changed = both()
        .filter(|(at, rule)| old.rules[*at] != **rule)
        .map(|(at, rule)| Changed { rule_id: rule.id.clone(), fields: fields(&old.rules[at], rule) });
    let order: Vec<usize> = both().map(|(at, _)| at).collect();
    let kept = longest_ascent(&order);
    Diff {
        default: (old.default != new.default).then_some((old.default, new.default)),
        about: about(old, new),
        added: ids(&new.rules, &olds),
        removed: ids(&old.rules, &news),
        changed: changed.collect(),
        moved: both().filter(|(at, _)| !kept.contains(at)).map(|(_, rule)| rule.id.clone()).collect(),
    }
}

fn about(old: &Bundle, new: &Bundle) -> Vec<Field> {
    let text = |text: Option<&Arc<str>>| text.map(|text| Value::from(&**text));
    let pairs = [
        ("name", text(Some(&old.name)), text(Some(&new.name))),
        ("description", text(old.description.as_ref()), text(new.description.as_ref())),
    ];
    let differs = pairs.into_iter().filter(|(_, old, new)| old != new);
    differs.map(|(path, old, new)| Field { path: path.into(), old, new }).collect()
}

fn fields(old: &Rule, new: &Rule) -> Vec<Field> {
    let leaves = |rule: &Rule| {
        let mut found = BTreeMap::new();
        collect("", serde_json::to_value(rule).unwrap_or_default(), &mut found);
        found
    };
    let (mut olds, news) = (leaves(old), leaves(new));
    let mut changed = Vec::new();
    for (path, new) in news {
        let old = olds.remove(&path);
        if old.as_ref() != Some(&new) {
            changed.push(Field { path, old, new: Some(new) });
        }
    }
    changed.extend(olds.into_iter().map(|(path, old)| Field { path, old: Some(old), new: None }));
    changed.sort_by(|one, other| one.path.cmp(&other.path));
    changed
}

/// Values by their paths; a list is one value.
fn collect(path: &str, value: Value, found: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                let path = if path.is_empty() { key } else { format!("{path}.{key}") };
                collect(&path, value, found);
            }
        }
        leaf => {
            found.insert(path.to_owned(), leaf);
        }
    }
}

/// The most numbers that already ascend; all others have moved.
fn longest_ascent(numbers: &[usize]) -> HashSet<usize> {
    // `ends[n]` is where the best ascent of n + 1 numbers ends; `before` chains each to the one before it.
    let mut ends: Vec<usize> = Vec::new();
    let mut before: Vec<Option<usize>> = Vec::with_capacity(numbers.len());
    for (at, number) in numbers.iter().enumerate() {
        let length = ends.partition_point(|end| numbers[*end] < *number);
        before.push(length.checked_sub(1).map(|shorter| ends[shorter]));
        if length == ends.len() {
            ends.push(at);
        } else {
            ends[length] = at;
        }
    }
    let mut kept = HashSet::new();
    let mut next = ends.last().copied();
    while let Some(at) = next {
        kept.insert(numbers[at]);
        next = before[at];
    }
    kept
}

// === impl Diff ===

impl Diff {
    pub fn is_empty(&self) -> bool {
        *self == Diff::default()
    }
}

impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((old, new)) = self.default {
            writeln!(f, "~ default: {} -> {}", word(old), word(new))?;
        }
        self.about.iter().try_for_each(|field| writeln!(f, "~ {field}"))?;
        self.added.iter().try_for_each(|id| writeln!(f, "+ {id}"))?;
        self.removed.iter().try_for_each(|id| writeln!(f, "- {id}"))?;
        for changed in &self.changed {
            writeln!(f, "~ {}", changed.rule_id)?;
            changed.fields.iter().try_for_each(|field| writeln!(f, "    {field}"))?;
        }
        self.moved.iter().try_for_each(|id| writeln!(f, "> {id} (order)"))
    }
}

// === impl Field ===

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |value: &Option<Value>| value.as_ref().map_or("nothing".into(), Value::to_string);
        write!(f, "{}: {} -> {}", self.path, shown(&self.old), shown(&self.new))
    }
}
