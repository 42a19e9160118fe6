//! Refusals: answers a caller can act on. Each has a stable reason, the field, the limit and the value seen.

use crate::time::Span;

macro_rules! reasons {
    ($($name:ident = $text:literal => $class:ident, $doc:literal, $help:literal;)*) => {
        /// Every stable reason, name for name the enum `ErrorReason` of the contract. `docs/errors/` has a page for each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason { $(#[doc = $doc] $name,)* }

        impl Reason {
            pub const ALL: &[Reason] = &[$(Reason::$name,)*];
            /// The name on the wire.
            pub const fn name(self) -> &'static str { match self { $(Reason::$name => $text,)* } }
            pub const fn class(self) -> Class { match self { $(Reason::$name => Class::$class,)* } }
            /// One sentence: when it is answered.
            pub const fn meaning(self) -> &'static str { match self { $(Reason::$name => $doc,)* } }
            /// What the caller can do about it.
            pub const fn advice(self) -> &'static str { match self { $(Reason::$name => $help,)* } }
        }
    };
}

/// The kind of a refusal; the gateway maps it to a gRPC code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    InvalidArgument,
    NotFound,
    AlreadyExists,
    FailedPrecondition,
    PermissionDenied,
    Unauthenticated,
    ResourceExhausted,
    OutOfRange,
    Unavailable,
    DataLoss,
    Unimplemented,
    Aborted,
    Cancelled,
    DeadlineExceeded,
    /// Found in records, warnings and frames: never the status of a call.
    Recorded,
}

