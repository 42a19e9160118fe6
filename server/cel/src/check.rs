//! What can never have a value, found before there are values.

use crate::condition::Condition;
use crate::expression::{Expression, Mistake};
use crate::infer::Inference;
use crate::kind::{Kind, Kinds};
use crate::reads::Key;

impl Expression {
    /// The kinds its value may have, or why it can never have one.
    ///
    /// `known` tells the kinds of what is read: the name's number and the path inside it. [`Kinds::ANY`] says nothing
    /// about it; a kind that is told must be right whenever there is a value, null counted; [`Kinds::NONE`] says that
    /// there never is one. What gives `size` as bytes ([`Lazy::size`](crate::Lazy::size)) is told as `ANY`.
    ///
    /// Only what evaluation would refuse too, whatever the values, is refused. So nothing is said about one side of `||`
    /// or `&&` that another side may decide, nor about what a macro does with the items of a list that may be empty.
    pub fn check(&self, known: &dyn Fn(u16, &[Key]) -> Kinds) -> Result<Kinds, Mistake> {
        Inference::new(known, self.scope).kinds(&self.root)
    }
}

impl Condition {
    /// The same for a condition, which also has to be true or false. The place is that in the text it was read from.
    pub fn check(&self, known: &dyn Fn(u16, &[Key]) -> Kinds) -> Result<(), Mistake> {
        let kinds = self.expression.check(known).map_err(|mistake| mistake.after(self.before))?;
        match kinds.has(Kind::Bool) {
            true => Ok(()),
            false => Err(Mistake { at: self.before, message: Condition::gives(kinds) }),
        }
    }
}
