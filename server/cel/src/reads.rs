//! Which names an expression reads, and how far into them the text alone tells.

use crate::expression::Expression;
use crate::node::{Form, Node};
use crate::scope::Source;
use std::fmt;
use std::sync::Arc;

/// One place where an expression reads a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// The number the scope gives the name.
    pub number: u16,
    pub root: &'static str,
    /// The field, where the root is read only by its fields.
    pub field: Option<&'static str>,
    /// What is read inside, as far as it is constant.
    pub path: Vec<Key>,
    /// True if a key follows that is computed, as in `steps[x]`.
    pub is_computed: bool,
    /// Byte of the name in the text.
    pub at: usize,
}

/// A constant part of a path: `.name` and `["name"]`, or `[0]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    Field(Arc<str>),
    Index(i64),
}

impl Expression {
    /// Every name it reads, in the order of the text. Variables of macros are not among them.
    pub fn reads(&self) -> Vec<Read> {
        let mut found = Vec::new();
        gather(&self.root, &mut found);
        found.sort_by_key(|read| read.at);
        found
    }
}

fn gather(node: &Node, found: &mut Vec<Read>) {
    let (base, keys) = chain(node);
    for key in &keys {
        if let Link::Computed(key) = key {
            gather(key, found);
        }
    }
    match &base.form {
        Form::Root(source) => {
            let count = keys.len();
            let path: Vec<Key> = keys.into_iter().map_while(Link::constant).collect();
            let is_computed = path.len() < count;
            let Source { number, root, field } = *source;
            let (root, field) = (root.name, field.map(|field| field.name));
            found.push(Read { number, root, field, path, is_computed, at: base.at as usize });
        }
        _ if keys.is_empty() => base.form.each_part(&mut |part| gather(part, found)),
        _ => gather(base, found),
    }
}

/// The name and path of a node that does nothing but read one; nothing if any key is computed.
pub(crate) fn path_of(node: &Node) -> Option<(Source, Vec<Key>)> {
    let (base, keys) = chain(node);
    let Form::Root(source) = base.form else { return None };
    Some((source, keys.into_iter().map(Link::constant).collect::<Option<_>>()?))
}

enum Link<'n> {
    Constant(Key),
    Computed(&'n Node),
}

impl Link<'_> {
    fn constant(self) -> Option<Key> {
        match self {
            Link::Constant(key) => Some(key),
            Link::Computed(_) => None,
        }
    }
}

/// What a node selects from, and the keys from there to it. A `has` counts as the field it asks for.
fn chain(node: &Node) -> (&Node, Vec<Link<'_>>) {
    let (mut base, mut keys) = (node, Vec::new());
    loop {
        match &base.form {
            Form::Select(of, field) => {
                keys.push(Link::Constant(Key::Field(field.clone())));
                base = of;
            }
            Form::Has(of, field) if keys.is_empty() => {
                keys.push(Link::Constant(Key::Field(field.clone())));
                base = of;
            }
            Form::Index(of, key) => {
                keys.push(match &key.form {
                    Form::Text(text) => Link::Constant(Key::Field(text.clone())),
                    Form::Int(at) => Link::Constant(Key::Index(*at)),
                    _ => Link::Computed(key),
                });
                base = of;
            }
            _ => break,
        }
    }
    keys.reverse();
    (base, keys)
}

// === impl Read ===

/// As it would be written: `steps.a.output[0]`, `steps["sign-off"]`, and `…` for what is computed.
impl fmt::Display for Read {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.root)?;
        if let Some(field) = self.field {
            write!(f, ".{field}")?;
        }
        self.path.iter().try_for_each(|key| key.fmt(f))?;
        if self.is_computed { f.write_str("[…]") } else { Ok(()) }
    }
}

// === impl Key ===

/// As it stands behind what it selects from.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_name = |name: &str| {
            name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        };
        match self {
            Key::Field(name) if is_name(name) => write!(f, ".{name}"),
            Key::Field(name) => write!(f, "[{}]", coretex_domain::names::shown(name)),
            Key::Index(at) => write!(f, "[{at}]"),
        }
    }
}
