//! The strongest parts of an expression: literals, fields, calls and macros, all resolved here.

use crate::expression::Mistake;
use crate::lex::Word;
use crate::limits::REGEX_BYTES_MAX;
use crate::names::{cut, listed};
use crate::node::{Fold, Form, Node};
use crate::operator::{FoldKind, Function};
use crate::parse::{Parser, shown};
use crate::scope::Source;
use coretex_domain::nearest::hint;
use regex::RegexBuilder;
use std::sync::Arc;

impl Parser {
    /// A part and what follows it: fields, calls and indexes.
    pub(crate) fn member(&mut self) -> Result<Node, Mistake> {
        let mut node = self.primary()?;
        loop {
            if self.take(".") {
                let at = self.place();
                let name = self.name("the name of a field or function")?;
                node = if self.take("(") {
                    self.call_on(at, node, &name)?
                } else {
                    self.node(at, Form::Select(Box::new(node), name))?
                };
            } else if self.take("[") {
                let at = self.place_back(1);
                let key = self.expression()?;
                self.expect("]")?;
                node = self.node(at, Form::Index(Box::new(node), Box::new(key)))?;
            } else {
                return Ok(node);
            }
        }
    }

    fn primary(&mut self) -> Result<Node, Mistake> {
        let (at, word) = (self.place(), self.word().clone());
        match word {
            Word::Int(value) => self.literal(Form::Int(value)),
            Word::Double(value) => self.literal(Form::Double(value)),
            Word::Text(text) => self.literal(Form::Text(text)),
            Word::IntBeyond => {
                Err(self.wrong("`9223372036854775808` is outside of the whole numbers of 64 bits".into()))
            }
            Word::Name(name) => self.named(&name),
            Word::Sign("(") => {
                self.advance();
                let node = self.expression()?;
                self.expect(")")?;
                Ok(node)
            }
            Word::Sign("[") => {
                self.advance();
                let items = self.until("]", |parser| parser.expression())?;
                self.node(at, Form::List(items))
            }
            Word::Sign("{") => {
                self.advance();
                let entries = self.until("}", |parser| {
                    let key = parser.expression()?;
                    parser.expect(":")?;
                    Ok((key, parser.expression()?))
                })?;
                self.node(at, Form::Map(entries))
            }
            word @ (Word::Sign(_) | Word::End) => {
                Err(self.wrong(format!("a value is expected, not {}", shown(&word))))
            }
        }
    }

    fn literal(&mut self, form: Form) -> Result<Node, Mistake> {
        let at = self.place();
        self.advance();
        self.node(at, form)
    }

    /// Things with commas between them, the last of which may be followed by one.
    fn until<T>(
        &mut self,
        end: &str,
        mut read: impl FnMut(&mut Parser) -> Result<T, Mistake>,
    ) -> Result<Vec<T>, Mistake> {
        let mut items = Vec::new();
        while !self.take(end) {
            items.push(read(self)?);
            if !self.take(",") {
                self.expect(end)?;
                break;
            }
        }
        Ok(items)
    }

    pub(crate) fn name(&mut self, what: &str) -> Result<Arc<str>, Mistake> {
        match self.word().clone() {
            Word::Name(name) => {
                self.advance();
                Ok(name)
            }
            word => Err(self.wrong(format!("{what} is expected, not {}", shown(&word)))),
        }
    }

    /// `f(…)`, its parenthesis already read.
    pub(crate) fn call(&mut self, at: u32, name: &str) -> Result<Node, Mistake> {
        if name == "has" {
            return self.has(at);
        }
        self.known_function(name, false)?;
        let args = self.until(")", |parser| parser.expression())?;
        self.function(at, name, args, false)
    }

    /// `x.f(…)`, its parenthesis already read.
    fn call_on(&mut self, at: u32, target: Node, name: &str) -> Result<Node, Mistake> {
        if let Some(kind) = FoldKind::find(name) {
            return self.fold(at, kind, target);
        }
        if name == "matches" {
            return self.matches(at, target);
        }
        self.known_function(name, true)?;
        let mut args = self.until(")", |parser| parser.expression())?;
        args.insert(0, target);
        self.function(at, name, args, true)
    }

