//! Every bound of an expression. The guide `docs/guide/expressions.md` names each of them; what an evaluation may cost
//! is its reader's to say ([`Purse`](crate::Purse)).

/// Largest text of one expression, bytes.
pub const EXPRESSION_BYTES_MAX: usize = 64 << 10;
/// Most nodes of an expression.
pub const EXPRESSION_PARTS_MAX: u32 = 10_000;
/// Nesting of an expression. Keeps evaluation within a small stack.
pub const EXPRESSION_DEPTH_MAX: u32 = 32;
/// Nesting of lists and maps that an expression makes: macros within macros could put thousands into one another, and
/// whoever compares, writes or drops them goes down one frame each. What is read counts as one level: its own depth
/// was bounded when it was parsed.
pub const VALUE_DEPTH_MAX: u16 = 64;
/// Compiled size of the pattern of one `matches`, bytes.
pub const REGEX_BYTES_MAX: usize = 256 << 10;
/// Largest text of a template, bytes: that of a document of one.
pub const TEMPLATE_BYTES_MAX: usize = 1 << 20;
/// Most `${…}` in one template: each is a tree of its own, larger than its text.
pub const TEMPLATE_EXPRESSIONS_MAX: usize = 1_000;
