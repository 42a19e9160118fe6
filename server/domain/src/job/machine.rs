//! The state machine of a job: table T, as one value. Documents and checks are made from it.

use super::event::EventKind;
use std::fmt::Write as _;

/// Where a job stands; `°` states are terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum StateKind {
    Pending = 1,
    AwaitingApproval = 2,
    Scheduled = 3,
    Dispatched = 4,
    Running = 5,
    Retrying = 6,
    Succeeded = 7,
    Failed = 8,
    TimedOut = 9,
    Cancelled = 10,
    Denied = 11,
    Expired = 12,
}

impl StateKind {
    pub const ALL: [StateKind; 12] = [
        StateKind::Pending,
        StateKind::AwaitingApproval,
        StateKind::Scheduled,
        StateKind::Dispatched,
        StateKind::Running,
        StateKind::Retrying,
        StateKind::Succeeded,
        StateKind::Failed,
        StateKind::TimedOut,
        StateKind::Cancelled,
        StateKind::Denied,
        StateKind::Expired,
    ];

    /// The short name filters, the CLI and metrics use.
    pub const fn name(self) -> &'static str {
        match self {
            StateKind::Pending => "PENDING",
            StateKind::AwaitingApproval => "AWAITING_APPROVAL",
            StateKind::Scheduled => "SCHEDULED",
            StateKind::Dispatched => "DISPATCHED",
            StateKind::Running => "RUNNING",
            StateKind::Retrying => "RETRYING",
            StateKind::Succeeded => "SUCCEEDED",
            StateKind::Failed => "FAILED",
            StateKind::TimedOut => "TIMED_OUT",
            StateKind::Cancelled => "CANCELLED",
            StateKind::Denied => "DENIED",
            StateKind::Expired => "EXPIRED",
        }
    }

    pub fn from_name(name: &str) -> Option<StateKind> {
        StateKind::ALL.into_iter().find(|s| s.name() == name)
    }

    pub fn from_number(number: u32) -> Option<StateKind> {
        StateKind::ALL.into_iter().find(|s| *s as u32 == number)
    }

    pub const fn is_terminal(self) -> bool {
        match self {
            StateKind::Succeeded
            | StateKind::Failed
            | StateKind::TimedOut
            | StateKind::Cancelled
            | StateKind::Denied
            | StateKind::Expired => true,
            StateKind::Pending
            | StateKind::AwaitingApproval
            | StateKind::Scheduled
            | StateKind::Dispatched
            | StateKind::Running
            | StateKind::Retrying => false,
        }
    }

    /// True while a lease is open.
    pub const fn is_leased(self) -> bool {
        matches!(self, StateKind::Dispatched | StateKind::Running)
    }

    /// Gave up, rather than succeeded or was called off.
    pub const fn leaves_dead_letter(self) -> bool {
        matches!(self, StateKind::Failed | StateKind::TimedOut | StateKind::Expired | StateKind::Denied)
    }
}

/// One legal move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    pub from: StateKind,
    pub event: EventKind,
    pub to: StateKind,
    /// When it happens.
    pub when: &'static str,
}

const fn row(from: StateKind, event: EventKind, to: StateKind, when: &'static str) -> Row {
    Row { from, event, to, when }
}

