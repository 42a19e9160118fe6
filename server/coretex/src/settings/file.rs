//! The settings file: two levels of YAML, with the line of every value.

use super::catalog::{CATALOG, Known, STRUCTURED};
use super::refusal::{Refusal, VALUE};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// A settings file is small; anything above is a mistake.
const BYTES_MAX: u64 = 1 << 20;

/// Key, line, and what is there.
pub(super) type Found = (String, u64, Result<Vec<String>, Refusal>);

/// What a document may hold.
#[derive(Debug)]
enum Node {
    Null,
    Text(String),
    List(Vec<Node>),
    Map(Vec<(String, Spanned<Node>)>),
}

/// Reads the file. `${NAME}` in a value is replaced by the variable of that name.
pub(super) fn read(path: &Path, env: &BTreeMap<String, String>) -> Result<Vec<Found>, Box<Refusal>> {
    let shown = path.display().to_string();
    let refuse = |message: String| {
        let mend = "name a readable YAML file; `deploy/coretex.example.yaml` is one";
        Box::new(Refusal::new(VALUE, message, mend).at(shown.clone()))
    };
    let facts = std::fs::metadata(path).map_err(|error| refuse(format!("cannot read it: {error}")))?;
    if facts.is_dir() {
        return Err(refuse("it is a directory, not a file".into()));
    }
    if facts.len() > BYTES_MAX {
        return Err(refuse(format!("it has {} bytes, more than {BYTES_MAX}", facts.len())));
    }
    let text = std::fs::read_to_string(path).map_err(|error| refuse(format!("cannot read it: {error}")))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let is_blank = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    if text.lines().all(is_blank) {
        return Ok(Vec::new());
    }
    let node: Node = serde_saphyr::from_str(text).map_err(|error| {
        let line = error.location().map(|at| format!(":{}", at.line())).unwrap_or_default();
        let what = error.without_snippet().to_string();
        let mend = "settings are `section:` with `name: value` lines under it; `deploy/coretex.example.yaml` is an example";
        Box::new(Refusal::new(VALUE, what, mend).at(format!("{shown}{line}")))
    })?;
    match node {
        Node::Map(sections) => Ok(flatten(sections, env)),
        Node::Null => Ok(Vec::new()),
        Node::Text(_) | Node::List(_) => Err(refuse("its top level is not `section:` keys".into())),
    }
}

fn flatten(sections: Vec<(String, Spanned<Node>)>, env: &BTreeMap<String, String>) -> Vec<Found> {
    let mut found = Vec::new();
    for (section, node) in sections {
        let line = node.referenced.line();
        match node.value {
            Node::Map(fields) => {
                for (name, node) in fields {
                    field(format!("{section}.{name}"), node, env, &mut found);
                }
            }
            Node::Null if is_section(&section) => {}
            node => {
                let key = main_key(&section);
                let items = items(&key, node, env);
                found.push((key, line, items));
            }
        }
    }
    found
}

/// A setting, or a map of settings whose names have more than one dot.
fn field(key: String, node: Spanned<Node>, env: &BTreeMap<String, String>, found: &mut Vec<Found>) {
    let line = node.referenced.line();
    let is_part = |known: &&Known| known.key.strip_prefix(&*key).is_some_and(|rest| rest.starts_with('.'));
    let is_group = CATALOG.iter().any(|known| is_part(&known));
    match node.value {
        Node::Null if is_group => {}
        Node::Map(fields) if is_group => {
            for (name, node) in fields {
                field(format!("{key}.{name}"), node, env, found);
            }
        }
        node => {
            let items = items(&key, node, env);
            found.push((key, line, items));
        }
    }
}

fn is_section(name: &str) -> bool {
    CATALOG.iter().any(|known| known.key.split('.').next() == Some(name))
}

/// `listen: ADDR` and `store: URL` are short for the setting that names the section.
fn main_key(section: &str) -> String {
    match section {
        "listen" => "listen.address".into(),
        "store" => "store.url".into(),
        other => other.into(),
    }
}

/// The values of a setting. A map, where a setting takes maps, becomes a line of JSON.
fn items(key: &str, node: Node, env: &BTreeMap<String, String>) -> Result<Vec<String>, Refusal> {
    let wrong = |what: &str| {
        Refusal::new(VALUE, what, "write one value, or a list of values where several make sense")
    };
    match node {
        Node::Text(text) => Ok(vec![expand(&text, env)?]),
        Node::List(nodes) => nodes
            .into_iter()
            .map(|node| match node {
                Node::Text(text) => expand(&text, env),
                node @ Node::Map(_) if STRUCTURED.contains(&key) => Ok(json(node, env)?.to_string()),
                Node::Null | Node::List(_) | Node::Map(_) => Err(wrong("its items are not plain values")),
            })
            .collect(),
        Node::Null => Err(wrong("it has no value")),
        Node::Map(_) => Err(wrong("it is a map, where a value is wanted")),
    }
}

fn json(node: Node, env: &BTreeMap<String, String>) -> Result<serde_json::Value, Refusal> {
    Ok(match node {
        Node::Null => serde_json::Value::Null,
        Node::Text(text) => expand(&text, env)?.into(),
        Node::List(nodes) => nodes.into_iter().map(|node| json(node, env)).collect::<Result<_, _>>()?,
        Node::Map(fields) => {
            let field = |(name, node): (String, Spanned<Node>)| Ok((name, json(node.value, env)?));
            fields.into_iter().map(field).collect::<Result<serde_json::Map<_, _>, _>>()?.into()
        }
    })
}

/// Replaces `${NAME}`.
fn expand(text: &str, env: &BTreeMap<String, String>) -> Result<String, Refusal> {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(start) = rest.find("${") {
        let Some(length) = rest[start..].find('}') else { break };
        let name = &rest[start + 2..start + length];
        let value = env.get(name).cloned().or_else(|| std::env::var(name).ok()).ok_or_else(|| {
            Refusal::new(
                "R16",
                format!("`${{{name}}}` names a variable that is not set"),
                format!("set {name}"),
            )
        })?;
        out.push_str(&rest[..start]);
        out.push_str(&value);
        rest = &rest[start + length + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

// === impl Node ===

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value, a list or a map")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Text(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Text(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Text(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Text(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        while let Some(field) = fields.next_entry::<String, Spanned<Node>>()? {
            map.push(field);
        }
        Ok(Node::Map(map))
    }
}
