//! From words to a tree: operators by their strength. Every descent is counted, so no text can end the stack.

use crate::expression::{Expression, Mistake};
use crate::lex::{Placed, Word, words};
use crate::limits::{EXPRESSION_BYTES_MAX, EXPRESSION_DEPTH_MAX, EXPRESSION_PARTS_MAX};
use crate::node::{Form, Node};
use crate::operator::Operator;
use crate::scope::Scope;
use std::sync::Arc;

pub(crate) struct Parser {
    pub(crate) scope: &'static Scope,
    words: Vec<Placed>,
    next: usize,
    descents: u32,
    nodes: u32,
    /// Variables in force, outermost first.
    pub(crate) names: Vec<Arc<str>>,
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

pub(crate) fn parse(text: &str, scope: &'static Scope) -> Result<Expression, Mistake> {
    if text.len() > EXPRESSION_BYTES_MAX {
        let message = format!("the expression has {} bytes, at most {EXPRESSION_BYTES_MAX}", text.len());
        return Err(Mistake { at: 0, message });
    }
    whole(words(text, false)?.0, scope)
}

/// Reads an expression up to the brace that closes it, and says where that is; nothing if it is not closed.
pub(crate) fn embedded(text: &str, scope: &'static Scope) -> Result<Option<(Expression, usize)>, Mistake> {
    let (words, end) = words(text, true)?;
    if end == text.len() {
        return Ok(None);
    }
    Ok(Some((whole(words, scope)?, end)))
}

fn whole(words: Vec<Placed>, scope: &'static Scope) -> Result<Expression, Mistake> {
    if let [Placed { word: Word::End, .. }] | [] = words.as_slice() {
        return Err(Mistake { at: 0, message: "the expression is empty".into() });
    }
    let mut parser = Parser { scope, words, next: 0, descents: 0, nodes: 0, names: Vec::new(), names_max: 0 };
    let root = parser.expression()?;
    match parser.word() {
        Word::End => Ok(Expression { root, names_max: parser.names_max, scope }),
        word => Err(parser.wrong(format!("{} is not expected here", shown(word)))),
    }
}

/// A word for a message.
pub(crate) fn shown(word: &Word) -> String {
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
    pub(crate) fn expression(&mut self) -> Result<Node, Mistake> {
        self.descents += 1;
        if self.descents > EXPRESSION_DEPTH_MAX {
            return Err(self.too_deep());
        }
        let asked = self.sides("||")?;
        let at = self.place();
        let node = if self.take("?") {
            let yes = self.sides("||")?;
            self.expect(":")?;
            let no = self.expression()?;
            self.node(at, Form::If(Box::new([asked, yes, no])))?
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
        let (at, mut sides) = (self.place(), vec![first]);
        while self.take(sign) {
            sides.push(read(self)?);
        }
        self.node(at, if is_or { Form::Or(sides) } else { Form::And(sides) })
    }

    /// Operators of at least this strength; one frame for a whole chain, so that depth is what is nested.
    fn binary(&mut self, least: usize) -> Result<Node, Mistake> {
        let mut left = self.unary()?;
        while let Some((level, operator)) = self.operator().filter(|(level, _)| *level >= least) {
            let at = self.place();
            self.next += 1;
            let right = self.binary(level + 1)?;
            left = self.node(at, Form::Binary(operator, Box::new(left), Box::new(right)))?;
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
        let at = self.place();
        self.next += 1;
        self.descents += 1;
        if self.descents > EXPRESSION_DEPTH_MAX {
            return Err(self.too_deep());
        }
        let node = if !not && matches!(self.word(), Word::IntBeyond) {
            self.next += 1;
            self.node(at, Form::Int(i64::MIN))?
        } else {
            let of = Box::new(self.unary()?);
            self.node(at, if not { Form::Not(of) } else { Form::Negate(of) })?
        };
        self.descents -= 1;
        Ok(node)
    }

    /// Counts a node and measures its depth.
    pub(crate) fn node(&mut self, at: u32, form: Form) -> Result<Node, Mistake> {
        self.nodes += 1;
        if self.nodes > EXPRESSION_PARTS_MAX {
            let message =
                format!("the expression has more than {EXPRESSION_PARTS_MAX} parts, the most there may be");
            return Err(self.wrong(message));
        }
        let mut below = 0;
        form.each_part(&mut |part| below = below.max(part.depth));
        if below >= EXPRESSION_DEPTH_MAX {
            return Err(self.too_deep());
        }
        Ok(Node { form, at, depth: below + 1 })
    }

    /// Reads with one more variable in force.
    pub(crate) fn with_name<T>(
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

    /// Byte of the next word.
    pub(crate) fn place(&self) -> u32 {
        let at = self.words.get(self.next).or(self.words.last()).map_or(0, |placed| placed.at);
        u32::try_from(at).unwrap_or(u32::MAX)
    }

    /// Byte of a word that was read, so many back.
    pub(crate) fn place_back(&self, words: usize) -> u32 {
        let at = self.words.get(self.next.saturating_sub(words)).map_or(0, |placed| placed.at);
        u32::try_from(at).unwrap_or(u32::MAX)
    }

    pub(crate) fn word(&self) -> &Word {
        self.words.get(self.next).map_or(&Word::End, |placed| &placed.word)
    }

    pub(crate) fn word_after(&self) -> &Word {
        self.words.get(self.next + 1).map_or(&Word::End, |placed| &placed.word)
    }

    pub(crate) fn advance(&mut self) {
        self.next += 1;
    }

    pub(crate) fn at(&self, sign: &str) -> bool {
        matches!(self.word(), Word::Sign(found) if *found == sign)
    }

    pub(crate) fn take(&mut self, sign: &str) -> bool {
        let found = self.at(sign);
        self.next += usize::from(found);
        found
    }

    pub(crate) fn expect(&mut self, sign: &str) -> Result<(), Mistake> {
        if self.take(sign) {
            return Ok(());
        }
        Err(self.wrong(format!("`{sign}` is expected, not {}", shown(self.word()))))
    }

    /// A mistake at the next word.
    pub(crate) fn wrong(&self, message: String) -> Mistake {
        Mistake { at: self.place() as usize, message }
    }

    /// A mistake at the word before.
    pub(crate) fn wrong_before(&self, message: String) -> Mistake {
        self.wrong_back(1, message)
    }

    /// A mistake some words back.
    pub(crate) fn wrong_back(&self, words: usize, message: String) -> Mistake {
        Mistake { at: self.place_back(words) as usize, message }
    }

    fn too_deep(&self) -> Mistake {
        self.wrong(format!("the expression is nested deeper than {EXPRESSION_DEPTH_MAX} levels"))
    }
}
