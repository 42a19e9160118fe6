//! A bundle: the rules as their author wrote them, checked. Only the reader of `yaml` makes one, so each is whole.

use crate::condition::{Condition, Template};
use crate::glob::Glob;
use crate::written::{ApprovalText, ConstraintsText};
use coretex_domain::Span;
use coretex_domain::policy::{ApprovalTerms, Constraints, Verdict};
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A named list of rules and what holds when none of them speaks.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Bundle {
    pub name: Arc<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<Arc<str>>,
    /// Allow or deny.
    #[serde(serialize_with = "verdict_word")]
    pub default: Verdict,
    pub rules: Vec<Rule>,
}

/// One rule: when it speaks, and what it says.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Rule {
    pub id: Arc<str>,
    #[serde(rename = "match")]
    pub matching: Match,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<Condition>,
    #[serde(serialize_with = "verdict_word")]
    pub verdict: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remediations: Vec<Remediation>,
    /// Set if and only if the verdict asks for an approval.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "approval_text")]
    pub approval: Option<ApprovalTerms>,
    /// Set if and only if the verdict throttles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Set if and only if the verdict constrains.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "constraints_text")]
    pub constraints: Option<Constraints>,
}

/// Every key that is present must match. A list is met by any of its patterns, `risk_tags` by all of them together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Match {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub topics: Vec<Glob>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<Glob>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub actors: Vec<Glob>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub actor_types: Vec<Glob>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<Glob>,
    /// The job has a tag for each of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub risk_tags: Vec<Glob>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<Glob>,
    /// The job has each of these labels, with one of the values.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<Arc<str>, Vec<Glob>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pack: Vec<Glob>,
}

/// What the submitter could do instead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Remediation {
    pub id: Arc<str>,
    pub title: Arc<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replacement_topic: Option<Arc<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replacement_capability: Option<Arc<str>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub add_labels: BTreeMap<Arc<str>, Arc<str>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove_labels: Vec<Arc<str>>,
}

/// At most `limit` jobs per span, counted for each value of the key by itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rate {
    pub limit: u32,
    #[serde(serialize_with = "span_text")]
    pub per: Span,
    /// None: one count for all jobs of the rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Template>,
}

/// The word of a verdict in a bundle.
pub const fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allow => "allow",
        Verdict::Deny => "deny",
        Verdict::RequireApproval => "require_approval",
        Verdict::Throttle => "throttle",
        Verdict::AllowWithConstraints => "allow_with_constraints",
    }
}

pub(crate) fn verdict_word<S: Serializer>(verdict: &Verdict, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(word(*verdict))
}

pub(crate) fn span_text<S: Serializer>(span: &Span, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(span)
}

fn approval_text<S: Serializer>(terms: &Option<ApprovalTerms>, serializer: S) -> Result<S::Ok, S::Error> {
    terms.as_ref().map(ApprovalText).serialize(serializer)
}

fn constraints_text<S: Serializer>(some: &Option<Constraints>, serializer: S) -> Result<S::Ok, S::Error> {
    some.as_ref().map(ConstraintsText).serialize(serializer)
}

// === impl Bundle ===

impl Bundle {
    /// Reads and checks a bundle. All problems are told at once, each with its place.
    pub fn parse(text: &str) -> Result<Bundle, crate::Problems> {
        crate::yaml::parse(text)
    }

    /// True if nothing is ever held back: the default allows and no rule says anything but allow.
    pub fn allows_all(&self) -> bool {
        self.default == Verdict::Allow && self.rules.iter().all(|rule| rule.verdict == Verdict::Allow)
    }
}
