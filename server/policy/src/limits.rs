//! Every bound of a bundle and of judging by it. The guide `docs/guide/policy.md` names each of them.

use coretex_domain::Span;

/// Largest text of a bundle, bytes. A bundle travels in one message.
pub const BUNDLE_BYTES_MAX: usize = 4 << 20;
/// Most values, lists and maps in the text; ten thousand full rules fit.
pub const BUNDLE_NODES_MAX: usize = 1_000_000;
/// What anchors and aliases may add to the text: enough to share a list between rules, too little to blow it up.
pub const ALIAS_EVENTS_MAX: usize = 20_000;
/// Nesting of the text. The format itself needs six levels.
pub const BUNDLE_DEPTH_MAX: usize = 16;
pub const RULES_MAX: usize = 10_000;
pub const NAME_LEN_MAX: usize = 64;
pub const RULE_ID_LEN_MAX: usize = 128;
pub const TEXT_LEN_MAX: usize = 1_024;
/// Entries in one list of a rule.
pub use coretex_document::LIST_MAX;
pub const REMEDIATIONS_MAX: usize = 16;
pub const PATTERN_LEN_MAX: usize = 256;
/// Stars in one pattern: keeps a match cheap whatever the name.
pub const PATTERN_STARS_MAX: usize = 8;

pub use coretex_cel::limits::EXPRESSION_BYTES_MAX;
/// Largest payload whose inside an expression may read, bytes. Its size can be read whatever it is.
pub const PAYLOAD_READ_MAX: usize = 64 << 10;
/// Steps one evaluation may take.
pub const EXPRESSION_COST_MAX: u32 = 10_000;
/// Steps all expressions of one judgement may take together, however many rules there are.
pub const JUDGEMENT_COST_MAX: u32 = 100_000;

pub const QUORUM_MAX: u64 = 16;
pub use coretex_domain::limits::APPROVAL_EXPIRES_DEFAULT;
pub const APPROVAL_EXPIRES_MIN: Span = Span::secs(1);
pub const APPROVAL_EXPIRES_MAX: Span = Span::days(366);
pub const RATE_LIMIT_MAX: u64 = 1_000_000;
pub const RATE_PER_MIN: Span = Span::secs(1);
pub const RATE_PER_MAX: Span = Span::days(31);
pub const RUNTIME_MIN: Span = Span(1);
pub const RUNTIME_MAX: Span = coretex_domain::limits::HORIZON;
pub const TOKENS_MAX: u64 = 1_000_000_000_000;
/// A thousand million of the installation's currency, in millionths.
pub const COST_MICROS_MAX: u64 = 1_000_000_000_000_000;
pub const DIFF_MAX: u64 = 1_000_000;

/// Answers a memo keeps; two generations of half as many.
pub const MEMO_ENTRIES_DEFAULT: usize = 8_192;
/// A longer key is judged afresh each time, so that a memo's memory is bounded by its entries.
pub const MEMO_KEY_BYTES_MAX: usize = 1_024;
