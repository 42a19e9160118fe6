//! Every bound of a schedule. The guide `docs/guide/schedules.md` names each of them.

use coretex_domain::Span;

pub const SCHEDULE_ID_LEN_MAX: usize = 64;
pub const DESCRIPTION_LEN_MAX: usize = 1_024;
/// Longest cron expression, bytes.
pub const CRON_LEN_MAX: usize = 256;
/// What is started more often than this is a loop, not a schedule; and every start leaves a record.
pub const INTERVAL_MIN: Span = Span::secs(10);
pub const INTERVAL_MAX: Span = Span::days(366);
pub const JITTER_MAX: Span = Span::hours(24);
/// A time that could not be handled within this span was missed: `catch_up` decides about it.
pub const LATE_AFTER: Span = Span::secs(60);
/// Missed times that `ALL` makes up for, unless the schedule says otherwise.
pub const CATCH_UP_DEFAULT: u32 = 100;
pub const CATCH_UP_MAX: u32 = 1_000;
/// Times of one schedule that wait for their turn. Further ones are skipped.
pub const PENDING_MAX: usize = 1_000;
/// Targets of one schedule that are remembered as perhaps running; the newest.
pub const RUNNING_MAX: usize = 100;
/// Times of one backfill.
pub const BACKFILL_MAX: usize = 10_000;
/// Backfills of one schedule at a time.
pub const BACKFILLS_MAX: usize = 10;
/// Times of a backfill that are put in line at a time.
pub const BACKFILL_BATCH: usize = 50;
/// How long what a schedule did is kept, and how far back a backfill may reach: within it is known what was started.
pub const FIRE_RETENTION: Span = Span::days(90);
/// Schedules of one namespace; all are in memory on every node.
pub const SCHEDULES_MAX: usize = 1_000;
/// What one schedule may hold as it is kept, its input included, bytes.
pub const DEFINITION_BYTES_MAX: usize = 64 << 10;
pub const PREVIEW_DEFAULT: usize = 10;
pub const PREVIEW_MAX: usize = 100;
/// How long a start that meets a passing fault is tried again before it is given up.
pub const RETRY_FOR: Span = Span::mins(10);
/// Years that are looked through for the next time: more than from one 29 February to the next, also around 2100.
pub const YEARS_AHEAD: i16 = 9;
