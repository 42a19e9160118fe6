//! Text to filter, by recursive descent with a bound on depth and size.

use super::{Compare, Expr, Field, FilterError, Kind, Op, Schema, Value, parse_time};
use crate::limits;
use crate::names::shown;
use crate::nearest::hint;

/// Parentheses and NOTs within each other.
const DEPTH_MAX: usize = 32;
/// Comparisons, and values of IN, in one filter.
const TERMS_MAX: usize = 256;
const KEYWORDS: [&str; 4] = ["AND", "OR", "NOT", "IN"];

type Parsed<T> = Result<T, FilterError>;

struct Parser<'a> {
    schema: Schema,
    text: &'a str,
    at: usize,
    depth: usize,
    terms: usize,
}

pub(super) fn parse(schema: Schema, text: &str) -> Parsed<Option<Expr>> {
    if text.len() > limits::FILTER_LEN_MAX {
        let message =
            format!("a filter has at most {} bytes, this one has {}", limits::FILTER_LEN_MAX, text.len());
        return Err(FilterError { position: limits::FILTER_LEN_MAX, message });
    }
    let mut parser = Parser { schema, text, at: 0, depth: 0, terms: 0 };
    parser.skip_space();
    if parser.rest().is_empty() {
        return Ok(None);
    }
    let expr = parser.any_of()?;
    if !parser.rest().is_empty() {
        let word = parser.shown_next();
        let nearest = hint(parser.peek_word(), KEYWORDS[..2].iter().copied());
        return Err(parser.fail(format!("expected AND, OR or the end, got {word}{nearest}")));
    }
    Ok(Some(expr))
}

impl Parser<'_> {
    fn any_of(&mut self) -> Parsed<Expr> {
        self.deeper(|p| {
            let first = p.all_of()?;
            p.joined(first, "OR", Parser::all_of, Expr::Or)
        })
    }

    fn all_of(&mut self) -> Parsed<Expr> {
        let first = self.one()?;
        self.joined(first, "AND", Parser::one, Expr::And)
    }

    fn joined(
        &mut self,
        first: Expr,
        word: &str,
        next: fn(&mut Self) -> Parsed<Expr>,
        join: fn(Vec<Expr>) -> Expr,
    ) -> Parsed<Expr> {
        if !self.take_keyword(word) {
            return Ok(first);
        }
        let mut parts = vec![first];
        loop {
            parts.push(next(self)?);
            if !self.take_keyword(word) {
                return Ok(flat(parts, join));
            }
        }
    }

    fn one(&mut self) -> Parsed<Expr> {
        if self.take_keyword("NOT") {
            return self.deeper(|p| p.one().map(|inner| Expr::Not(Box::new(inner))));
        }
        if self.take("(") {
            let inner = self.any_of()?;
            return if self.take(")") { Ok(inner) } else { Err(self.fail("expected `)`")) };
        }
        self.compare().map(Expr::Compare)
    }

    fn compare(&mut self) -> Parsed<Compare> {
        self.terms += 1;
        if self.terms > TERMS_MAX {
            return Err(self.fail(format!("a filter has at most {TERMS_MAX} comparisons and values")));
        }
        let (field, key) = self.field()?;
        let start = self.at;
        let op = self.op(field)?;
        if matches!(op, Op::Lt | Op::Le | Op::Gt | Op::Ge) && !matches!(field.kind, Kind::Number | Kind::Time)
        {
            self.at = start;
            return Err(self.fail(format!("`{}` has no order: use =, != or IN", field.name)));
        }
        let values = if op == Op::In { self.list(field)? } else { vec![self.value(field)?] };
        Ok(Compare { field, key: key.into(), op, values })
    }

    fn field(&mut self) -> Parsed<(Field, String)> {
        let start = self.at;
        let word = self.peek_word().to_owned();
        if word.is_empty() || KEYWORDS.contains(&word.as_str()) {
            let got = self.shown_next();
            return Err(self.fail(format!("expected a field, got {got}")));
        }
        if let Some(field) = self.schema.iter().find(|f| f.name == word && f.kind != Kind::Map) {
            self.advance(word.len());
            return Ok((*field, String::new()));
        }
        let map = self.schema.iter().find(|f| {
            f.kind == Kind::Map
                && word.strip_prefix(f.name).is_some_and(|r| r.starts_with('.') || r.is_empty())
        });
        let Some(field) = map else {
            let near = hint(&word, self.schema.iter().map(|f| f.name));
            return Err(self.fail(format!("unknown field {}{near}", shown(&word))));
        };
        // No space may stand between the dot and a quoted key.
        self.at += (field.name.len() + 1).min(word.len());
        let key = if self.rest().starts_with('"') {
            self.quoted()?
        } else {
            let key = self.peek_word().to_owned();
            self.advance(key.len());
            key
        };
        if key.is_empty() {
            self.at = start;
            return Err(self.fail(format!("`{0}` needs a key: {0}.KEY", field.name)));
        }
        Ok((*field, key))
    }

    fn op(&mut self, field: Field) -> Parsed<Op> {
        // Longer ones first: `<=` begins with `<`.
        for (sign, op) in
            [("!=", Op::Ne), ("<=", Op::Le), (">=", Op::Ge), ("=", Op::Eq), ("<", Op::Lt), (">", Op::Gt)]
        {
            if self.take(sign) {
                return Ok(op);
            }
        }
        if self.take_keyword("IN") {
            return Ok(Op::In);
        }
        let got = self.shown_next();
        Err(self.fail(format!("expected =, !=, <, <=, >, >= or IN after `{}`, got {got}", field.name)))
    }

    fn list(&mut self, field: Field) -> Parsed<Vec<Value>> {
        if !self.take("(") {
            return Err(self.fail("expected `(` after IN"));
        }
        let mut values = vec![self.value(field)?];
        while self.take(",") {
            values.push(self.value(field)?);
            self.terms += 1;
            if self.terms > TERMS_MAX {
                return Err(self.fail(format!("a filter has at most {TERMS_MAX} comparisons and values")));
            }
        }
        if self.take(")") { Ok(values) } else { Err(self.fail("expected `,` or `)` in the list after IN")) }
    }

    fn value(&mut self, field: Field) -> Parsed<Value> {
        let start = self.at;
        let is_quoted = self.rest().starts_with('"');
        let text = if is_quoted {
            self.quoted()?
        } else {
            let word = self.peek_word().to_owned();
            if word.is_empty() || KEYWORDS.contains(&word.as_str()) {
                let got = self.shown_next();
                return Err(self.fail(format!("expected a value for `{}`, got {got}", field.name)));
            }
            self.advance(word.len());
            word
        };
        typed(field, &text, is_quoted).map_err(|message| FilterError { position: start, message })
    }

    /// A string in double quotes with the escapes of JSON.
    fn quoted(&mut self) -> Parsed<String> {
        let start = self.at;
        let mut out = String::new();
        let mut chars = self.text[start..].char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.advance(at + 1);
                    return Ok(out);
                }
                '\\' => match escape(&mut chars) {
                    Some(c) => out.push(c),
                    None => {
                        self.at = start + at;
                        return Err(self.fail("is no escape of JSON"));
                    }
                },
                c if c.is_control() => {
                    self.at = start + at;
                    return Err(self.fail(format!("control character {c:?} in a string; escape it")));
                }
                c => out.push(c),
            }
        }
        Err(self.fail("this string has no end"))
    }

    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Parsed<T>) -> Parsed<T> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.fail(format!("nested deeper than {DEPTH_MAX}")));
        }
        let done = inner(self);
        self.depth -= 1;
        done
    }

    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn peek_word(&self) -> &str {
        let rest = self.rest();
        let len = rest.find(|c: char| !(c.is_alphanumeric() || "_.-:/@+".contains(c))).unwrap_or(rest.len());
        &rest[..len]
    }

    fn shown_next(&self) -> String {
        match (self.peek_word(), self.rest().chars().next()) {
            ("", None) => "the end".into(),
            ("", Some(c)) => format!("{c:?}"),
            (word, _) => shown(word),
        }
    }

    fn take(&mut self, sign: &str) -> bool {
        let found = self.rest().starts_with(sign);
        if found {
            self.advance(sign.len());
        }
        found
    }

    fn take_keyword(&mut self, word: &str) -> bool {
        let found = self.peek_word() == word;
        if found {
            self.advance(word.len());
        }
        found
    }

    fn advance(&mut self, by: usize) {
        self.at += by;
        self.skip_space();
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\n']).len();
    }

    fn fail(&self, message: impl Into<String>) -> FilterError {
        FilterError { position: self.at, message: message.into() }
    }
}