/// Table T, whole. Every persisted transition is one of these rows.
pub const TABLE: &[Row] = {
    use EventKind as E;
    use StateKind as S;
    &[
        row(S::Pending, E::Admitted, S::Scheduled, "policy allows"),
        row(S::Pending, E::Deferred, S::Pending, "policy outage or throttle: asked again later"),
        row(S::Pending, E::ApprovalRequested, S::AwaitingApproval, "policy asks for a human"),
        row(S::Pending, E::Denied, S::Denied, "policy denies"),
        row(S::Pending, E::Expired, S::Expired, "schedule-to-start deadline"),
        row(S::Pending, E::Cancelled, S::Cancelled, "cancelled"),
        row(S::Pending, E::TimedOut, S::TimedOut, "total deadline"),
        row(S::AwaitingApproval, E::Approved, S::Scheduled, "approved"),
        row(S::AwaitingApproval, E::ApprovalVoided, S::Pending, "approved with edits, or the policy changed"),
        row(S::AwaitingApproval, E::Denied, S::Denied, "rejected or expired"),
        row(S::AwaitingApproval, E::Cancelled, S::Cancelled, "cancelled"),
        row(S::AwaitingApproval, E::TimedOut, S::TimedOut, "total deadline"),
        row(S::Scheduled, E::Dispatched, S::Dispatched, "a lease is committed"),
        row(S::Scheduled, E::Rejudged, S::Pending, "the policy version changed since"),
        row(S::Scheduled, E::Expired, S::Expired, "schedule-to-start deadline"),
        row(S::Scheduled, E::Cancelled, S::Cancelled, "cancelled"),
        row(S::Scheduled, E::TimedOut, S::TimedOut, "total deadline"),
        row(S::Dispatched, E::Started, S::Running, "the worker started"),
        row(S::Dispatched, E::Returned, S::Scheduled, "the lease ended unstarted; nothing is spent"),
        row(S::Dispatched, E::Failed, S::Failed, "too many leases never started"),
        row(S::Dispatched, E::CancelRequested, S::Dispatched, "cancel asked; the worker is told"),
        row(S::Dispatched, E::Cancelled, S::Cancelled, "cancel done"),
        row(S::Dispatched, E::TimedOut, S::TimedOut, "total deadline"),
        row(S::Running, E::Succeeded, S::Succeeded, "the worker reports success"),
        row(
            S::Running,
            E::AttemptFailed,
            S::Retrying,
            "the attempt failed, timed out or was lost; tries are left",
        ),
        row(S::Running, E::Failed, S::Failed, "no tries are left, or the failure is final"),
        row(S::Running, E::TimedOut, S::TimedOut, "start-to-close with no tries left, or total deadline"),
        row(S::Running, E::Released, S::Scheduled, "the worker gave the job back"),
        row(S::Running, E::CancelRequested, S::Running, "cancel asked; the worker is told"),
        row(S::Running, E::Cancelled, S::Cancelled, "cancel done"),
        row(S::Retrying, E::RetryDue, S::Scheduled, "the backoff is over"),
        row(S::Retrying, E::Cancelled, S::Cancelled, "cancelled"),
        row(S::Retrying, E::TimedOut, S::TimedOut, "total deadline"),
        row(S::Succeeded, E::Annotated, S::Succeeded, "a note after the end"),
        row(S::Failed, E::Annotated, S::Failed, "a note after the end"),
        row(S::TimedOut, E::Annotated, S::TimedOut, "a note after the end"),
        row(S::Cancelled, E::Annotated, S::Cancelled, "a note after the end, such as a late result"),
        row(S::Denied, E::Annotated, S::Denied, "a note after the end"),
        row(S::Expired, E::Annotated, S::Expired, "a note after the end"),
    ]
};

const WIDTH: usize = EventKind::COUNT;

/// The table unrolled for constant-time look-up: `[from][event] → to`.
static TARGETS: [[Option<StateKind>; WIDTH]; 13] = {
    let mut targets = [[None; WIDTH]; 13];
    let mut n = 0;
    while n < TABLE.len() {
        let row = TABLE[n];
        targets[row.from as usize][row.event as usize] = Some(row.to);
        n += 1;
    }
    targets
};

/// Where `event` leads from `from`, if it is legal there.
pub fn target(from: StateKind, event: EventKind) -> Option<StateKind> {
    TARGETS[from as usize][event as usize]
}

/// The diagram and the table as Markdown; `docs/machines/job.md` is exactly this.
pub fn to_markdown() -> String {
    let mut out = String::from(
        "# The job state machine\n\nGenerated from `coretex_domain::job::machine::TABLE` by `xtask docs`; do not edit.\n\n```mermaid\nstateDiagram-v2\n    [*] --> PENDING\n",
    );
    for row in TABLE.iter().filter(|r| r.from != r.to) {
        let _ = writeln!(out, "    {} --> {}: {}", row.from.name(), row.to.name(), row.event.name());
    }
    for state in StateKind::ALL.iter().filter(|s| s.is_terminal()) {
        let _ = writeln!(out, "    {} --> [*]", state.name());
    }
    out.push_str("```\n\n| from | event | to | when |\n|---|---|---|---|\n");
    for row in TABLE {
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} |",
            row.from.name(),
            row.event.name(),
            row.to.name(),
            row.when
        );
    }
    out
}
