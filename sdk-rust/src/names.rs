//! Closed lists of the contract as enums of this crate.

/// Makes an enum that mirrors one of the contract, with the short names that filters and the command line use.
macro_rules! named {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$doc])* $variant,)+
            /// Not set, or newer than this version of the SDK.
            Unknown,
        }

        impl $name {
            /// Its short name.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                    Self::Unknown => "UNKNOWN",
                }
            }

            /// The value with this short name.
            pub fn parse(name: &str) -> Option<Self> {
                match name {
                    $($text => Some(Self::$variant),)+
                    _ => None,
                }
            }

            pub(crate) fn of(number: i32) -> Self {
                match crate::raw::pb::$name::try_from(number) {
                    $(Ok(crate::raw::pb::$name::$variant) => Self::$variant,)+
                    Ok(_) | Err(_) => Self::Unknown,
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

named! {
    /// What happens to a time of a schedule when the target of an earlier one still runs.
    ScheduleOverlap {
        /// Nothing is started for it.
        Skip = "SKIP",
        /// It waits for the end of the earlier one.
        Queue = "QUEUE",
        /// Both run.
        Allow = "ALLOW",
        /// The earlier one is cancelled.
        CancelRunning = "CANCEL_RUNNING",
    }
}

named! {
    /// What is done about times of a schedule that were missed.
    ScheduleCatchUp {
        /// Nothing.
        Skip = "SKIP",
        /// The newest is made up for.
        One = "ONE",
        /// The newest ones are made up for.
        All = "ALL",
    }
}

named! {
    /// Why a schedule started something.
    ScheduleFireCause {
        /// Its time came.
        Time = "TIME",
        /// Its time was missed.
        CatchUp = "CATCH_UP",
        /// It was triggered by hand.
        Trigger = "TRIGGER",
        /// It was backfilled.
        Backfill = "BACKFILL",
    }
}

named! {
    /// What became of a time of a schedule.
    ScheduleFireOutcome {
        /// It is tried again.
        Pending = "PENDING",
        /// The target was started.
        Started = "STARTED",
        /// Nothing was started, as the schedule wants it.
        Skipped = "SKIPPED",
        /// The start was refused.
        Failed = "FAILED",
    }
}

named! {
    /// Where a job stands.
    JobState {
        /// Accepted and durable, waiting for a verdict.
        Pending = "PENDING",
        /// A human is asked first.
        AwaitingApproval = "AWAITING_APPROVAL",
        /// Admitted: waits for its time, a slot and a worker.
        Scheduled = "SCHEDULED",
        /// Leased to a worker that has not started it.
        Dispatched = "DISPATCHED",
        /// An attempt is under way.
        Running = "RUNNING",
        /// The last attempt failed; waits for its backoff.
        Retrying = "RETRYING",
        /// Terminal: a result was accepted.
        Succeeded = "SUCCEEDED",
        /// Terminal: attempts spent, or a failure that is not retried.
        Failed = "FAILED",
        /// Terminal: a time limit ended it.
        TimedOut = "TIMED_OUT",
        /// Terminal: cancelled by a caller.
        Cancelled = "CANCELLED",
        /// Terminal: policy or an approver said no.
        Denied = "DENIED",
        /// Terminal: not started in time.
        Expired = "EXPIRED",
    }
}

impl JobState {
    /// True for the states that never change.
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Succeeded
            | Self::Failed
            | Self::TimedOut
            | Self::Cancelled
            | Self::Denied
            | Self::Expired => true,
            Self::Pending
            | Self::AwaitingApproval
            | Self::Scheduled
            | Self::Dispatched
            | Self::Running
            | Self::Retrying
            | Self::Unknown => false,
        }
    }
}

named! {
    /// How near to the job a configuration is. Later levels win.
    ConfigLevel {
        /// The whole installation.
        System = "SYSTEM",
        /// The namespace.
        Org = "ORG",
        /// A team.
        Team = "TEAM",
        /// A workflow.
        Workflow = "WORKFLOW",
        /// A step.
        Step = "STEP",
    }
}

named! {
    /// Why a message of a watch of the configuration was sent.
    ConfigWatchKind {
        /// The state as it is.
        Existing = "EXISTING",
        /// The state after a change.
        Changed = "CHANGED",
        /// A sign of life.
        Current = "CURRENT",
    }
}

named! {
    /// What the store had done with a change when the server said yes.
    AckLevel {
        /// In memory only.
        Memory = "MEMORY",
        /// Survives the process, not a power loss.
        Os = "OS",
        /// Survives a power loss.
        Fsync = "FSYNC",
        /// On more than one machine.
        Replicated = "REPLICATED",
        /// May be lost at a failover.
        BestEffort = "BEST_EFFORT",
    }
}

named! {
    /// What a policy said about a job.
    Verdict {
        /// It may run.
        Allow = "ALLOW",
        /// It may not run.
        Deny = "DENY",
        /// A human must approve it.
        RequireApproval = "REQUIRE_APPROVAL",
        /// At the rate of a rule.
        Throttle = "THROTTLE",
        /// It may run under constraints.
        AllowWithConstraints = "ALLOW_WITH_CONSTRAINTS",
    }
}

