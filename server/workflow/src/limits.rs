//! Every bound of a workflow. The guide `docs/guide/workflows.md` names each of them.

use coretex_domain::Span;

/// Largest text of a workflow, bytes.
pub const TEXT_BYTES_MAX: usize = 1 << 20;
/// Most values, lists and maps in the text.
pub const NODES_MAX: usize = 250_000;
/// What anchors and aliases may add to the text.
pub const ALIAS_EVENTS_MAX: usize = 20_000;
/// Nesting of the text: groups at their deepest, with an input at its deepest in the innermost step.
pub const TEXT_DEPTH_MAX: usize = 2 * GROUPS_DEEP_MAX + coretex_domain::limits::JSON_DEPTH_MAX + 8;
/// Steps of a workflow, those in groups and of `on_failure` included.
pub const STEPS_MAX: usize = 10_000;
/// Groups within groups.
pub const GROUPS_DEEP_MAX: usize = 32;
/// Steps that one step may wait for.
pub const NEEDS_MAX: usize = 256;
pub const NAME_LEN_MAX: usize = 64;
pub const STEP_ID_LEN_MAX: usize = 64;
pub const TEXT_LEN_MAX: usize = 1_024;
/// Longest text with expressions in it, bytes.
pub const TEMPLATE_BYTES_MAX: usize = 64 << 10;
/// Steps one evaluation may take on the loop of a shard; what needs more is evaluated beside it.
pub const EXPRESSION_COST_MAX: u32 = 10_000;
/// Steps all evaluations for one step may take together.
pub const STEP_COST_MAX: u32 = 100_000;
/// The same where it is not done on the loop of a shard.
pub const EXPRESSION_COST_BESIDE_MAX: u32 = 1_000_000;
pub const STEP_COST_BESIDE_MAX: u32 = 10_000_000;

/// Items of one `for_each`.
pub const ITEMS_MAX: usize = 100_000;
/// Items of one `for_each` at a time, unless the step says otherwise.
pub const PARALLEL_DEFAULT: u32 = 100;
pub const PARALLEL_MAX: u32 = 10_000;
/// Runs that share a concurrency key.
pub const CONCURRENCY_MAX: u32 = 10_000;

/// Shortest time of anything that waits.
pub const TIMER_MIN: Span = Span(1);
/// Longest time of anything that waits, and of a whole run.
pub const TIMER_MAX: Span = coretex_domain::limits::HORIZON;
pub const QUORUM_MAX: u64 = 16;
pub const APPROVAL_EXPIRES_MAX: Span = Span::days(366);
