//! A YAML document as a tree in which every value knows its line and column.

use crate::problem::Problems;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use std::fmt;

/// A value, and where it stands.
pub type Spot = Spanned<Node>;

/// How much of a document is read.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// What the document is, for messages: `bundle`, `workflow`.
    pub name: &'static str,
    /// What an empty one lacks.
    pub needs: &'static str,
    /// Bytes of its text.
    pub bytes_max: usize,
    /// Values, lists and maps in it.
    pub nodes_max: usize,
    /// Nesting.
    pub depth_max: usize,
    /// What anchors and aliases may add.
    pub alias_events_max: usize,
}

/// What a document may hold.
#[derive(Clone, Debug)]
pub enum Node {
    Null,
    Bool(bool),
    Whole(i128),
    Float(f64),
    Text(String),
    List(Vec<Spot>),
    Map(Vec<(Spanned<String>, Spot)>),
}

/// Nesting that is read on the stack of the caller.
const DEPTH_AT_HAND: usize = 24;
const STACK_BASE: usize = 256 << 10;
const STACK_A_LEVEL: usize = 40 << 10;

/// The line and column of a spot.
pub fn place(spot: &Spot) -> (u64, u64) {
    (spot.referenced.line(), spot.referenced.column())
}

/// Reads the text.
pub fn read(text: &str, limits: &Limits) -> Result<Spot, Problems> {
    if text.len() > limits.bytes_max {
        let message = format!("the text has {} bytes, at most {}", text.len(), limits.bytes_max);
        return Err(Problems::one(0, 0, message));
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let is_blank = |line: &str| {
        let line = line.trim();
        line.is_empty() || line.starts_with('#') || line == "---" || line == "..."
    };
    if text.lines().all(is_blank) {
        let message = format!("the {} is empty; it needs at least {}", limits.name, limits.needs);
        return Err(Problems::one(1, 1, message));
    }
    if limits.depth_max <= DEPTH_AT_HAND {
        return tree(text, limits);
    }
    // The parser recurses, and needs up to 30 KiB of stack a level where it is not optimised. Callers have 2 MiB.
    let stack = STACK_BASE + limits.depth_max * STACK_A_LEVEL;
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(stack).spawn_scoped(scope, || tree(text, limits));
        let read = thread.map(|thread| thread.join());
        read.unwrap_or_else(|error| Ok(Err(Problems::one(0, 0, format!("cannot be read now: {error}")))))
    })
    .unwrap_or_else(|_| Err(Problems::one(0, 0, "cannot be read: the parser gave up")))
}

fn tree(text: &str, limits: &Limits) -> Result<Spot, Problems> {
    let options = serde_saphyr::options! {
        // `y`, `on` and `no` are names here, not booleans.
        strict_booleans: true,
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: limits.alias_events_max },
        budget: serde_saphyr::budget! {
            max_depth: limits.depth_max,
            max_nodes: limits.nodes_max,
            max_events: limits.nodes_max.saturating_mul(4),
            max_total_scalar_bytes: limits.bytes_max,
            max_documents: 1,
        },
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let (line, column) = error.location().map_or((0, 0), |at| (at.line(), at.column()));
        let told = error.without_snippet().to_string();
        let told = told.lines().next().unwrap_or("not YAML").to_owned();
        Problems::one(line, column, told)
    })
}

// === impl Node ===

impl Node {
    /// What it is, for a message.
    pub fn kind(&self) -> &'static str {
        match self {
            Node::Null => "nothing",
            Node::Bool(_) => "true or false",
            Node::Whole(_) | Node::Float(_) => "a number",
            Node::Text(_) => "a text",
            Node::List(_) => "a list",
            Node::Map(_) => "a map",
        }
    }
}

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
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Whole(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Whole(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Node, E> {
        Ok(Node::Whole(value))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Node, E> {
        Ok(Node::Whole(i128::try_from(value).unwrap_or(i128::MAX)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Node, E> {
        Ok(Node::Text(value))
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
        while let Some(field) = fields.next_entry::<Spanned<String>, Spot>()? {
            map.push(field);
        }
        Ok(Node::Map(map))
    }
}