/// Joins parts, without a join of the same kind inside: what is printed parses to the same tree.
fn flat(parts: Vec<Expr>, join: fn(Vec<Expr>) -> Expr) -> Expr {
    let is_or = matches!(join(Vec::new()), Expr::Or(_));
    let mut all = Vec::with_capacity(parts.len());
    for part in parts {
        match part {
            Expr::Or(inner) if is_or => all.extend(inner),
            Expr::And(inner) if !is_or => all.extend(inner),
            other => all.push(other),
        }
    }
    join(all)
}

fn typed(field: Field, text: &str, is_quoted: bool) -> Result<Value, String> {
    match field.kind {
        Kind::Text | Kind::Map => Ok(Value::Text(text.into())),
        _ if text.is_empty() => Ok(Value::Text("".into())),
        Kind::Word(words) if words.contains(&text) => Ok(Value::Text(text.into())),
        Kind::Word(words) => {
            Err(format!("`{}` is never {}{}", field.name, shown(text), hint(text, words.iter().copied())))
        }
        Kind::Number => text
            .parse()
            .map(Value::Number)
            .map_err(|_| format!("`{}` is a whole number, got {}", field.name, shown(text))),
        Kind::Time if !is_quoted => Err(format!("a time stands in quotes: \"{}\"", text.escape_debug())),
        Kind::Time => parse_time(text).map(Value::Time).map_err(|e| format!("{} {e}", shown(text))),
    }
}

fn escape(chars: &mut impl Iterator<Item = (usize, char)>) -> Option<char> {
    let unit = |chars: &mut dyn Iterator<Item = (usize, char)>| {
        (0..4).try_fold(0u32, |n, _| Some(n * 16 + chars.next()?.1.to_digit(16)?))
    };
    match chars.next()?.1 {
        c @ ('"' | '\\' | '/') => Some(c),
        'b' => Some('\u{8}'),
        'f' => Some('\u{c}'),
        'n' => Some('\n'),
        'r' => Some('\r'),
        't' => Some('\t'),
        'u' => match unit(chars)? {
            high @ 0xd800..=0xdbff => {
                let follows = chars.next()?.1 == '\\' && chars.next()?.1 == 'u';
                let low = unit(chars).filter(|low| follows && (0xdc00..=0xdfff).contains(low))?;
                char::from_u32(0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00))
            }
            plain => char::from_u32(plain),
        },
        _ => None,
    }
}
