//! Kinds pushed up through the tree. An error says that a node has no value, whatever is read.

use crate::expression::Mistake;
use crate::kind::{Kind, Kinds};
use crate::node::{Fold, Form, Node};
use crate::operator::Operator;
use crate::reads::{Key, path_of};
use crate::scope::Scope;

pub(crate) struct Inference<'k> {
    known: &'k dyn Fn(u16, &[Key]) -> Kinds,
    null_selects: bool,
}

/// What a map can have as a key: whole numbers are also found by the same number with a fraction.
const KEYS: Kinds = Kinds::TEXT.or(Kinds::NUMBER).or(Kinds::BOOL);
const COLLECTIONS: Kinds = Kinds::LIST.or(Kinds::MAP);

type Found = Result<Kinds, Mistake>;

impl<'k> Inference<'k> {
    pub(crate) fn new(known: &'k dyn Fn(u16, &[Key]) -> Kinds, scope: &Scope) -> Inference<'k> {
        Inference { known, null_selects: scope.null_selects }
    }

    pub(crate) fn kinds(&self, node: &Node) -> Found {
        match &node.form {
            Form::Null | Form::Bool(_) | Form::Int(_) | Form::Double(_) | Form::Text(_) => Ok(node.kinds()),
            Form::Root(source) => match (self.known)(source.number, &[]).and(source.kinds()) {
                Kinds::NONE => Err(wrong(node, "there is no such value here".into())),
                kinds => Ok(kinds),
            },
            // An item of a list: only the list would tell.
            Form::Name(_) => Ok(Kinds::ANY),
            Form::List(items) => {
                items.iter().try_for_each(|item| self.kinds(item).map(drop))?;
                Ok(Kinds::LIST)
            }
            Form::Map(entries) => self.map(entries),
            Form::Select(of, field) => {
                let of = self.fields(of, node)?;
                self.selected(node, of, || {
                    format!("there is no field `{}`", field.get(..64).unwrap_or(field))
                })
            }
            Form::Has(of, _) => self.fields(of, node).map(|_| Kinds::BOOL),
            Form::Index(of, key) => self.index(node, of, key),
            Form::Not(of) => self.wants(of, "a condition", "true or false", Kinds::BOOL),
            Form::Negate(of) => self.wants(of, "`-`", "a number", Kinds::NUMBER),
            Form::Binary(operator, left, right) => self.binary(node, *operator, left, right),
            Form::And(sides) | Form::Or(sides) => self.sides(sides),
            Form::If(parts) => self.choice(parts),
            Form::Call(function, args) => {
                let takes = function.takes();
                for arg in args {
                    self.wants(arg, &format!("`{}`", function.name()), &takes.to_string(), takes)?;
                }
                Ok(function.gives())
            }
            Form::Matches(of, _) => {
                self.wants(of, "`matches`", "a text", Kinds::TEXT)?;
                Ok(Kinds::BOOL)
            }
            Form::Fold(fold) => self.fold(fold),
        }
    }

    /// The kinds of a part that must be one of some.
    fn wants(&self, part: &Node, who: &str, what: &str, wanted: Kinds) -> Found {
        let kinds = self.kinds(part)?;
        match kinds.and(wanted) {
            Kinds::NONE => Err(wrong(part, format!("{who} wants {what}, not {kinds}"))),
            fitting => Ok(fitting),
        }
    }

    fn map(&self, entries: &[(Node, Node)]) -> Found {
        let keys = Kinds::TEXT.or(Kinds::INT).or(Kinds::BOOL);
        for (key, value) in entries {
            self.wants(key, "the key of a map", "a text, a whole number, true or false", keys)?;
            self.kinds(value)?;
        }
        Ok(Kinds::MAP)
    }

    /// True if it may be a null whose fields and items are null too.
    fn may_pass(&self, of: Kinds) -> bool {
        self.null_selects && of.has(Kind::Null)
    }

    /// The kinds of what a field is read from.
    fn fields(&self, of: &Node, node: &Node) -> Found {
        let kinds = self.kinds(of)?;
        if kinds.has(Kind::Map) || self.may_pass(kinds) {
            return Ok(kinds);
        }
        Err(wrong(node, format!("{kinds} has no fields")))
    }

    /// What a field or an item is, by what is known of its path.
    fn selected(&self, node: &Node, of: Kinds, missing: impl FnOnce() -> String) -> Found {
        let inner = match path_of(node) {
            _ if !of.meets(COLLECTIONS) => Kinds::NONE,
            Some((source, path)) => (self.known)(source.number, &path),
            None => Kinds::ANY,
        };
        match if self.may_pass(of) { inner.or(Kinds::NULL) } else { inner } {
            Kinds::NONE => Err(wrong(node, missing())),
            kinds => Ok(kinds),
        }
    }

    fn index(&self, node: &Node, of: &Node, key: &Node) -> Found {
        let (of, by) = (self.kinds(of)?, self.kinds(key)?);
        let fits = of.has(Kind::List) && by.has(Kind::Int) || of.has(Kind::Map) && by.meets(KEYS);
        if fits || self.may_pass(of) {
            return self.selected(node, of, || "there is no such item".into());
        }
        Err(match (of.has(Kind::List), of.has(Kind::Map)) {
            (false, false) => wrong(node, format!("{of} has no fields")),
            (true, false) => wrong(key, format!("the index of a list wants a whole number, not {by}")),
            (_, true) => {
                wrong(key, format!("the key of a map wants a text, a number, true or false, not {by}"))
            }
        })
    }

    fn binary(&self, node: &Node, operator: Operator, left: &Node, right: &Node) -> Found {
        let (one, other) = (self.kinds(left)?, self.kinds(right)?);
        let both = one.and(other);
        match operator {
            Operator::Equal | Operator::Differ => Ok(Kinds::BOOL),
            Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual => {
                let are_numbers = one.meets(Kinds::NUMBER) && other.meets(Kinds::NUMBER);
                if are_numbers || both.meets(Kinds::TEXT.or(Kinds::BOOL)) {
                    return Ok(Kinds::BOOL);
                }
                Err(wrong(node, format!("{one} and {other} have no order")))
            }
            Operator::In if other.meets(COLLECTIONS) => Ok(Kinds::BOOL),
            Operator::In => Err(wrong(right, format!("`in` wants a list or a map, not {other}"))),
            Operator::Add
            | Operator::Subtract
            | Operator::Multiply
            | Operator::Divide
            | Operator::Remainder => match both.and(operator.takes()) {
                Kinds::NONE => {
                    let told = "do not go together here; `int`, `double` and `string` convert";
                    Err(wrong(node, format!("{one} and {other} {told}")))
                }
                kinds => Ok(kinds),
            },
        }
    }

    /// Any side that may be true or false may be the one that decides.
    fn sides(&self, sides: &[Node]) -> Found {
        let mut first = None;
        for side in sides {
            match self.wants(side, "a condition", "true or false", Kinds::BOOL) {
                Ok(_) => return Ok(Kinds::BOOL),
                Err(mistake) => first = first.or(Some(mistake)),
            }
        }
        first.map_or(Ok(Kinds::BOOL), Err)
    }

    fn choice(&self, parts: &[Node; 3]) -> Found {
        let [asked, yes, no] = parts;
        self.wants(asked, "a condition", "true or false", Kinds::BOOL)?;
        match (self.kinds(yes), self.kinds(no)) {
            (Ok(yes), Ok(no)) => Ok(yes.or(no)),
            (Ok(kinds), Err(_)) | (Err(_), Ok(kinds)) => Ok(kinds),
            (Err(mistake), Err(_)) => Err(mistake),
        }
    }

    fn fold(&self, fold: &Fold) -> Found {
        self.wants(&fold.over, "a macro", "a list or a map", COLLECTIONS)?;
        Ok(fold.kind.gives())
    }
}

fn wrong(node: &Node, message: String) -> Mistake {
    Mistake { at: node.at as usize, message }
}
