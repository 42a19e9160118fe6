//! What a policy wants observed, in types; and what is left of a job's budget.

use crate::raw::pb;
use serde_json::Value;
use std::time::Duration;

/// What a handler must observe. The server enforces the budgets; the rest is the handler's to keep. Nothing is set where
/// the policy allowed the job without constraints.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Constraints {
    /// Longest run of one attempt. Part of the deadline of the context.
    pub max_runtime: Option<Duration>,
    /// Attempts after the first.
    pub max_retries: Option<u32>,
    /// Model tokens over all attempts, read and written.
    pub max_tokens: Option<u64>,
    /// Cost over all attempts, in millionths of the installation's currency.
    pub max_cost_micros: Option<u64>,
    /// Jobs of the rule that run at the same time.
    pub max_concurrent: Option<u32>,
    /// Whether it must run apart from everything else.
    pub isolated: Option<bool>,
    /// Hosts that may be reached. Set and empty: none.
    pub network_allowlist: Option<Vec<String>>,
    /// Paths that may be read.
    pub fs_read_only: Option<Vec<String>>,
    /// Paths that may be read and written.
    pub fs_read_write: Option<Vec<String>>,
    /// Tools that may be called. Set and empty: none.
    pub allowed_tools: Option<Vec<String>>,
    /// Commands that may be run. Set and empty: none.
    pub allowed_commands: Option<Vec<String>>,
    /// Files that may be changed.
    pub max_files: Option<u32>,
    /// Lines that may be changed.
    pub max_lines: Option<u32>,
    /// Paths that may not be touched, as patterns.
    pub deny_path_globs: Vec<String>,
    /// How much is to be taken out of what is left behind.
    pub redaction: Option<Redaction>,
    /// All of it as the rule states it, also what this version has no field for.
    pub raw: Value,
}

/// How much is to be taken out of what a job leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Redaction {
    /// Nothing.
    None,
    /// The usual.
    Standard,
    /// As much as can be. Also what a word means that this version does not know.
    Strict,
}

/// What is left of a budget for this attempt. `None`: there is no such limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BudgetLeft {
    /// Model tokens, read and written.
    pub tokens: Option<u64>,
    /// Cost in millionths of the installation's currency.
    pub cost_micros: Option<u64>,
}

// === impl Constraints ===

impl Constraints {
    pub(crate) fn of(raw: Value) -> Self {
        let at = |group: &str, name: &str| raw.get(group).and_then(|group| group.get(name));
        let whole = |group: &str, name: &str| at(group, name).and_then(whole);
        let small =
            |group: &str, name: &str| whole(group, name).map(|n| u32::try_from(n).unwrap_or(u32::MAX));
        let list = |group: &str, name: &str| at(group, name).map(texts);
        Self {
            max_runtime: at("budgets", "max_runtime").and_then(Value::as_str).and_then(length),
            max_retries: small("budgets", "max_retries"),
            max_tokens: whole("budgets", "max_tokens"),
            max_cost_micros: at("budgets", "max_cost").and_then(Value::as_str).and_then(micros),
            max_concurrent: small("budgets", "max_concurrent"),
            isolated: at("sandbox", "isolated").and_then(Value::as_bool),
            network_allowlist: list("sandbox", "network_allowlist"),
            fs_read_only: list("sandbox", "fs_read_only"),
            fs_read_write: list("sandbox", "fs_read_write"),
            allowed_tools: list("toolchain", "allowed_tools"),
            allowed_commands: list("toolchain", "allowed_commands"),
            max_files: small("diff", "max_files"),
            max_lines: small("diff", "max_lines"),
            deny_path_globs: list("diff", "deny_path_globs").unwrap_or_default(),
            redaction: raw.get("redaction").and_then(Value::as_str).map(|word| match word {
                "none" => Redaction::None,
                "standard" => Redaction::Standard,
                _ => Redaction::Strict,
            }),
            raw,
        }
    }

    /// Whether a tool may be called: there is no list, or it is on it.
    pub fn allows_tool(&self, tool: &str) -> bool {
        is_on(self.allowed_tools.as_ref(), tool)
    }

    /// Whether a command may be run.
    pub fn allows_command(&self, command: &str) -> bool {
        is_on(self.allowed_commands.as_ref(), command)
    }

    /// Whether a host may be reached, by its very name.
    pub fn allows_host(&self, host: &str) -> bool {
        is_on(self.network_allowlist.as_ref(), host)
    }
}

fn is_on(list: Option<&Vec<String>>, name: &str) -> bool {
    list.is_none_or(|list| list.iter().any(|known| known == name))
}

fn whole(value: &Value) -> Option<u64> {
    // Free-form numbers are doubles on the wire.
    value.as_u64().or_else(|| value.as_f64().filter(|n| *n >= 0.0).map(|n| n as u64))
}

fn texts(value: &Value) -> Vec<String> {
    let all = value.as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// A number with one unit, as the server writes lengths.
fn length(text: &str) -> Option<Duration> {
    let unit = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text.get(..unit)?.parse().ok()?;
    let scale = match text.get(unit..)? {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    Some(Duration::from_millis(number.saturating_mul(scale)))
}

/// An amount with six decimals, as the server writes costs.
fn micros(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.')?;
    let part: u64 = Some(part).filter(|part| part.len() == 6)?.parse().ok()?;
    whole.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(part)
}

// === impl BudgetLeft ===

impl BudgetLeft {
    pub(crate) fn of(shares: &[pb::BudgetShare], used: &pb::Usage) -> Self {
        let left = |dimension: &str, used: u64| {
            let share = shares.iter().find(|share| share.dimension == dimension)?;
            Some(share.reserved.saturating_sub(used))
        };
        Self {
            tokens: left("tokens_total", used.tokens_in.saturating_add(used.tokens_out)),
            cost_micros: left("cost_micros", used.cost_micros),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constraints_come_in_types() {
        let read = Constraints::of(serde_json::json!({
            "budgets": {"max_runtime": "5m", "max_retries": 2.0, "max_tokens": 20000.0, "max_cost": "1.500000"},
            "toolchain": {"allowed_tools": ["read"], "allowed_commands": []},
            "diff": {"max_files": 20.0, "deny_path_globs": ["**/secrets/**"]},
            "redaction": "later"
        }));
        assert_eq!(read.max_runtime, Some(Duration::from_secs(300)));
        assert_eq!((read.max_retries, read.max_tokens), (Some(2), Some(20_000)));
        assert_eq!((read.max_cost_micros, read.max_files), (Some(1_500_000), Some(20)));
        assert!(read.allows_tool("read") && !read.allows_tool("write"));
        assert!(!read.allows_command("ls"), "a list that is set and empty allows nothing");
        assert!(read.allows_host("anywhere"), "no list, no limit");
        assert_eq!(read.redaction, Some(Redaction::Strict), "what is not known is kept strictly");
        assert_eq!(Constraints::default().redaction, None);
    }

    #[test]
    fn what_was_used_is_taken_off_what_is_left() {
        let share = |dimension: &str, reserved| pb::BudgetShare {
            dimension: dimension.into(),
            reserved,
            ..Default::default()
        };
        let used = pb::Usage { tokens_in: 30, tokens_out: 80, ..Default::default() };
        let left = BudgetLeft::of(&[share("tokens_total", 100)], &used);
        assert_eq!(left, BudgetLeft { tokens: Some(0), cost_micros: None });
    }
}
