//! From words to a tree: operators by their strength. Every descent is counted, so no text can end the stack.

use super::lex::{Placed, Word, words};
use super::node::{Form, Node, Operator};
use super::{Expression, Mistake};
use crate::limits::{EXPRESSION_BYTES_MAX, EXPRESSION_COST_MAX, EXPRESSION_DEPTH_MAX};
use std::sync::Arc;

pub(super) struct Parser {
    words: Vec<Placed>,
    next: usize,
    descents: u32,
    nodes: u32,
    /// Variables in force, outermost first.
    pub(super) names: Vec<Arc<str>>,
    names_max: usize,
}

/// Weakest first. `||` and `&&` are read apart, since they take any number of sides.
const LEVELS: &[&[(&str, Operator)]] = &[
    &[
        ("==", Operator::Equal),
        ("!=", Operator::Differ),
        ("<", Operator::Less),
        ("<=", Operator::LessOrEqual),
        (">", Operator::Greater),
        (">=", Operator::GreaterOrEqual),
        ("in", Operator::In),
    ],
    &[("+", Operator::Add), ("-", Operator::Subtract)],
    &[("*", Operator::Multiply), ("/", Operator::Divide), ("%", Operator::Remainder)],
];

pub(super) fn parse(text: &str) -> Result<Expression, Mistake> {
    if text.len() > EXPRESSION_BYTES_MAX {
        let message = format!("the expression has {} bytes, at most {EXPRESSION_BYTES_MAX}", text.len());
        return Err(Mistake { at: 0, message });
    }
    if text.trim().is_empty() {
        return Err(Mistake { at: 0, message: "the expression is empty".into() });
    }
    let words = words(text)?;
    let mut parser = Parser { words, next: 0, descents: 0, nodes: 0, names: Vec::new(), names_max: 0 };
    let root = parser.expression()?;
    match parser.word() {
        Word::End => Ok(Expression { root, names_max: parser.names_max }),
        word => Err(parser.wrong(format!("{} is not expected here", shown(word)))),
    }
}

/// A word for a message.
pub(super) fn shown(word: &Word) -> String {
    match word {
        Word::Int(value) => format!("`{value}`"),
        Word::IntBeyond => "`9223372036854775808`".into(),
        Word::Double(value) => format!("`{value}`"),
        Word::Text(text) => format!("the text {}", coretex_domain::names::shown(text)),
        Word::Name(name) => format!("`{}`", name.get(..64).unwrap_or(name)),
        Word::Sign(sign) => format!("`{sign}`"),
        Word::End => "the end of the expression".into(),
    }
}

impl Parser {
    pub(super) fn expression(&mut self) -> Result<Node, Mistake> {
        self.descents += 1;
        if self.descents > EXPRESSION_DEPTH_MAX {
            return Err(self.too_deep());
        }
        let asked = self.sides("||")?;
        let node = if self.take("?") {
            let yes = self.sides("||")?;
            self.expect(":")?;
            let no = self.expression()?;
            self.node(Form::If(Box::new([asked, yes, no])))?
        } else {
            asked
        };
        self.descents -= 1;
        Ok(node)
    }

    /// `a || b || c`, each side of `&&`s.
    fn sides(&mut self, sign: &'static str) -> Result<Node, Mistake> {
        let is_or = sign == "||";
        let read = |parser: &mut Parser| if is_or { parser.sides("&&") } else { parser.binary(0) };
        let first = read(self)?;
        if !self.at(sign) {
            return Ok(first);
        }
        let mut sides = vec![first];
        while self.take(sign) {
            sides.push(read(self)?);
        }
        self.node(if is_or { Form::Or(sides) } else { Form::And(sides) })
    }

    /// Operators of at least this strength; one frame for a whole chain, so that depth is what is nested.
    fn binary(&mut self, least: usize) -> Result<Node, Mistake> {
        let mut left = self.unary()?;
        while let Some((level, operator)) = self.operator().filter(|(level, _)| *level >= least) {
            self.next += 1;
            let right = self.binary(level + 1)?;
            left = self.node(Form::Binary(operator, Box::new(left), Box::new(right)))?;
        }
        Ok(left)
    }

    fn operator(&self) -> Option<(usize, Operator)> {
        let text: &str = match self.word() {
            Word::Sign(sign) => sign,
            Word::Name(name) if **name == *"in" => "in",
            Word::Int(_) | Word::IntBeyond | Word::Double(_) | Word::Text(_) | Word::Name(_) | Word::End => {
                return None;
            }
        };
        let at_level = |(level, operators): (usize, &&[(&str, Operator)])| {
            operators.iter().find(|(sign, _)| *sign == text).map(|(_, operator)| (level, *operator))
        };
        LEVELS.iter().enumerate().find_map(at_level)
    }

