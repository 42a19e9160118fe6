//! The strongest parts of an expression: literals, names, fields, calls and macros, all resolved here.

use super::Mistake;
use super::lex::Word;
use super::node::{Fold, FoldKind, Form, Function, JobField, Node};
use super::parse::{Parser, shown};
use crate::limits::REGEX_BYTES_MAX;
use coretex_domain::nearest::hint;
use regex::RegexBuilder;
use std::sync::Arc;

impl Parser {
    /// A part and what follows it: fields, calls and indexes.
    pub(super) fn member(&mut self) -> Result<Node, Mistake> {
        let mut node = self.primary()?;
        loop {
            if self.take(".") {
                let name = self.name("the name of a field or function")?;
                node = if self.take("(") {
                    self.call_on(node, &name)?
                } else {
                    self.node(Form::Select(Box::new(node), name))?
                };
            } else if self.take("[") {
                let key = self.expression()?;
                self.expect("]")?;
                node = self.node(Form::Index(Box::new(node), Box::new(key)))?;
            } else {
                return Ok(node);
            }
        }
    }

    fn primary(&mut self) -> Result<Node, Mistake> {
        let word = self.word().clone();
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
                self.node(Form::List(items))
            }
            Word::Sign("{") => {
                self.advance();
                let entries = self.until("}", |parser| {
                    let key = parser.expression()?;
                    parser.expect(":")?;
                    Ok((key, parser.expression()?))
                })?;
                self.node(Form::Map(entries))
            }
            word @ (Word::Sign(_) | Word::End) => {
                Err(self.wrong(format!("a value is expected, not {}", shown(&word))))
            }
        }
    }

    fn literal(&mut self, form: Form) -> Result<Node, Mistake> {
        self.advance();
        self.node(form)
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

    fn name(&mut self, what: &str) -> Result<Arc<str>, Mistake> {
        match self.word().clone() {
            Word::Name(name) => {
                self.advance();
                Ok(name)
            }
            word => Err(self.wrong(format!("{what} is expected, not {}", shown(&word)))),
        }
    }

    fn named(&mut self, name: &Arc<str>) -> Result<Node, Mistake> {
        self.advance();
        if self.take("(") {
            return self.call(name);
        }
        if let Some(number) = self.names.iter().rposition(|known| known == name) {
            return self.node(Form::Name(number));
        }
        match &**name {
            "true" => self.node(Form::Bool(true)),
            "false" => self.node(Form::Bool(false)),
            "null" => self.node(Form::Null),
            "config" => self.node(Form::Config),
            "job" => self.job_field(),
            unknown => {
                let known = ["job", "config", "true", "false", "null"];
                let names = self.names.iter().map(|name| &**name).chain(known);
                let message = format!(
                    "there is no `{}`; the names are `job` and `config`{}",
                    cut(unknown),
                    hint(unknown, names)
                );
                Err(self.wrong_before(message))
            }
        }
    }

    fn job_field(&mut self) -> Result<Node, Mistake> {
        let known = || JobField::ALL.iter().map(|(name, _)| *name);
        if !matches!((self.word(), self.word_after()), (Word::Sign("."), Word::Name(_))) {
            return Err(self.wrong_before(format!("`job` is read by its fields: {}", listed(known()))));
        }
        self.advance();
        let name = self.name("a field of the job")?;
        match JobField::ALL.iter().find(|(known, _)| *known == &*name) {
            Some((_, field)) => self.node(Form::Job(*field)),
            None => {
                let message = format!(
                    "`job` has no field `{}`; its fields are {}{}",
                    cut(&name),
                    listed(known()),
                    hint(&name, known())
                );
                Err(self.wrong_before(message))
            }
        }
    }

    /// `f(…)`, its parenthesis already read.
    fn call(&mut self, name: &str) -> Result<Node, Mistake> {
        if name == "has" {
            return self.has();
        }
        self.known_function(name, false)?;
        let args = self.until(")", |parser| parser.expression())?;
        self.function(name, args, false)
    }

    /// `x.f(…)`, its parenthesis already read.
    fn call_on(&mut self, target: Node, name: &str) -> Result<Node, Mistake> {
        if let Some(kind) = FoldKind::find(name) {
            return self.fold(kind, target);
        }
        if name == "matches" {
            return self.matches(target);
        }
        self.known_function(name, true)?;
        let mut args = self.until(")", |parser| parser.expression())?;
        args.insert(0, target);
        self.function(name, args, true)
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

    fn function(&mut self, name: &str, args: Vec<Node>, on_target: bool) -> Result<Node, Mistake> {
        let found = Function::ALL.iter().find(|(known, ..)| *known == name);
        let Some((_, function, count, ..)) = found else {
            return Err(self.wrong_before(format!("there is no function `{}`", cut(name))));
        };
        if args.len() != *count {
            let target = usize::from(on_target);
            let (wanted, got) = (count - target, args.len() - target);
            return Err(self.wrong_before(format!("`{name}` takes {wanted} arguments here, not {got}")));
        }
        self.node(Form::Call(*function, args))
    }

    fn has(&mut self) -> Result<Node, Mistake> {
        let of = self.expression()?;
        self.expect(")")?;
        match of.form {
            Form::Select(of, field) => self.node(Form::Has(of, field)),
            // The fields of a job are always there, unset ones as empty.
            Form::Job(_) => self.node(Form::Bool(true)),
            _ => Err(self.wrong_before("`has` takes a field, as in has(job.labels.env)".into())),
        }
    }

    fn fold(&mut self, kind: FoldKind, over: Node) -> Result<Node, Mistake> {
        let name = self.name("the name of a variable")?;
        if ["job", "config", "true", "false", "null", "in"].contains(&&*name) {
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
        self.node(Form::Fold(Box::new(Fold { kind, over, name: number, claim, made })))
    }

    fn matches(&mut self, target: Node) -> Result<Node, Mistake> {
        let Word::Text(pattern) = self.word().clone() else {
            return Err(self.wrong(
                "`matches` takes its pattern as a text in quotes, so that it is checked when the rule is"
                    .into(),
            ));
        };
        let built =
            RegexBuilder::new(&pattern).size_limit(REGEX_BYTES_MAX).dfa_size_limit(REGEX_BYTES_MAX).build();
        let regex = built.map_err(|error| {
            let told = error.to_string();
            self.wrong(format!("the pattern is refused: {}", told.lines().last().unwrap_or("not a pattern")))
        })?;
        self.advance();
        self.expect(")")?;
        self.node(Form::Matches(Box::new(target), regex))
    }
}

fn cut(text: &str) -> &str {
    text.get(..64).unwrap_or(text)
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
