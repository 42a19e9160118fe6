//! Every bound of the product in one place. Changing one is a change of the contract.

use crate::time::Span;

/// Number of virtual shards, the same in every store for ever.
pub const SHARDS: usize = 256;

/// Largest payload, result or checkpoint of a job, bytes.
pub const PAYLOAD_MAX: usize = 1 << 20;
/// Largest gRPC message accepted, bytes.
pub const MESSAGE_MAX: usize = 4 << 20;
/// Aim for the size of one batch frame, bytes.
pub const BATCH_BYTES_AIM: usize = 1 << 20;
/// Most specs in one submit request.
pub const SUBMIT_BATCH_MAX: usize = 10_000;
/// Most assignments in one `Assign` frame.
pub const ASSIGN_BATCH_MAX: usize = 256;
/// Most updates in one `Report` frame.
pub const REPORT_BATCH_MAX: usize = 512;

pub const TOPIC_LEN_MAX: usize = 128;
pub const JOB_ID_LEN_MAX: usize = 128;
/// Name of a job that is a step of a run: the run, and the places within groups within groups.
pub const STEP_JOB_ID_LEN_MAX: usize = 2_048;
pub const KEY_LEN_MAX: usize = 256;
pub const NAMESPACE_LEN_MAX: usize = 64;
pub const WORKER_ID_LEN_MAX: usize = 128;
pub const LABELS_MAX: usize = 64;
pub const LABEL_LEN_MAX: usize = 256;
pub const REQUIRES_MAX: usize = 32;
pub const RISK_TAGS_MAX: usize = 32;
pub const CONTENT_TYPE_LEN_MAX: usize = 128;
pub const REASON_LEN_MAX: usize = 1_024;
pub const FAILURE_MESSAGE_LEN_MAX: usize = 16 << 10;
pub const FAILURE_TYPE_LEN_MAX: usize = 128;
pub const FAILURE_DETAILS_LEN_MAX: usize = 64 << 10;
pub const NON_RETRYABLE_MAX: usize = 64;
pub const PROGRESS_MESSAGE_LEN_MAX: usize = 1_024;
pub const PROGRESS_ATTRIBUTES_MAX: usize = 64;
pub const PROGRESS_ATTRIBUTE_LEN_MAX: usize = 256;
pub const MODEL_NAME_LEN_MAX: usize = 256;
/// JSON nesting accepted in payloads declared as JSON.
pub const JSON_DEPTH_MAX: usize = 64;

pub const PRIORITY_DEFAULT: u8 = 4;
pub const PRIORITY_MAX: u8 = 9;

pub const ATTEMPTS_DEFAULT: u32 = 3;
pub const ATTEMPTS_MAX: u32 = 100;
pub const INITIAL_BACKOFF_DEFAULT: Span = Span::secs(1);
pub const BACKOFF_MAX_DEFAULT: Span = Span::mins(5);
/// Largest span accepted anywhere (about five years).
pub const HORIZON: Span = Span::days(5 * 366);
pub const MULTIPLIER_DEFAULT: f64 = 2.0;
pub const MULTIPLIER_MAX: f64 = 1_000.0;
pub const JITTER_DEFAULT: f64 = 0.2;
/// Jitter is never less than this share of the delay, so that retries do not march in step.
pub const JITTER_MIN: f64 = 0.1;
pub const START_TO_CLOSE_DEFAULT: Span = Span::hours(1);
pub const CANCEL_GRACE: Span = Span::secs(30);
/// After the deadline of a leaving worker, for its own last words, before the server releases what it still holds.
pub const DRAIN_SLACK: Span = Span::secs(5);
/// Started leases lost with their worker before a job is given up.
pub const LOST_MAX: u32 = 3;
/// Leases in a row that never started before a job is given up.
pub const DELIVERIES_MAX: u32 = 16;
/// History entries of one job; a job that reaches it is failed rather than grown for ever.
pub const HISTORY_MAX: usize = 10_000;

pub const AGEING_DEFAULT: Span = Span::secs(30);
pub const OFFER_TTL: Span = Span::secs(5);
pub const SESSION_TTL_DEFAULT: Span = Span::secs(15);
pub const SESSION_TTL_MIN: Span = Span::secs(1);
pub const SESSION_TTL_MAX: Span = Span::hours(24);
pub const HEARTBEAT_DEFAULT: Span = Span::secs(5);
/// Questions one lease may ask in a second.
pub const ASKS_PER_SECOND: u32 = 100;
/// What a question may carry as arguments, and how its parts are named.
pub const ASK_ARGS_MAX: usize = 64 << 10;
pub const ASK_RESOURCE_LEN_MAX: usize = 256;
/// Secrets one question may name.
pub const ASK_SECRETS_MAX: usize = 64;
/// How long a verdict on an action may be relied on.
pub const ASK_VERDICT_TTL: Span = Span::secs(30);
/// Children of one question.
pub const SPAWN_MAX: usize = 256;
/// Questions of one job that made children; their names.
pub const SPAWNS_MAX: usize = 256;
pub const SPAWN_NAME_LEN_MAX: usize = 64;
/// Generations of jobs that jobs made.
pub const SPAWN_DEPTH_MAX: u32 = 32;
/// Open jobs that end with one job: they are cancelled in the commit of its end.
pub const SPAWN_BOUND_MAX: usize = 4_096;
pub const SLOTS_MAX: u32 = 100_000;
pub const LANES_MAX: usize = 64;
pub const SESSION_TOPICS_MAX: usize = 1_024;

