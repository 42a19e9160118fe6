//! Names in an expression, resolved while it is read.

use crate::expression::Mistake;
use crate::lex::Word;
use crate::node::{Form, Node};
use crate::parse::Parser;
use crate::scope::{Field, Reads, Root, Source};
use coretex_domain::nearest::hint;
use std::sync::Arc;

impl Parser {
    /// What a name stands for: a function, a variable, or what the scope gives.
    pub(crate) fn named(&mut self, name: &Arc<str>) -> Result<Node, Mistake> {
        let at = self.place();
        self.advance();
        if self.take("(") {
            return self.call(at, name);
        }
        if let Some(number) = self.names.iter().rposition(|known| known == name) {
            return self.node(at, Form::Name(number));
        }
        match &**name {
            "true" => self.node(at, Form::Bool(true)),
            "false" => self.node(at, Form::Bool(false)),
            "null" => self.node(at, Form::Null),
            name => match self.scope.root(name) {
                Some(root) => self.root(at, root),
                None => Err(self.unknown(name)),
            },
        }
    }

    fn root(&mut self, at: u32, root: &'static Root) -> Result<Node, Mistake> {
        match root.reads {
            Reads::Value { number, .. } => self.node(at, Form::Root(Source { number, root, field: None })),
            Reads::Fields(fields) => {
                let field = self.root_field(root.name, fields)?;
                self.node(at, Form::Root(Source { number: field.number, root, field: Some(field) }))
            }
        }
    }

    fn unknown(&self, name: &str) -> Mistake {
        let in_force = self.names.iter().map(|name| &**name);
        let names = in_force.chain(self.scope.roots.iter().map(|root| root.name)).chain(LITERALS);
        self.wrong_before(format!(
            "there is no `{}`; the names are {}{}",
            cut(name),
            listed_with_and(self.scope.names()),
            hint(name, names)
        ))
    }

    fn root_field(&mut self, root: &str, fields: &'static [Field]) -> Result<&'static Field, Mistake> {
        let known = || fields.iter().map(|field| field.name);
        let (Word::Sign("."), Word::Name(name)) = (self.word(), self.word_after()) else {
            return Err(self.wrong_before(format!("`{root}` is read by its fields: {}", listed(known()))));
        };
        let name = name.clone();
        self.advance();
        self.advance();
        fields.iter().find(|field| *field.name == *name).ok_or_else(|| {
            self.wrong_before(format!(
                "`{root}` has no field `{}`; its fields are {}{}",
                cut(&name),
                listed(known()),
                hint(&name, known())
            ))
        })
    }

    /// True for a name that no variable may have.
    pub(crate) fn is_taken(&self, name: &str) -> bool {
        self.scope.root(name).is_some() || LITERALS.contains(&name) || name == "in"
    }
}

/// Names that no scope gives.
const LITERALS: [&str; 3] = ["true", "false", "null"];

pub(crate) fn cut(text: &str) -> &str {
    text.get(..64).unwrap_or(text)
}

pub(crate) fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn listed_with_and(names: impl Iterator<Item = &'static str>) -> String {
    let names: Vec<&str> = names.collect();
    match names.split_last() {
        None => "none".into(),
        Some((last, [])) => format!("`{last}`"),
        Some((last, first)) => format!("{} and `{last}`", listed(first.iter().copied())),
    }
}
