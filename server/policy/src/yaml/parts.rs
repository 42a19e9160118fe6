//! The parts of a rule that belong to its verdict.

use crate::bundle::{Rate, Remediation};
use crate::condition::{Template, Wrong};
use crate::limits::*;
use coretex_document::{Fields, Node, Notes, Spot, items, join, text};
use coretex_domain::limits::{ATTEMPTS_MAX, LABELS_MAX};
use coretex_domain::names::{self, shown};
use coretex_domain::policy::{
    ApprovalTerms, Budgets, Constraints, DiffLimits, OnExpiry, Redaction, Sandbox, Toolchain,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A mistake in an expression, with its place in the text.
pub(super) fn told(text: &str, (at, message): Wrong) -> String {
    let before = text.get(..at).unwrap_or(text);
    let (line, column) =
        (before.matches('\n').count() + 1, before.chars().rev().take_while(|c| *c != '\n').count() + 1);
    let place = if text.trim_end().contains('\n') { format!("line {line}, ") } else { String::new() };
    format!("{place}character {column} of the expression: {message}")
}

pub(super) fn remediations(fields: &Fields<'_>, notes: &mut Notes) -> Vec<Remediation> {
    let Some(spot) = fields.spot("remediations") else { return Vec::new() };
    let path = fields.path("remediations");
    let Some(list) = items(spot, &path, LIST_MAX, notes) else { return Vec::new() };
    if list.len() > REMEDIATIONS_MAX {
        notes.at(spot, &path, format!("has {} entries, at most {REMEDIATIONS_MAX}", list.len()));
        return Vec::new();
    }
    let mut read: Vec<Remediation> = Vec::new();
    for (number, item) in list.iter().enumerate() {
        let path = format!("{path}[{number}]");
        let Some(found) = remediation(item, &path, notes) else { continue };
        if read.iter().any(|known| known.id == found.id) {
            notes.at(item, &join(&path, "id"), format!("{} is used twice in this rule", shown(&found.id)));
        }
        read.push(found);
    }
    read
}

fn remediation(spot: &Spot, path: &str, notes: &mut Notes) -> Option<Remediation> {
    let keys = [
        "id",
        "title",
        "summary",
        "replacement_topic",
        "replacement_capability",
        "add_labels",
        "remove_labels",
    ];
    let fields = notes.map(spot, path, &keys)?;
    for name in ["id", "title"] {
        if !fields.has(name) {
            notes.at(spot, &fields.path(name), "is missing");
        }
    }
    let id = fields.text("id", NAME_LEN_MAX, notes);
    if let (Some(id), Some(at)) = (&id, fields.spot("id")) {
        notes.check_id(at, &fields.path("id"), id, RULE_ID_LEN_MAX);
    }
    let replacement_topic = fields.text("replacement_topic", TEXT_LEN_MAX, notes);
    if let (Some(topic), Some(at)) = (&replacement_topic, fields.spot("replacement_topic"))
        && let Err(told) = names::check_topic(topic)
    {
        notes.at(at, &fields.path("replacement_topic"), told);
    }
    Some(Remediation {
        title: fields.text("title", TEXT_LEN_MAX, notes)?,
        id: id?,
        summary: fields.text("summary", TEXT_LEN_MAX, notes),
        replacement_topic,
        replacement_capability: fields.text("replacement_capability", 128, notes),
        add_labels: labels(&fields, notes),
        remove_labels: fields
            .texts("remove_labels", coretex_domain::limits::KEY_LEN_MAX, notes)
            .unwrap_or_default(),
    })
}

/// Labels as a job has them.
fn labels(fields: &Fields<'_>, notes: &mut Notes) -> BTreeMap<Arc<str>, Arc<str>> {
    let mut read = BTreeMap::new();
    let Some(spot) = fields.spot("add_labels") else { return read };
    let path = fields.path("add_labels");
    let Node::Map(found) = &spot.value else {
        notes.at(
            spot,
            &path,
            format!("is {}, where a map is wanted, as in {{mode: soft}}", spot.value.kind()),
        );
        return read;
    };
    if found.len() > LABELS_MAX {
        notes.at(spot, &path, format!("has {} labels, at most {LABELS_MAX}", found.len()));
        return read;
    }
    for (key, value) in found {
        let path = join(&path, key.value.get(..64).unwrap_or(&key.value));
        let Some(text) = text(value, &path, usize::MAX, notes) else { continue };
        if let Err(told) = names::check_label(&key.value, &text) {
            notes.at(value, &path, told);
        }
        if read.insert(key.value.as_str().into(), text).is_some() {
            notes.at(value, &path, "is given twice");
        }
    }
    read
}

pub(super) fn approval(fields: &Fields<'_>, notes: &mut Notes) -> Option<ApprovalTerms> {
    let keys = ["approvers", "quorum", "expires", "on_expiry", "requester_may_approve"];
    let fields = notes.map(fields.spot("approval")?, &fields.path("approval"), &keys)?;
    let default = ApprovalTerms::default();
    let ends = [("reject", OnExpiry::Reject), ("approve", OnExpiry::Approve)];
    let quorum = fields.whole("quorum", 1, QUORUM_MAX, notes).and_then(|quorum| u32::try_from(quorum).ok());
    Some(ApprovalTerms {
        approvers: fields.texts("approvers", coretex_domain::limits::KEY_LEN_MAX, notes).unwrap_or_default(),
        quorum: quorum.unwrap_or(default.quorum),
        expires: fields
            .span("expires", APPROVAL_EXPIRES_MIN, APPROVAL_EXPIRES_MAX, notes)
            .unwrap_or(default.expires),
        on_expiry: fields.word("on_expiry", &ends, notes).unwrap_or(default.on_expiry),
        requester_may_approve: fields.is_true("requester_may_approve", notes).unwrap_or(false),
    })
}

pub(super) fn rate(fields: &Fields<'_>, notes: &mut Notes) -> Option<Rate> {
    let spot = fields.spot("rate")?;
    let fields = notes.map(spot, &fields.path("rate"), &["limit", "per", "key"])?;
    for name in ["limit", "per"] {
        if !fields.has(name) {
            notes.at(spot, &fields.path(name), "is missing");
        }
    }
    let limit = fields.whole("limit", 1, RATE_LIMIT_MAX, notes).and_then(|limit| u32::try_from(limit).ok());
    let per = fields.span("per", RATE_PER_MIN, RATE_PER_MAX, notes);
    let key = fields.text("key", EXPRESSION_BYTES_MAX, notes).and_then(|text| {
        let read = Template::parse(&text);
        read.map_err(|wrong| {
            if let Some(at) = fields.spot("key") {
                notes.at(at, &fields.path("key"), told(&text, wrong));
            }
        })
        .ok()
    });
    Some(Rate { limit: limit?, per: per?, key })
}

pub(super) fn constraints(fields: &Fields<'_>, notes: &mut Notes) -> Option<Constraints> {
    let spot = fields.spot("constraints")?;
    let path = fields.path("constraints");
    let before = notes.count();
    let fields = notes.map(spot, &path, &["budgets", "sandbox", "toolchain", "diff", "redaction"])?;
    let words = [("none", Redaction::None), ("standard", Redaction::Standard), ("strict", Redaction::Strict)];
    let read = Constraints {
        budgets: budgets(&fields, notes).unwrap_or_default(),
        sandbox: sandbox(&fields, notes).unwrap_or_default(),
        toolchain: toolchain(&fields, notes).unwrap_or_default(),
        diff: diff(&fields, notes).unwrap_or_default(),
        redaction: fields.word("redaction", &words, notes),
    };
    if read == Constraints::default() && notes.count() == before {
        notes.at(spot, &path, "constrains nothing; use the verdict allow");
    }
    Some(read)
}

fn budgets(fields: &Fields<'_>, notes: &mut Notes) -> Option<Budgets> {
    let keys = ["max_runtime", "max_retries", "max_tokens", "max_cost", "max_concurrent"];
    let fields = notes.map(fields.spot("budgets")?, &fields.path("budgets"), &keys)?;
    Some(Budgets {
        max_runtime: fields.span("max_runtime", RUNTIME_MIN, RUNTIME_MAX, notes),
        max_retries: fields.count("max_retries", 0, ATTEMPTS_MAX - 1, notes),
        max_tokens: fields.whole("max_tokens", 0, TOKENS_MAX, notes),
        max_cost_micros: cost(&fields, notes),
        max_concurrent: fields.count("max_concurrent", 1, 1_000_000, notes),
    })
}

/// A cost in the installation's currency, to the millionth.
fn cost(fields: &Fields<'_>, notes: &mut Notes) -> Option<u64> {
    let spot = fields.spot("max_cost")?;
    let written = match &spot.value {
        Node::Whole(value) => value.to_string(),
        Node::Float(value) => value.to_string(),
        Node::Text(text) => text.clone(),
        Node::Null | Node::Bool(_) | Node::List(_) | Node::Map(_) => spot.value.kind().to_owned(),
    };
    let read = micros(&written).filter(|micros| *micros <= COST_MICROS_MAX);
    if read.is_none() {
        let most = COST_MICROS_MAX / 1_000_000;
        let told = format!(
            "is {}, where an amount of 0 … {most} with at most 6 decimals is wanted",
            shown(&written)
        );
        notes.at(spot, &fields.path("max_cost"), told);
    }
    read
}

fn micros(written: &str) -> Option<u64> {
    let (whole, part) = written.split_once('.').unwrap_or((written, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(part) || part.len() > 6 {
        return None;
    }
    let part: u64 = format!("{part:0<6}").parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(part)
}

fn sandbox(fields: &Fields<'_>, notes: &mut Notes) -> Option<Sandbox> {
    let keys = ["isolated", "network_allowlist", "fs_read_only", "fs_read_write"];
    let fields = notes.map(fields.spot("sandbox")?, &fields.path("sandbox"), &keys)?;
    Some(Sandbox {
        isolated: fields.is_true("isolated", notes),
        network_allowlist: fields.texts("network_allowlist", TEXT_LEN_MAX, notes),
        fs_read_only: fields.texts("fs_read_only", TEXT_LEN_MAX, notes),
        fs_read_write: fields.texts("fs_read_write", TEXT_LEN_MAX, notes),
    })
}

fn toolchain(fields: &Fields<'_>, notes: &mut Notes) -> Option<Toolchain> {
    let keys = ["allowed_tools", "allowed_commands"];
    let fields = notes.map(fields.spot("toolchain")?, &fields.path("toolchain"), &keys)?;
    Some(Toolchain {
        allowed_tools: fields.texts("allowed_tools", TEXT_LEN_MAX, notes),
        allowed_commands: fields.texts("allowed_commands", TEXT_LEN_MAX, notes),
    })
}

fn diff(fields: &Fields<'_>, notes: &mut Notes) -> Option<DiffLimits> {
    let keys = ["max_files", "max_lines", "deny_path_globs"];
    let fields = notes.map(fields.spot("diff")?, &fields.path("diff"), &keys)?;
    let most = u32::try_from(DIFF_MAX).unwrap_or(u32::MAX);
    Some(DiffLimits {
        max_files: fields.count("max_files", 0, most, notes),
        max_lines: fields.count("max_lines", 0, most, notes),
        deny_path_globs: fields.texts("deny_path_globs", TEXT_LEN_MAX, notes).unwrap_or_default(),
    })
}