named! {
    /// What happened to a job.
    JobEventType {
        /// Accepted and durable.
        Submitted = "SUBMITTED",
        /// The verdict lets it run.
        Admitted = "ADMITTED",
        /// The verdict forbids it.
        Denied = "DENIED",
        /// No verdict now.
        Deferred = "DEFERRED",
        /// Leased to a worker.
        Dispatched = "DISPATCHED",
        /// An attempt started.
        Started = "STARTED",
        /// The worker gave a running attempt back.
        Released = "RELEASED",
        /// The lease ended before the start.
        Returned = "RETURNED",
        /// A result was accepted.
        Succeeded = "SUCCEEDED",
        /// An attempt failed.
        Failed = "FAILED",
        /// A time limit ended an attempt, or the job.
        TimedOut = "TIMED_OUT",
        /// Another attempt is due after a backoff.
        RetryScheduled = "RETRY_SCHEDULED",
        /// The backoff is over.
        RetryDue = "RETRY_DUE",
        /// Not started in time.
        Expired = "EXPIRED",
        /// A caller asked to cancel.
        CancelRequested = "CANCEL_REQUESTED",
        /// Cancelled.
        Cancelled = "CANCELLED",
        /// The worker of the running attempt was lost.
        WorkerLost = "WORKER_LOST",
        /// A remark that changes nothing.
        Annotated = "ANNOTATED",
        /// A human is asked.
        ApprovalRequested = "APPROVAL_REQUESTED",
        /// A human said yes.
        Approved = "APPROVED",
        /// A human said no.
        Rejected = "REJECTED",
        /// The policy changed: asked again.
        Rejudged = "REJUDGED",
    }
}

named! {
    /// Where an approval stands.
    ApprovalState {
        /// People are asked.
        Pending = "PENDING",
        /// Enough of them said yes.
        Approved = "APPROVED",
        /// One of them said no.
        Rejected = "REJECTED",
        /// Nobody decided in time.
        Expired = "EXPIRED",
        /// The policies or the input changed: it would be an answer to another question.
        Voided = "VOIDED",
        /// The job ended meanwhile.
        Cancelled = "CANCELLED",
    }
}

named! {
    /// Yes or no.
    ApprovalChoice {
        /// Yes.
        Approve = "APPROVE",
        /// No.
        Reject = "REJECT",
    }
}

named! {
    /// What silence means.
    ApprovalExpiry {
        /// The job is denied.
        Reject = "REJECT",
        /// The job may run.
        Approve = "APPROVE",
    }
}

named! {
    /// What can keep a job where it is.
    JobCauseKind {
        /// It is terminal.
        Ended = "ENDED",
        /// No verdict yet.
        Policy = "POLICY",
        /// A human must approve.
        Approval = "APPROVAL",
        /// Its time has not come.
        ScheduleTime = "SCHEDULE_TIME",
        /// It waits after a failed attempt.
        Backoff = "BACKOFF",
        /// Its topic is paused.
        TopicPaused = "TOPIC_PAUSED",
        /// No connected worker serves its topic.
        NoWorker = "NO_WORKER",
        /// No worker has what it requires.
        NoMatchingWorker = "NO_MATCHING_WORKER",
        /// All matching workers are full.
        WorkersBusy = "WORKERS_BUSY",
        /// Others hold all slots of its concurrency key.
        ConcurrencyKey = "CONCURRENCY_KEY",
        /// The topic's cap is reached.
        MaxRunning = "MAX_RUNNING",
        /// The rate is used up.
        Rate = "RATE",
        /// Others are ahead.
        QueuedBehind = "QUEUED_BEHIND",
        /// Handed to a worker that has not started it.
        Offered = "OFFERED",
        /// A worker is at it.
        Running = "RUNNING",
        /// Waiting for the worker to stop.
        Cancelling = "CANCELLING",
        /// A namespace quota is reached.
        Quota = "QUOTA",
        /// A rule of the policy has a rate, and it is not its turn yet.
        Throttled = "THROTTLED",
        /// Others hold all slots of its rule.
        PolicyConcurrency = "POLICY_CONCURRENCY",
    }
}

named! {
    /// Where a run of a workflow stands.
    RunState {
        /// Other runs hold all places of its concurrency key.
        Pending = "PENDING",
        /// Steps are done, or it is being ended.
        Running = "RUNNING",
        /// People, a time or a signal are waited for.
        Waiting = "WAITING",
        /// Terminal: all steps are over.
        Succeeded = "SUCCEEDED",
        /// Terminal: a step failed.
        Failed = "FAILED",
        /// Terminal: cancelled by a caller, or for a newer run.
        Cancelled = "CANCELLED",
        /// Terminal: it took longer than its timeout.
        TimedOut = "TIMED_OUT",
    }
}

impl RunState {
    /// True for the states that never change.
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::TimedOut => true,
            Self::Pending | Self::Running | Self::Waiting | Self::Unknown => false,
        }
    }
}