    fn known_function(&self, name: &str, on_target: bool) -> Result<(), Mistake> {
        let fits = |global: bool, on: bool| if on_target { on } else { global };
        let mut known: Vec<&str> = Function::ALL
            .iter()
            .filter(|(_, _, _, global, on)| fits(*global, *on))
            .map(|(name, ..)| *name)
            .collect();
        if known.contains(&name) {
            return Ok(());
        }
        if on_target {
            known.extend(["matches", "all", "exists", "exists_one", "filter", "map"]);
        } else {
            known.push("has");
        }
        let form = if on_target { "on a value" } else { "by itself" };
        let text = format!(
            "there is no function `{}` to call {form}; there are {}{}",
            cut(name),
            listed(known.iter().copied()),
            hint(name, known.iter().copied())
        );
        // The name stands before the parenthesis that was just read.
        Err(self.wrong_back(2, text))
    }

    fn function(&mut self, at: u32, name: &str, args: Vec<Node>, on_target: bool) -> Result<Node, Mistake> {
        let found = Function::ALL.iter().find(|(known, ..)| *known == name);
        let Some((_, function, count, ..)) = found else {
            return Err(self.wrong_before(format!("there is no function `{}`", cut(name))));
        };
        if args.len() != *count {
            let target = usize::from(on_target);
            let (wanted, got) = (count - target, args.len() - target);
            return Err(self.wrong_before(format!("`{name}` takes {wanted} arguments here, not {got}")));
        }
        self.node(at, Form::Call(*function, args))
    }

    fn has(&mut self, at: u32) -> Result<Node, Mistake> {
        let of = self.expression()?;
        self.expect(")")?;
        match of.form {
            Form::Select(of, field) => self.node(at, Form::Has(of, field)),
            Form::Root(Source { field: Some(_), .. }) => self.node(at, Form::Bool(true)),
            _ => Err(self.wrong_before("`has` takes a field, as in has(config.limit)".into())),
        }
    }

    fn fold(&mut self, at: u32, kind: FoldKind, over: Node) -> Result<Node, Mistake> {
        let name = self.name("the name of a variable")?;
        if self.is_taken(&name) {
            return Err(self.wrong_before(format!("`{name}` is taken; give the variable another name")));
        }
        self.expect(",")?;
        let number = self.names.len();
        let (first, second) = self.with_name(name, |parser| {
            let first = parser.expression()?;
            let second = if parser.take(",") { Some(parser.expression()?) } else { None };
            Ok((first, second))
        })?;
        self.expect(")")?;
        let (claim, made) = match (kind, second) {
            (FoldKind::Map, None) => (None, Some(first)),
            (FoldKind::Map, Some(made)) => (Some(first), Some(made)),
            (_, None) => (Some(first), None),
            (_, Some(_)) => {
                return Err(self.wrong_before("this macro takes a variable and one expression".into()));
            }
        };
        self.node(at, Form::Fold(Box::new(Fold { kind, over, name: number, claim, made })))
    }

    fn matches(&mut self, at: u32, target: Node) -> Result<Node, Mistake> {
        let Word::Text(pattern) = self.word().clone() else {
            let told =
                "`matches` takes its pattern as a text in quotes, so that it is checked before it is used";
            return Err(self.wrong(told.into()));
        };
        let built =
            RegexBuilder::new(&pattern).size_limit(REGEX_BYTES_MAX).dfa_size_limit(REGEX_BYTES_MAX).build();
        let regex = built.map_err(|error| {
            let told = error.to_string();
            self.wrong(format!("the pattern is refused: {}", told.lines().last().unwrap_or("not a pattern")))
        })?;
        self.advance();
        self.expect(")")?;
        self.node(at, Form::Matches(Box::new(target), regex))
    }
}