    fn unary(&mut self) -> Result<Node, Mistake> {
        let not = self.at("!");
        if !not && !self.at("-") {
            return self.member();
        }
        self.next += 1;
        self.descents += 1;
        if self.descents > EXPRESSION_DEPTH_MAX {
            return Err(self.too_deep());
        }
        let node = if !not && matches!(self.word(), Word::IntBeyond) {
            self.next += 1;
            self.node(Form::Int(i64::MIN))?
        } else {
            let of = Box::new(self.unary()?);
            self.node(if not { Form::Not(of) } else { Form::Negate(of) })?
        };
        self.descents -= 1;
        Ok(node)
    }

    /// Counts a node and measures its depth.
    pub(super) fn node(&mut self, form: Form) -> Result<Node, Mistake> {
        self.nodes += 1;
        if self.nodes > EXPRESSION_COST_MAX {
            return Err(self.wrong(format!(
                "the expression has more than {EXPRESSION_COST_MAX} parts, the most it may cost"
            )));
        }
        let below = depth_below(&form);
        if below >= EXPRESSION_DEPTH_MAX {
            return Err(self.too_deep());
        }
        Ok(Node { form, depth: below + 1 })
    }

    /// Reads with one more variable in force.
    pub(super) fn with_name<T>(
        &mut self,
        name: Arc<str>,
        read: impl FnOnce(&mut Parser) -> Result<T, Mistake>,
    ) -> Result<T, Mistake> {
        self.names.push(name);
        self.names_max = self.names_max.max(self.names.len());
        let found = read(self);
        self.names.pop();
        found
    }

    pub(super) fn word(&self) -> &Word {
        self.words.get(self.next).map_or(&Word::End, |placed| &placed.word)
    }

    pub(super) fn word_after(&self) -> &Word {
        self.words.get(self.next + 1).map_or(&Word::End, |placed| &placed.word)
    }

    pub(super) fn advance(&mut self) {
        self.next += 1;
    }

    pub(super) fn at(&self, sign: &str) -> bool {
        matches!(self.word(), Word::Sign(found) if *found == sign)
    }

    pub(super) fn take(&mut self, sign: &str) -> bool {
        let found = self.at(sign);
        self.next += usize::from(found);
        found
    }

    pub(super) fn expect(&mut self, sign: &str) -> Result<(), Mistake> {
        if self.take(sign) {
            return Ok(());
        }
        Err(self.wrong(format!("`{sign}` is expected, not {}", shown(self.word()))))
    }

    /// A mistake at the next word.
    pub(super) fn wrong(&self, message: String) -> Mistake {
        let at = self.words.get(self.next).or(self.words.last()).map_or(0, |placed| placed.at);
        Mistake { at, message }
    }

    /// A mistake at the word before.
    pub(super) fn wrong_before(&self, message: String) -> Mistake {
        self.wrong_back(1, message)
    }

    /// A mistake some words back.
    pub(super) fn wrong_back(&self, words: usize, message: String) -> Mistake {
        let at = self.words.get(self.next.saturating_sub(words)).map_or(0, |placed| placed.at);
        Mistake { at, message }
    }

    fn too_deep(&self) -> Mistake {
        self.wrong(format!("the expression is nested deeper than {EXPRESSION_DEPTH_MAX} levels"))
    }
}

fn depth_below(form: &Form) -> u32 {
    let most = |nodes: &[Node]| nodes.iter().map(|node| node.depth).max().unwrap_or(0);
    match form {
        Form::Null
        | Form::Bool(_)
        | Form::Int(_)
        | Form::Double(_)
        | Form::Text(_)
        | Form::Job(_)
        | Form::Config
        | Form::Name(_) => 0,
        Form::List(nodes) | Form::And(nodes) | Form::Or(nodes) | Form::Call(_, nodes) => most(nodes),
        Form::Map(entries) => {
            entries.iter().map(|(key, value)| key.depth.max(value.depth)).max().unwrap_or(0)
        }
        Form::Select(of, _) | Form::Has(of, _) | Form::Not(of) | Form::Negate(of) | Form::Matches(of, _) => {
            of.depth
        }
        Form::Index(left, right) | Form::Binary(_, left, right) => left.depth.max(right.depth),
        Form::If(parts) => most(&parts[..]),
        Form::Fold(fold) => {
            let inner =
                [&fold.claim, &fold.made].into_iter().flatten().map(|node| node.depth).max().unwrap_or(0);
            fold.over.depth.max(inner)
        }
    }
}