reasons! {
    InvalidField = "INVALID_FIELD" => InvalidArgument, "One or more fields of the request break a rule; every violation is listed.",
        "Correct each field named in `violations` and send the request again.";
    MalformedRequest = "MALFORMED_REQUEST" => InvalidArgument, "The request could not be decoded: bad encoding, bad UTF-8, or a wrong wire type.",
        "Build the request with a generated client of `coretex.v1`; check that both sides use the same message type.";
    UnknownField = "UNKNOWN_FIELD" => InvalidArgument, "A JSON or YAML document has a field that does not exist; the nearest name is given.",
        "Correct the spelling; names are snake_case, as in the contract.";
    InvalidJson = "INVALID_JSON" => InvalidArgument, "A payload declared as JSON is not JSON, or holds what cannot be kept exactly; line and column are named.",
        "Correct the text at the place named, or declare another content type.";
    InvalidFilter = "INVALID_FILTER" => InvalidArgument, "The filter expression does not parse; the position is named.",
        "Correct the filter at the position named; the fields it may use are in the documentation of the method.";
    InvalidPageToken = "INVALID_PAGE_TOKEN" => InvalidArgument, "The page token is not one of ours, or belongs to another query.",
        "Start again without a token, and leave filter, order and namespace alone while paging.";
    InvalidResumeToken = "INVALID_RESUME_TOKEN" => InvalidArgument, "The watch token is not one of ours, belongs to another watch, or lies in the future.",
        "Watch again without a token, or with the last one the same watch gave.";
    SchemaViolation = "SCHEMA_VIOLATION" => InvalidArgument, "The configuration would break a schema set for a part of it; every violation is listed with its path, rule and value.",
        "Correct the values at the paths named, or change the schema first; `coretex config schema list` shows it.";
    HelloRequired = "HELLO_REQUIRED" => InvalidArgument, "The first frame of a worker stream was neither Hello nor Resume.",
        "Send Hello, or Resume with a token, before any other frame.";
    DuplicateHello = "DUPLICATE_HELLO" => InvalidArgument, "A worker stream sent a second Hello or Resume.",
        "Open a new stream for a new session; use UpdateRegistration to change topics or lanes.";
    PolicyInvalid = "POLICY_INVALID" => InvalidArgument, "The text of a policy has mistakes; every one is named with line and column.",
        "Mend them; `coretex policy check FILE` tells the same without a server.";
    FrameTooLarge = "FRAME_TOO_LARGE" => ResourceExhausted, "A stream frame is larger than its limit.",
        "Split reports into frames of at most `limits.max_frame_bytes` of Welcome.";
    MessageTooLarge = "MESSAGE_TOO_LARGE" => ResourceExhausted, "The message is larger than the limit; trying again will not help.",
        "Send smaller batches, or raise the message limit of the server.";
    PayloadTooLarge = "PAYLOAD_TOO_LARGE" => ResourceExhausted, "A payload is larger than `payload_max`.",
        "Keep the content elsewhere and put a reference into the payload.";
    BatchTooLarge = "BATCH_TOO_LARGE" => ResourceExhausted, "A batch has more items than allowed.",
        "Split the batch; `limits` of GetServerInfo has the figure.";
    UnsupportedEncoding = "UNSUPPORTED_ENCODING" => Unimplemented, "The content is compressed in a way this server does not read.",
        "Use `gzip`, `zstd` or no compression.";
    UnknownMethod = "UNKNOWN_METHOD" => Unimplemented, "There is no such method or route.",
        "Check the name; GetServerInfo tells the version of the server.";
    UnsupportedMediaType = "UNSUPPORTED_MEDIA_TYPE" => InvalidArgument, "The content type is not one the route takes.",
        "Send `application/json` over REST, `application/grpc` over gRPC.";
    UnsupportedByStore = "FEATURE_UNAVAILABLE" => Unimplemented, "This build, store or setting does not offer what was asked for.",
        "Look at `features` and `store` of GetServerInfo.";
    JobNotFound = "JOB_NOT_FOUND" => NotFound, "No such job in this namespace, or its retention has passed.",
        "Check the id and the namespace.";
    TopicNotFound = "TOPIC_NOT_FOUND" => NotFound, "No such topic in this namespace.",
        "Submit a job to it or declare it with UpdateTopic.";
    WorkerNotFound = "WORKER_NOT_FOUND" => NotFound, "No such worker in this namespace.",
        "List the workers; one that left is shown for a while only.";
    SessionNotFound = "SESSION_NOT_FOUND" => NotFound, "The worker session has ended or never was.",
        "Begin a new session: Hello, or PollJobs without a session id.";
    NodeNotFound = "NODE_NOT_FOUND" => NotFound, "There is no such node.",
        "Leave the node id empty to mean the node that answers.";
    NamespaceNotFound = "NAMESPACE_NOT_FOUND" => NotFound, "There is no such namespace, or the caller may not know of it.",
        "Check the metadata entry `coretex-namespace`.";
    NamespaceExists = "NAMESPACE_EXISTS" => AlreadyExists, "There is a namespace of this name.",
        "Update it with UpdateNamespace.";
    NamespaceNotEmpty = "NAMESPACE_NOT_EMPTY" => FailedPrecondition, "Jobs are open in the namespace, or it has schedules.",
        "Cancel the jobs or wait for their end; delete the schedules.";
    PolicyNotFound = "POLICY_NOT_FOUND" => NotFound, "There is no such policy, or no such version of it.",
        "ListPolicies and ListPolicyVersions tell what there is.";
    WorkflowNotFound = "WORKFLOW_NOT_FOUND" => NotFound, "There is no such workflow in the namespace, it was deleted, or it has no such version.",
        "Check name, version and namespace; ListWorkflows with `show_deleted` shows what there was.";
    WorkflowInvalid = "WORKFLOW_INVALID" => InvalidArgument, "A workflow has mistakes; each is a violation of its own, with its place.",
        "Correct each of them; `coretex workflow validate` tells them without a server.";
    WorkflowInexact = "WORKFLOW_INEXACT" => FailedPrecondition, "A workflow holds a number that a message cannot keep exactly.",
        "Ask for its text (FULL view) without `with_definition`, or write the number as a text.";
    ApprovalNotFound = "APPROVAL_NOT_FOUND" => NotFound, "There is no such approval in this namespace, or it is no longer kept.",
        "ListApprovals tells what there is; a job that was judged again has a later round.";
    DeadLetterNotFound = "DEAD_LETTER_NOT_FOUND" => NotFound, "The job left no dead letter in this namespace, or it is no longer kept.",
        "Check the id and the namespace; a deleted dead letter's job can still be retried with RetryJob.";
    ConfigNotFound = "CONFIG_NOT_FOUND" => NotFound, "The scope has no configuration, or not the revision or schema named.",
        "Check level, id and namespace; `coretex config list` shows what there is.";
    ApiKeyNotFound = "API_KEY_NOT_FOUND" => NotFound, "There is no such API key, or the caller may not know of it.",
        "ListApiKeys tells what there is; keys of the settings are not among them, and ended ones are kept for 90 days.";
    ApiKeyEnded = "API_KEY_ENDED" => FailedPrecondition, "The API key was revoked or has expired; it cannot be given a new secret.",
        "Make a new one with CreateApiKey.";
    IdempotencyConflict = "IDEMPOTENCY_CONFLICT" => AlreadyExists, "The idempotency key or request id was used with another body.",
        "Use a new key for new work; repeat a request byte for byte.";
    JobExists = "JOB_ID_TAKEN" => AlreadyExists, "A job with this id exists with another body.",
        "Choose another job id, or leave it out.";
    WorkerIdTaken = "WORKER_ID_TAKEN" => AlreadyExists, "Another identity holds a live session under this worker id.",
        "Give each worker its own id, or leave it out.";
    JobTerminal = "JOB_TERMINAL" => FailedPrecondition, "The job has ended; nothing can be changed.",
        "Retry the job to make a new one from it.";
    JobNotTerminal = "JOB_NOT_TERMINAL" => FailedPrecondition, "The job has not ended yet; only ended jobs can be retried by hand.",
        "Wait for its end, or cancel it first.";
    StepOfRun = "STEP_OF_RUN" => FailedPrecondition, "The job is a step of a run; rerun the run from that step.",
        "Use RerunFrom with the run and the step.";
    PayloadExpired = "PAYLOAD_EXPIRED" => FailedPrecondition, "The input of the job is no longer kept.",
        "Submit a new job with its input, or retry with `edited_input`.";
    RevisionMismatch = "REVISION_MISMATCH" => FailedPrecondition, "The resource has changed since the revision given.",
        "Read it again and repeat the change on what it is now.";
    StaleLease = "STALE_LEASE" => FailedPrecondition, "The lease is closed; another attempt is open or the job has ended.",
        "Stop the handler; its result is not wanted any more.";
    SecretRefused = "SECRET_REFUSED" => FailedPrecondition, "A secret is not told: the job does not refer to it, or its namespace has none of that name. Which of these is not said.",
        "Write `secret://NAME` as a whole string into the job's JSON payload, a label or its configuration, and give the namespace a value of that name; docs/guide/secrets.md tells how.";
    ApprovalDecided = "APPROVAL_DECIDED" => FailedPrecondition, "The approval is over: approved, rejected, expired, voided, or its job has ended.",
        "Read it to see how it ended; a voided one may have a later round.";
    ApprovalVoted = "APPROVAL_VOTED" => FailedPrecondition, "Whoever wants to delegate a vote has given it already.",
        "Nothing: the vote counts.";
    EventsCompacted = "EVENTS_COMPACTED" => OutOfRange, "The events after this token are no longer kept; the oldest token is named.",
        "Watch from `oldest_token` of the metadata, or with the existing jobs first.";
    StoreFull = "STORE_FULL" => ResourceExhausted, "The store has reached its size limit; nothing was accepted.",
        "Raise `store.max_bytes`, or wait for retention to make room.";
    Overloaded = "OVERLOADED" => ResourceExhausted, "A queue of the server is full; nothing was accepted; try again later.",
        "Repeat after the hint, with a growing wait.";
    QuotaExceeded = "QUOTA_EXCEEDED" => ResourceExhausted, "A quota of the namespace is used up.",
        "Wait for jobs to end, or ask for a higher quota.";
    RateLimited = "RATE_LIMITED" => ResourceExhausted, "The caller sends faster than allowed.",
        "Repeat after the hint.";
    TooManyWatches = "TOO_MANY_WATCHES" => ResourceExhausted, "Too many watches are open.",
        "Close watches that are not needed; one watch can follow many jobs.";
    TooManyStreams = "TOO_MANY_STREAMS" => ResourceExhausted, "Too many connections or streams are open.",
        "Share connections, and close those not needed.";
    ReaderTooSlow = "READER_TOO_SLOW" => ResourceExhausted, "The reader of a stream fell too far behind.",
        "Watch again with the last resume token, and read faster or filter more.";
    DiskFull = "DISK_FULL" => ResourceExhausted, "The disk is full; nothing was accepted.",
        "Make room on the disk of the data directory.";
    TooMany = "TOO_MANY" => ResourceExhausted, "A count limit was reached.",
        "Ask for less at a time; the message names the limit.";
    OutcomeUnknown = "OUTCOME_UNKNOWN" => Unavailable, "The request may or may not have been committed; send it again with the same key.",
        "Repeat with the same `request_id`, `idempotency_key` or `job_id` to learn which.";
    OwnerUnreachable = "OWNER_UNREACHABLE" => Unavailable, "The node that owns this shard cannot be reached.",
        "Repeat after the hint.";
    ShardUnavailable = "SHARD_UNAVAILABLE" => Unavailable, "The shard is being recovered, handed over, or stopped.",
        "Repeat after the hint; if it lasts, look at ListShards.";
    StoreUnavailable = "STORE_UNAVAILABLE" => Unavailable, "The store has failed or cannot be reached; nothing was accepted.",
        "Repeat after the hint; if it lasts, the operator must look at the store.";
    ShuttingDown = "SHUTTING_DOWN" => Unavailable, "The node is draining; connect to another one or try again later.",
        "Repeat elsewhere or later.";
    DataCorruption = "DATA_CORRUPTION" => DataLoss, "Stored bytes failed a check; the shard has stopped.",
        "The operator must run `coretex admin fsck` and restore what is damaged.";
    DeadlineExceeded = "DEADLINE_EXCEEDED" => DeadlineExceeded, "The deadline of the caller passed before anything was done.",
        "Repeat with a longer deadline.";
    CallCancelled = "CALL_CANCELLED" => Cancelled, "The caller went away before anything was done.",
        "Nothing, if it was meant.";
    ServerFault = "SERVER_FAULT" => Unavailable, "A defect of the server; it is logged with the request id.",
        "Repeat with the same keys, which does no harm; report it with the request id if it comes again.";
    CredentialRequired = "CREDENTIAL_REQUIRED" => Unauthenticated, "No credential came with the call.",
        "Send `authorization: Bearer KEY` or `x-api-key: KEY`.";
    Unauthenticated = "CREDENTIAL_INVALID" => Unauthenticated, "The credential is unknown, malformed, revoked or expired.",
        "Use a valid key; which fault it was is in the audit only.";
    PermissionDenied = "PERMISSION_DENIED" => PermissionDenied, "The identity may not do this.",
        "Use an identity that may, or ask for the permission.";
    ApprovalOwnRequest = "APPROVAL_OWN_REQUEST" => PermissionDenied, "Whoever submitted the job may not approve it.",
        "Ask somebody else, or set `requester_may_approve` in the rule.";
    NotAnApprover = "NOT_AN_APPROVER" => PermissionDenied, "The approval is for other people or roles.",
        "Ask one of those it names, or have one of them delegate it.";
    HostNotAllowed = "HOST_NOT_ALLOWED" => PermissionDenied, "The `Host` of the request is not one this server answers for.",
        "Use an address the server listens on, or add the name to the allowed hosts.";
    OriginNotAllowed = "ORIGIN_NOT_ALLOWED" => PermissionDenied, "A browser sent the request from a page of another origin.",
        "Open the page from this server, or allow its origin.";
    ProtocolVersion = "PROTOCOL_VERSION" => FailedPrecondition, "No worker protocol version in common.",
        "Use a library whose range overlaps the range named in the message.";
    ResumeRefused = "RESUME_REFUSED" => PermissionDenied, "A resume token is not that of the session.",
        "Begin a new session with Hello.";
    Replaced = "REPLACED" => Aborted, "A newer session of the same worker id took over.",
        "Stop this worker, or give it an id of its own.";
    UnknownLane = "UNKNOWN_LANE" => Recorded, "A worker frame names a lane that is not registered.",
        "Register the lane in Hello or with UpdateRegistration.";
    UnknownLease = "UNKNOWN_LEASE" => Recorded, "A worker frame names a lease that was never given on this session.",
        "Name leases by the ids of Assign, on the session that got them.";
    CreditDecreased = "CREDIT_DECREASED" => Recorded, "A worker lowered a `granted_total`.",
        "Totals only rise: grant nothing to take less work.";
    FeatureNotNegotiated = "FEATURE_NOT_NEGOTIATED" => Recorded, "A worker frame belongs to a feature that is not in Welcome.",
        "Name the feature in Hello and use it only if Welcome has it too.";
    WorkerFlood = "WORKER_FLOOD" => ResourceExhausted, "A worker sends nonsense or output without end.",
        "Correct the worker; the frames that were ignored are in its log.";
    SchemaMismatch = "SCHEMA_MISMATCH" => Recorded, "The worker was built for another schema than the topic declares.",
        "Deploy a build made for the declared schema.";
    WorkerLost = "WORKER_LOST" => Recorded, "The session of the worker that ran the job expired.",
        "Look at the worker: did it crash, or stop sending heartbeats?";
    Undeliverable = "UNDELIVERABLE" => Recorded, "The job was handed out sixteen times and never started.",
        "Look at the workers of the topic: they take leases and do not start them.";
    Stalled = "STALLED" => Recorded, "A running attempt gave no sign for longer than `stall`.",
        "Report progress more often, or raise `timeouts.stall`.";
    StartToCloseTimeout = "START_TO_CLOSE_TIMEOUT" => Recorded, "An attempt ran longer than `start_to_close`.",
        "Raise `timeouts.start_to_close`, or split the work.";
    ScheduleToStartTimeout = "SCHEDULE_TO_START_TIMEOUT" => Recorded, "The job did not start within `schedule_to_start`.",
        "Add workers, or raise `timeouts.schedule_to_start`.";
    TotalTimeout = "TOTAL_TIMEOUT" => Recorded, "The job did not end within `total`.",
        "Raise `timeouts.total`; the history shows where the time went.";
    PolicyDenied = "POLICY_DENIED" => Recorded, "Policy denied the job.",
        "Look at the decision: its remediations say what would be allowed.";
    ApprovalRejected = "APPROVAL_REJECTED" => Recorded, "Somebody who was asked said no.",
        "The message says who and why.";
    ApprovalExpired = "APPROVAL_EXPIRED" => Recorded, "Nobody who was asked decided in time.",
        "Retry the job, and see that somebody looks at its approval.";
    ResultTooLarge = "RESULT_TOO_LARGE" => Recorded, "The result of the handler is larger than `payload_max`.",
        "Keep the result elsewhere and return a reference.";
    PolicyUnavailable = "POLICY_UNAVAILABLE" => Recorded, "The policy kernel does not answer; it is asked again.",
        "Nothing; if it lasts, the operator must look at the policy kernel.";
    Throttled = "THROTTLED" => Recorded, "A rule of the policy has a rate, and it is not the job's turn yet.",
        "Nothing: the job goes on by itself. `not_before` says about when.";
    HistoryFull = "HISTORY_FULL" => Recorded, "The history of the job reached its limit of 10,000 events.",
        "Look for a worker that takes the job and gives it back for ever.";
    BudgetExceeded = "BUDGET_EXCEEDED" => Recorded, "The attempts of the job used more than its budget, or all of it.",
        "Raise `spec.budget`, or ask whoever keeps the policy for more: the message has what was used.";
    TopicReserved = "TOPIC_RESERVED" => InvalidArgument, "Topics that begin with `sys.` are the server's own: no other worker may serve them.",
        "Serve a topic with another name; docs/guide/steps.md tells what the server does itself.";
    WorkerReserved = "WORKER_RESERVED" => FailedPrecondition, "The worker `house` is the server itself: no other may have the name, and it cannot be drained.",
        "Take another `worker_id`. The server's own work ends when the node drains.";
    StepDisabled = "STEP_DISABLED" => Recorded, "The step of the library is not enabled on this server.",
        "Whoever runs the server may name it in `steps.enabled`.";
    ValidationFailed = "VALIDATION_FAILED" => Recorded, "What a `validate` step was given does not fit its schema; every fault is in `details`.",
        "Correct the data, or the schema of the step.";
    HttpStatus = "HTTP_STATUS" => Recorded, "An `http` step was answered with a status that means failure; the answer is in `details`.",
        "4xx: correct the request. 429, 408 and 5xx are tried again by the retry policy of the job.";
    EgressRefused = "EGRESS_REFUSED" => Recorded, "An `http` step may not call the address: the message says why.",
        "Call a public address over port 80 or 443, or have whoever runs the server allow it with `steps.http.allow`.";
    ScheduleTimePast = "SCHEDULE_TIME_PAST" => Recorded, "A warning: the schedule time is in the past; the job runs now.",
        "Check clock and time zone of the caller if that was not meant.";
    AnonymousVote = "ANONYMOUS_VOTE" => Recorded, "A warning: without a login votes cannot be told apart, and all of them count as one.",
        "Give people keys, so that a quorum means so many people.";
    TopicPaused = "TOPIC_PAUSED" => Recorded, "A warning: the topic is paused; the job waits until it is resumed.",
        "Resume the topic when its jobs should run.";
    RunNotFound = "RUN_NOT_FOUND" => NotFound, "There is no such run in this namespace, or its retention has passed.",
        "Check the id and the namespace; ended runs are kept for the retention of the namespace.";
    RunEnded = "RUN_ENDED" => FailedPrecondition, "The run is over, or about to be; nothing can be changed.",
        "Start another run, or rerun this one from a step.";
    RunConcurrency = "RUN_CONCURRENCY" => ResourceExhausted, "Runs with the same concurrency key hold all places, and the workflow refuses more.",
        "Wait for one of them to end, or let the workflow queue with `on_conflict: queue`.";
    RunTimeout = "RUN_TIMEOUT" => Recorded, "The run took longer than the timeout of its workflow.",
        "Raise `timeout` of the workflow, or look at what its steps waited for.";
    SignalTimeout = "SIGNAL_TIMEOUT" => Recorded, "The signal a step waited for did not come in time.",
        "Raise `timeout` of the `wait_event`, or send the signal earlier: one that comes first is kept.";
    RunInputInvalid = "RUN_INPUT_INVALID" => InvalidArgument, "The input of a run breaks the `input_schema` of its workflow; every violation is listed.",
        "Correct the fields named in `violations`.";
    RunNotEnded = "RUN_NOT_ENDED" => FailedPrecondition, "The run is still going on.",
        "Cancel it or wait for its end, then rerun it.";
    ScheduleNotFound = "SCHEDULE_NOT_FOUND" => NotFound, "There is no such schedule in this namespace.",
        "ListSchedules tells what there is; check the namespace.";
    ScheduleMissed = "SCHEDULE_MISSED" => Recorded, "The time of a schedule was missed, and its catch-up policy does not make up for it.",
        "Nothing, if that is meant; `catch_up` of the schedule says what is made up for, and BackfillSchedule does it by hand.";
    ScheduleOverlap = "SCHEDULE_OVERLAP" => Recorded, "The time of a schedule was skipped: the target of an earlier one still ran.",
        "Give the target less to do or the schedule more time; `overlap` says what else may happen.";
    ScheduleQueueFull = "SCHEDULE_QUEUE_FULL" => Recorded, "The time of a schedule was skipped: 1,000 times wait for their turn already.",
        "Look why its targets take longer than the time between two of them.";
    BackupTargetNotEmpty = "BACKUP_TARGET_NOT_EMPTY" => FailedPrecondition, "The directory for a backup is not empty.",
        "Name an empty directory, or one that does not exist yet.";
    BackupUnsupported = "BACKUP_UNSUPPORTED" => Unimplemented, "This store is backed up with its own tools.",
        "Use the backup tools of the database.";
    BackupFailed = "BACKUP_FAILED" => Unavailable, "The backup could not be written; the store is not harmed.",
        "Look at the message; check space and permissions of the target.";
}

