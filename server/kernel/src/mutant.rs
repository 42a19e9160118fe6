//! Planted faults that the simulator must catch. Without the feature `mutants` every check is a constant `false`.

macro_rules! mutants {
    ($($name:ident = $text:literal, $doc:literal;)*) => {
        /// One planted fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Mutant { $(#[doc = $doc] $name,)* }
        impl Mutant {
            pub const ALL: &[Mutant] = &[$(Mutant::$name,)*];
            pub const fn name(self) -> &'static str { match self { $(Mutant::$name => $text,)* } }
            pub const fn meaning(self) -> &'static str { match self { $(Mutant::$name => $doc,)* } }
        }
    };
}

mutants! {
    SkipLeaseCheck = "skip-lease-check", "Results are applied without comparing the lease.";
    EarlySessionExpiry = "early-session-expiry", "Sessions expire at half of the time granted.";
    IgnoreCancelAtDispatch = "ignore-cancel-at-dispatch", "A cancelled retry is dispatched again.";
    ReplyBeforeCommit = "reply-before-commit", "Replies leave before the commit is known.";
    KeyNotWritten = "key-not-written", "The idempotency row is left out of the commit.";
    AttemptsNotCounted = "attempts-not-counted", "Failed attempts never use up the retries.";
    DeadLetterLost = "dead-letter-lost", "The dead-letter row is left out of the commit.";
    SlotReleasedTwice = "slot-released-twice", "A concurrency slot is freed when the lease is made, and again at its end.";
    SkipPolicyRecheck = "skip-policy-recheck", "A changed policy is not asked again before dispatch.";
    TimerLost = "timer-lost", "Retry timers are not set.";
    LostNotCounted = "lost-not-counted", "Lost workers are never counted against a job.";
    RetryMadeTwice = "retry-made-twice", "A retry by hand that comes twice makes its job twice.";
    ParkedForgotten = "parked-forgotten", "Jobs parked behind others that left the queue are not brought back.";
    CancelOfEnded = "cancel-of-ended", "A job that ended in this turn is cancelled all the same.";
    RuleSlotIgnored = "rule-slot-ignored", "`max_concurrent` of a rule is not looked at.";
    RuleSlotKept = "rule-slot-kept", "The slot of a rule is not given back when its lease ends.";
    ThrottleForgotten = "throttle-forgotten", "A throttled job that waited does not take a start of its rate.";
    BudgetNotChecked = "budget-not-checked", "Usage beyond the budget does not end the job.";
    ApprovalNotBound = "approval-not-bound", "A question to people stays open when the policy changes, and its answer counts.";
    VoteCountedTwice = "vote-counted-twice", "The same vote counts once more each time it comes.";
    AskNotFenced = "ask-not-fenced", "Questions under a lease that was closed meanwhile are answered.";
    ReceiptLost = "receipt-lost", "The receipt of an answer is left out of the commit.";
    ReserveKept = "reserve-kept", "What an attempt set aside of a budget is not free again at its end.";
    SpawnMadeTwice = "spawn-made-twice", "The same name makes its children again in each attempt.";
    LoanForgotten = "loan-forgotten", "What children are given does not leave the budget of their parent.";
    LoanKept = "loan-kept", "What a child did not use does not come back to its parent.";
    ChildrenOutlive = "children-outlive", "Children that end with their parent go on without it.";
    SuccessClosesChildren = "success-closes-children", "Children are cancelled although their parent succeeded.";
    DepthNotChecked = "depth-not-checked", "Jobs make jobs without end.";
    BoundNotChecked = "bound-not-checked", "Any number of jobs may end with one.";
    RetentionForgotten = "retention-forgotten", "Topics in use go on with the retention their namespace had.";
    StepEndLost = "step-end-lost", "The end of a step's job is not told to its run.";
    NeedsNotCounted = "needs-not-counted", "A step begins when the first of those it needs is over.";
    UndoForward = "undo-forward", "What was done first is undone first.";
    UndoForgotten = "undo-forgotten", "What steps did is not kept to be undone.";
    BeginsAfterCancel = "begins-after-cancel", "Steps begin in a run that is ending.";
    SignalLost = "signal-lost", "A signal that comes before anybody waits for it is dropped.";
    SignalMissed = "signal-missed", "A signal that comes while another is looked at is not looked at itself.";
    RunPlaceKept = "run-place-kept", "A run that is over keeps the place of its concurrency key.";
    RunPlaceIgnored = "run-place-ignored", "Places of a concurrency key are given to any number of runs.";
    RunQueueForgotten = "run-queue-forgotten", "Runs that wait for a place are not looked at after a restart.";
    WindowIgnored = "window-ignored", "All items of a step begin at once.";
    RunTimerLost = "run-timer-lost", "Times that runs wait for are not set.";
    GroupNotStopped = "group-not-stopped", "A group without an open step is not stopped with its run.";
    StepStoppedTwice = "step-stopped-twice", "A job of a step that ended in this turn is cancelled all the same.";
    LeaseSerialReused = "lease-serial-reused", "A returned lease gives its number to the next one.";
}

impl Mutant {
    pub fn from_name(name: &str) -> Option<Mutant> {
        Mutant::ALL.iter().copied().find(|m| m.name() == name)
    }
}

/// True if `wanted` is planted.
#[inline]
pub(crate) fn planted(active: Option<Mutant>, wanted: Mutant) -> bool {
    cfg!(feature = "mutants") && active == Some(wanted)
}
