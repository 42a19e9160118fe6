//! CEL, the Common Expression Language, under hard limits. Pure: no I/O, no clock, no chance.
//!
//! In: a text and the names it may read, when it is loaded; values for these names, when it is evaluated. Out: a
//! checked tree; a value. Refused: what does not parse, names nothing, is too big or too deep, or can never have a
//! value; at evaluation what is not defined or costs too much.
//!
//! ```
//! use coretex_cel::{Expression, Fault, Inputs, Kinds, Purse, Root, Scope, Value};
//! static SCOPE: Scope = Scope { roots: &[Root::value("config", 0, Kinds::MAP)], null_selects: false };
//! #[derive(Debug)]
//! struct Config(serde_json::Value);
//! impl Inputs for Config {
//!     fn read(&self, _number: u16) -> Result<Value<'_>, Fault> {
//!         Ok(Value::of_json(&self.0))
//!     }
//! }
//! let expression = Expression::parse("config.limit * 2 > 9", &SCOPE).map_err(|mistake| mistake.message)?;
//! let config = Config(serde_json::json!({ "limit": 5 }));
//! let purse = Purse::new(10_000, 100_000, "the expressions of this example");
//! assert_eq!(expression.evaluate(&config, &purse).map(|value| value.told()), Ok("true or false"));
//! # Ok::<(), String>(())
//! ```
//!
//! The language is described in `docs/guide/expressions.md`. The parsers of the known crates recurse without a bound
//! that holds (thirty parentheses end a thread with a 2 MiB stack in one, two thousand negations in the other), and
//! their evaluators count nothing. An expression is evaluated on a shard's loop with a caller's payload in hand, so
//! the depth of the text, the depth of values and the steps of the evaluation must all be bounded by us. Left out of
//! the language: `uint`, `bytes`, timestamps, durations, messages and optionals; there is no clock here and payloads
//! are JSON.

mod call;
mod check;
mod compare;
mod condition;
mod eval;
mod expression;
mod fault;
mod fold;
mod infer;
mod inputs;
mod items;
mod json;
mod kind;
mod lex;
pub mod limits;
mod names;
mod node;
mod operator;
mod parse;
mod payload;
mod primary;
mod purse;
mod reads;
mod scope;
mod template;
#[cfg(test)]
mod tests;
mod value;

pub use condition::Condition;
pub use expression::{Expression, Mistake};
pub use fault::Fault;
pub use inputs::{Inputs, Lazy, Table};
pub use kind::{Kind, Kinds};
pub use payload::{Payload, is_json};
pub use purse::{Meter, Purse};
pub use reads::{Key, Read};
pub use scope::{Field, Reads, Root, Scope};
pub use template::{Template, Writes};
pub use value::{Levels, Value};
