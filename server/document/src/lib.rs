//! Documents people write: YAML (or JSON, which is YAML) as a tree whose values know their line and column, read field
//! by field. Everything that is wrong is noted and told at once, with the nearest name for a key that does not exist.
//!
//! Policies and workflows are read with it; what their fields mean is theirs to say.

mod fields;
mod node;
mod problem;
pub mod span;

pub use fields::{Fields, LIST_MAX, Notes, items, join, text};
pub use node::{Limits, Node, Spot, place, read};
pub use problem::{PROBLEMS_MAX, Problem, Problems};
