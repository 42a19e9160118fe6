//! The safety kernel: a bundle of rules is read, made ready, and asked about jobs. Pure: no I/O, no clock, no chance.
//!
//! ```
//! use coretex_policy::{Bundle, Facts, Memo, compile};
//! let text = "
//! name: default
//! default: allow
//! rules:
//!   - id: no-destroy
//!     match: { topics: [sys.destroy, 'sys.destroy.*'] }
//!     verdict: deny
//!     reason: destructive system jobs are never run from the queue
//! ";
//! let policy = compile(Bundle::parse(text)?);
//! let mut memo = Memo::default();
//! let facts = Facts { namespace: "default", topic: "sys.destroy.disk", ..Facts::default() };
//! let outcome = memo.judge(&policy, &facts);
//! assert_eq!(&*outcome.ruling.rule_id, "no-destroy");
//! # Ok::<(), coretex_policy::Problems>(())
//! ```
//!
//! The format is described in `docs/guide/policy.md`. Remote kernels, counting of rates and budgets, approvals and
//! records of decisions are the engine's; this crate says what they must do.

mod bundle;
mod canonical;
mod compiled;
mod condition;
mod diff;
mod explain;
mod facts;
mod glob;
mod inputs;
pub mod limits;
mod lint;
mod matching;
mod memo;
mod outcome;
pub mod set;
mod simulate;
mod written;
mod yaml;

pub use bundle::{Bundle, Match, Rate, Remediation, Rule, word};
pub use compiled::{Compiled, compile};
pub use condition::{Condition, Template};
pub use coretex_document::{Problem, Problems};
pub use diff::{Changed, Diff, Field, diff};
pub use explain::{Considered, Standing, explain};
pub use facts::Facts;
pub use glob::{Alphabet, Glob};
pub use lint::Shadowed;
pub use matching::Key;
pub use memo::Memo;
pub use outcome::{Outcome, Ruling};
pub use simulate::{ByRule, Report, Sample, Seen, Simulation};
