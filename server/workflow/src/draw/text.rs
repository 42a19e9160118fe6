//! As text: a line for each step, in an order in which they may be done.

use super::{cut, in_order, remarks, told};
use crate::model::{Definition, Step};
use std::fmt::Write as _;

const REMARK_MAX: usize = 60;

pub(super) fn draw(definition: &Definition) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{}", definition.name);
    list(&definition.steps, "", &mut out);
    if !definition.on_failure.is_empty() {
        let _ = writeln!(out, "on failure");
        list(&definition.on_failure, "", &mut out);
    }
    out
}

fn list(steps: &[Step], indent: &str, out: &mut String) {
    let width = steps.iter().map(|step| step.id.chars().count()).max().unwrap_or(0);
    let ordered = in_order(steps);
    for (n, step) in ordered.iter().enumerate() {
        let is_last = n + 1 == ordered.len();
        let branch = if is_last { "└─" } else { "├─" };
        let mut line = format!("{indent}{branch} {:width$}  {}", step.id, told(step));
        if !step.needs.is_empty() {
            let needs: Vec<&str> = step.needs.iter().map(|(id, _)| &**id).collect();
            let _ = write!(line, "  after {}", cut(&needs.join(", "), REMARK_MAX));
        }
        for remark in remarks(step) {
            let _ = write!(line, "  ({})", cut(&remark, REMARK_MAX));
        }
        let _ = writeln!(out, "{line}");
        let inner = format!("{indent}{}  ", if is_last { " " } else { "│" });
        list(step.inner(), &inner, out);
    }
}