named! {
    /// Where a step of a run stands.
    StepState {
        /// Steps it needs are not over.
        Pending = "PENDING",
        /// What it is given is being worked out.
        Ready = "READY",
        /// It is being done.
        Running = "RUNNING",
        /// People, a time or a signal are waited for.
        Waiting = "WAITING",
        /// Terminal: it was done.
        Succeeded = "SUCCEEDED",
        /// Terminal: it failed.
        Failed = "FAILED",
        /// Terminal: its condition did not hold.
        Skipped = "SKIPPED",
        /// Terminal: stopped, or never begun.
        Cancelled = "CANCELLED",
    }
}

named! {
    /// What happened to a run.
    RunEventType {
        /// Accepted and durable.
        RunStarted = "RUN_STARTED",
        /// Its steps may begin.
        RunBegan = "RUN_BEGAN",
        /// A list of steps is begun.
        StepsOpened = "STEPS_OPENED",
        /// A step began.
        StepStarted = "STEP_STARTED",
        /// Jobs of the next items were made.
        ItemsStarted = "ITEMS_STARTED",
        /// An item is over.
        ItemEnded = "ITEM_ENDED",
        /// A step is over.
        StepEnded = "STEP_ENDED",
        /// A signal came.
        SignalReceived = "SIGNAL_RECEIVED",
        /// A step took a signal.
        SignalTaken = "SIGNAL_TAKEN",
        /// The rest of a group is being stopped.
        GroupClosing = "GROUP_CLOSING",
        /// The run is to end.
        RunClosing = "RUN_CLOSING",
        /// A compensation began.
        UndoStarted = "UNDO_STARTED",
        /// A compensation is over.
        UndoEnded = "UNDO_ENDED",
        /// The run is over.
        RunEnded = "RUN_ENDED",
    }
}

named! {
    /// What can keep a run where it is.
    RunCauseKind {
        /// It is over.
        Ended = "ENDED",
        /// Other runs hold all places of its concurrency key.
        Queued = "QUEUED",
        /// It is to end.
        Ending = "ENDING",
        /// A compensation runs.
        Undoing = "UNDOING",
        /// A step waits for a time.
        Timer = "TIMER",
        /// A step waits for a signal.
        Signal = "SIGNAL",
        /// A step has items left.
        Items = "ITEMS",
        /// A step is being done.
        Step = "STEP",
        /// What a step is given is being worked out.
        Evaluating = "EVALUATING",
        /// The job of a step waits.
        Job = "JOB",
        /// Its steps go on.
        Going = "GOING",
    }
}

named! {
    /// What a message of a watch tells.
    JobWatchKind {
        /// The job was there when the watch began.
        Existing = "EXISTING",
        /// The job was submitted.
        Created = "CREATED",
        /// The job changed.
        Updated = "UPDATED",
        /// The job became terminal.
        Ended = "ENDED",
        /// No job: everything up to the token was sent.
        Current = "CURRENT",
    }
}

named! {
    /// Whether a worker is there.
    WorkerState {
        /// It gets work.
        Connected = "CONNECTED",
        /// Its stream is down and its session lives on.
        Disconnected = "DISCONNECTED",
        /// It is leaving.
        Draining = "DRAINING",
        /// Its session is over.
        Gone = "GONE",
    }
}

named! {
    /// Whether a shard serves.
    ShardState {
        /// Its owner serves it.
        Serving = "SERVING",
        /// Its owner is reading it.
        Recovering = "RECOVERING",
        /// Nobody owns it at the moment.
        Unowned = "UNOWNED",
        /// It was stopped.
        Stopped = "STOPPED",
    }
}

named! {
    /// Whether a node takes part.
    NodeState {
        /// It serves.
        Serving = "SERVING",
        /// It is leaving.
        Draining = "DRAINING",
        /// It may be stopped.
        Drained = "DRAINED",
    }
}

named! {
    /// How far a redrive is.
    RedrivePhase {
        /// The answer to a preview.
        Preview = "PREVIEW",
        /// Dead letters are being retried.
        Retrying = "RETRYING",
        /// The jobs of a stage are waited for.
        Waiting = "WAITING",
        /// Over: everything asked for was retried.
        Done = "DONE",
        /// Over before the end.
        Stopped = "STOPPED",
    }
}

named! {
    /// Why a redrive stopped before its end.
    RedriveStopReason {
        /// A retried job failed as before.
        Repeated = "REPEATED",
        /// A job of an early stage of a canary did not succeed.
        CanaryFailed = "CANARY_FAILED",
    }
}

/// How much of a resource is returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum View {
    /// Id, state and create time.
    Ref,
    /// Everything but payloads.
    Basic,
    /// Everything.
    Full,
}

impl View {
    /// The number on the wire; left out means the default of the method.
    pub(crate) fn number(view: Option<Self>) -> i32 {
        use crate::raw::pb;
        let view = match view {
            Some(Self::Ref) => pb::View::Ref,
            Some(Self::Basic) => pb::View::Basic,
            Some(Self::Full) => pb::View::Full,
            None => pb::View::Unspecified,
        };
        view.into()
    }
}
