//! In Mermaid, which most places that show Markdown draw.

use super::{cut, remarks, told};
use crate::model::{Definition, Kind, Step};
use rustc_hash::FxHashMap;
use std::fmt::Write as _;
use std::sync::Arc;

const LABEL_MAX: usize = 60;

/// Nodes are numbered: ids may be words of the language.
type Numbers = FxHashMap<Arc<str>, usize>;

pub(super) fn draw(definition: &Definition) -> String {
    let mut numbers = Numbers::default();
    definition.visit(&mut |step| {
        let next = numbers.len();
        numbers.entry(step.id.clone()).or_insert(next);
    });
    let mut out = String::from("flowchart TD\n");
    list(&definition.steps, 1, &numbers, &mut out);
    if !definition.on_failure.is_empty() {
        out.push_str("  subgraph failure[\"on failure\"]\n");
        list(&definition.on_failure, 2, &numbers, &mut out);
        out.push_str("  end\n");
    }
    out
}

fn list(steps: &[Step], depth: usize, numbers: &Numbers, out: &mut String) {
    let indent = "  ".repeat(depth);
    let name = |id: &Arc<str>| format!("s{}", numbers.get(id).copied().unwrap_or_default());
    for step in steps {
        let (node, label) = (name(&step.id), label(step));
        match &step.kind {
            Kind::Parallel(inner) => {
                let _ = writeln!(out, "{indent}subgraph {node}[\"{label}\"]");
                list(inner, depth + 1, numbers, out);
                let _ = writeln!(out, "{indent}end");
            }
            Kind::Approval(_) => {
                let _ = writeln!(out, "{indent}{node}{{{{\"{label}\"}}}}");
            }
            Kind::Delay(_) | Kind::Until(_) | Kind::WaitEvent(_) => {
                let _ = writeln!(out, "{indent}{node}([\"{label}\"])");
            }
            Kind::Work(_) => {
                let _ = writeln!(out, "{indent}{node}[\"{label}\"]");
            }
        }
    }
    for step in steps {
        for (need, _) in &step.needs {
            let _ = writeln!(out, "{indent}{} --> {}", name(need), name(&step.id));
        }
    }
}

fn label(step: &Step) -> String {
    let mut lines = vec![step.id.to_string(), told(step)];
    lines.extend(remarks(step));
    lines.iter().map(|line| escaped(&cut(line, LABEL_MAX))).collect::<Vec<_>>().join("<br>")
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => out.push_str("#quot;"),
            '#' => out.push_str("#35;"),
            '<' => out.push_str("#lt;"),
            '>' => out.push_str("#gt;"),
            '&' => out.push_str("#amp;"),
            c => out.push(c),
        }
    }
    out
}
