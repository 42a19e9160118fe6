//! In the language of Graphviz. A group is a cluster with a point of its own, to which arrows go.

use super::{cut, remarks, told};
use crate::model::{Definition, Kind, Step};
use std::fmt::Write as _;

const LABEL_MAX: usize = 80;

pub(super) fn draw(definition: &Definition) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "digraph {} {{", quoted(&definition.name));
    out.push_str("  rankdir=TB;\n  node [shape=box, style=rounded, fontname=\"sans-serif\"];\n");
    list(&definition.steps, 1, &mut out);
    if !definition.on_failure.is_empty() {
        out.push_str("  subgraph \"cluster on failure\" {\n    label=\"on failure\";\n    style=dashed;\n");
        list(&definition.on_failure, 2, &mut out);
        out.push_str("  }\n");
    }
    out.push_str("}\n");
    out
}

fn list(steps: &[Step], depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    for step in steps {
        let label = label(step);
        if let Kind::Parallel(inner) = &step.kind {
            let _ = writeln!(out, "{indent}subgraph {} {{", quoted(&format!("cluster {}", step.id)));
            let _ = writeln!(out, "{indent}  label={label};");
            let _ = writeln!(out, "{indent}  {} [shape=point];", quoted(&step.id));
            list(inner, depth + 1, out);
            let _ = writeln!(out, "{indent}}}");
        } else {
            let _ = writeln!(out, "{indent}{} [label={label}];", quoted(&step.id));
        }
    }
    for step in steps {
        for (need, _) in &step.needs {
            let _ = writeln!(out, "{indent}{} -> {};", quoted(need), quoted(&step.id));
        }
    }
}

fn label(step: &Step) -> String {
    let mut lines = vec![step.id.to_string(), told(step)];
    lines.extend(remarks(step));
    let lines: Vec<String> = lines.iter().map(|line| escaped(&cut(line, LABEL_MAX))).collect();
    format!("\"{}\"", lines.join("\\n"))
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text))
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}