pub const RETENTION_DEFAULT: Span = Span::hours(24);
pub const RETENTION_MIN: Span = Span::mins(1);
pub const RETENTION_MAX: Span = Span::days(3_660);
pub const DEAD_LETTER_RETENTION_DEFAULT: Span = Span::days(14);
/// Idempotency keys are kept this long after the end of their job, or the job's retention if shorter.
pub const KEY_RETENTION: Span = Span::hours(24);

/// How long an approval is waited for, where its rule does not say.
pub const APPROVAL_EXPIRES_DEFAULT: Span = Span::hours(24);
/// How long approvals are kept once they are over.
pub const APPROVAL_RETENTION: Span = Span::days(90);
/// People who may give their vote on one approval into other hands.
pub const DELEGATIONS_MAX: usize = 64;

/// Request ids are remembered this long where a row keeps them.
pub const REQUEST_ID_RETENTION: Span = Span::hours(24);
/// Request ids one topic remembers.
pub const TOPIC_CALLS_MAX: usize = 256;

pub const WAIT_DEFAULT: Span = Span::secs(60);
pub const WAIT_MAX: Span = Span::mins(10);
pub const PAGE_DEFAULT: usize = 50;
pub const PAGE_MAX: usize = 1_000;
/// Rows a list page may examine before it answers short.
pub const PAGE_EXAMINED_MAX: usize = 10_000;
/// Rows a count examines before it says `exact = false`.
pub const COUNT_EXAMINED_MAX: usize = 100_000;
/// Dead letters one call deletes.
pub const PURGE_MAX: usize = 10_000;
/// Dead letters one redrive may name by id.
pub const REDRIVE_IDS_MAX: usize = 1_000;
/// Retries per second that a redrive may ask for.
pub const REDRIVE_RATE_MAX: u32 = 10_000;
/// Groups of dead letters that are told apart before a grouping says `exact = false`.
pub const GROUPS_MAX: usize = 10_000;
pub const FILTER_LEN_MAX: usize = 4_096;

/// Nesting of the maps and lists of one configuration.
pub const CONFIG_DEPTH_MAX: usize = 32;
/// Scalars and empty maps and lists of one configuration.
pub const CONFIG_LEAVES_MAX: usize = 10_000;
/// Canonical JSON of the configuration of one scope, bytes.
pub const CONFIG_BYTES_MAX: usize = 256 << 10;
pub const CONFIG_KEY_LEN_MAX: usize = 128;
/// Scopes of one namespace that have or had a configuration; all are kept in memory.
pub const CONFIG_SCOPES_MAX: usize = 10_000;
/// Canonical JSON of all configuration of one namespace, bytes: it is kept in memory on every node.
pub const CONFIG_TOTAL_BYTES_MAX: usize = 64 << 20;
/// Revisions of one scope that are kept; the oldest go first.
pub const CONFIG_REVISIONS_MAX: u64 = 1_000;
/// Workflows of one namespace that can be started.
pub const WORKFLOWS_MAX: usize = 1_000;
/// Names of workflows of one namespace, those of deleted ones included: their numbers are never used again, so all are kept in memory.
pub const WORKFLOW_NAMES_MAX: usize = 10_000;
/// Versions of one workflow; none is ever removed.
pub const WORKFLOW_VERSIONS_MAX: u64 = 10_000;
/// Effective configuration that travels with an assignment, bytes; more is asked for by the worker.
pub const CONFIG_INLINE_MAX: usize = 16 << 10;
/// A schema of configuration as canonical JSON, bytes.
pub const CONFIG_SCHEMA_BYTES_MAX: usize = 64 << 10;
/// Schemas of one scope.
pub const CONFIG_SCHEMAS_MAX: usize = 64;
/// Faults of one configuration that are told at once.
pub const CONFIG_FAULTS_MAX: usize = 100;

/// Name of an identity, as keys are given one.
pub const IDENTITY_NAME_LEN_MAX: usize = 64;
/// A whole identity: where others are named, a name may be as long.
pub const IDENTITY_LEN_MAX: usize = WORKER_ID_LEN_MAX;
/// API keys the server keeps, ended ones included; all are in memory on every node.
pub const API_KEYS_MAX: usize = 10_000;
/// Of those, the ones bound to one namespace, so that a tenant cannot use up the place of others.
pub const API_KEYS_PER_NAMESPACE_MAX: usize = 1_000;
/// Namespaces one key may be bound to.
pub const API_KEY_NAMESPACES_MAX: usize = 16;
/// How long an ended API key is shown.
pub const API_KEY_RETENTION: Span = Span::days(90);
/// How long the key before a rotation stays valid.
pub const API_KEY_OVERLAP_DEFAULT: Span = Span::hours(24);
pub const API_KEY_OVERLAP_MAX: Span = Span::days(7);

/// Input of a run, and its output, bytes of JSON.
pub const RUN_VALUE_MAX: usize = PAYLOAD_MAX;
/// A value of a run up to this many bytes stays in its record; a longer one is kept apart.
pub const RUN_INLINE_MAX: usize = 4 << 10;
/// Jobs of a run that goes on are looked at again after this long, whenever their own time has come.
pub const RUN_JOBS_PUT_OFF: Span = Span::hours(1);
/// Entries of a run's history that are moved out of its record together.
pub const RUN_PIECE: usize = 64;
/// History entries of one run; a run that reaches it is failed rather than grown for ever.
pub const RUN_HISTORY_MAX: u64 = 1_000_000;
/// A signal to a run, bytes of JSON.
pub const SIGNAL_MAX: usize = 64 << 10;
/// Signals a run keeps until a step waits for them, and their bytes together.
pub const SIGNALS_KEPT_MAX: usize = 1_000;
pub const SIGNALS_KEPT_BYTES_MAX: usize = 256 << 10;
pub const SIGNAL_NAME_LEN_MAX: usize = 64;