/// One broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field, for example `spec.retry_policy.multiplier`.
    pub field: String,
    pub message: String,
}

/// An answer the caller can act on. Nothing was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub reason: Reason,
    pub message: String,
    pub violations: Vec<Violation>,
    pub retry_after: Option<Span>,
    /// Extra facts: name → value.
    pub facts: Vec<(&'static str, String)>,
}

impl Refusal {
    pub fn new(reason: Reason, message: impl Into<String>) -> Refusal {
        Refusal {
            reason,
            message: message.into(),
            violations: Vec::new(),
            retry_after: None,
            facts: Vec::new(),
        }
    }
    pub fn field(field: impl Into<String>, message: impl Into<String>) -> Refusal {
        Refusal::fields(vec![Violation { field: field.into(), message: message.into() }])
    }
    /// All violations of one request. The message carries the first.
    pub fn fields(violations: Vec<Violation>) -> Refusal {
        let message = match violations.as_slice() {
            [] => "invalid request".to_owned(),
            [only] => format!("{}: {}", only.field, only.message),
            [first, rest @ ..] => format!("{}: {} (and {} more)", first.field, first.message, rest.len()),
        };
        Refusal { violations, ..Refusal::new(Reason::InvalidField, message) }
    }
    pub fn retry_after(mut self, span: Span) -> Refusal {
        self.retry_after = Some(span);
        self
    }
    pub fn fact(mut self, name: &'static str, value: impl Into<String>) -> Refusal {
        self.facts.push((name, value.into()));
        self
    }
    pub fn job_not_found(job_id: &str) -> Refusal {
        Refusal::new(Reason::JobNotFound, format!("job {job_id} not found")).fact("job_id", job_id)
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.reason.name(), self.message)
    }
}

impl std::error::Error for Refusal {}
