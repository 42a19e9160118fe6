//! Schedules as they are kept: what was applied, and how far it has come.

use crate::names::{fire_name, seed, token_name};
use crate::overlap::Overlap;
use crate::plan::CatchUp;
use crate::rule::Rule;
use coretex_domain::job::Spec;
use coretex_domain::{Namespace, Payload, Time};
use std::sync::Arc;

/// A schedule as it was applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    pub namespace: Namespace,
    pub id: Arc<str>,
    pub definition: Definition,
    /// Who applied it last: what it starts is started in that name. Empty: nobody was asked to log in.
    pub creator: Arc<str>,
    /// Rises by one with each change of the definition.
    pub revision: u64,
    pub create_time: Time,
    pub update_time: Time,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    pub description: Arc<str>,
    pub rule: Rule,
    pub catch_up: CatchUp,
    pub overlap: Overlap,
    pub target: Target,
}

/// What is started.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    Job(Arc<Spec>),
    Run {
        workflow: Arc<str>,
        /// The newest one if left out.
        version: Option<u32>,
        input: Payload,
        labels: Vec<(Arc<str>, Arc<str>)>,
    },
}

/// How far a schedule has come.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// All nominal times up to here have been planned or skipped.
    pub cursor: Time,
    pub pause: Option<Pause>,
    /// Times whose turn it is, oldest first: committed before anything is started, so that a restart goes on with them.
    pub pending: Vec<Pending>,
    /// The first one is under way.
    pub backfills: Vec<Backfill>,
    /// Targets that may not have ended, oldest first.
    pub running: Vec<Arc<str>>,
    pub started: u64,
    pub skipped: u64,
    pub failed: u64,
    pub last: Option<Fire>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    pub reason: Arc<str>,
    pub actor: Arc<str>,
    pub time: Time,
}

/// A start that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    pub nominal: Time,
    pub cause: Cause,
    /// Which call asked for it by hand; zero for all others.
    pub token: u128,
    /// Of a backfill: one after the other.
    pub is_in_line: bool,
}

/// Why something was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Its time came.
    Time,
    /// Its time was missed.
    CatchUp,
    /// Somebody asked for it now.
    Trigger,
    /// Somebody asked for its time.
    Backfill,
}

/// Times that were asked for together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backfill {
    pub from: Time,
    /// Without this time itself.
    pub to: Time,
    /// Everything before it has been put in line.
    pub next: Time,
    /// One after the other, rather than all at once.
    pub is_in_line: bool,
    pub actor: Arc<str>,
    pub create_time: Time,
}

/// What became of one nominal time, or of a start by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fire {
    pub schedule_id: Arc<str>,
    pub nominal: Time,
    pub cause: Cause,
    pub token: u128,
    pub outcome: Outcome,
    /// When it was handled.
    pub time: Time,
    /// Id of the job or run; empty where nothing was made.
    pub target_id: Arc<str>,
    /// Stable reason where nothing was started; empty otherwise.
    pub reason: Arc<str>,
    pub message: Arc<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is tried again, or waits for its turn.
    Pending,
    Started,
    Skipped,
    Failed,
}

// === impl Schedule ===

impl Schedule {
    /// What its jitter is drawn from.
    pub fn seed(&self) -> u64 {
        seed(&self.namespace, &self.id)
    }
}

// === impl Pending ===

impl Pending {
    /// What happens when the target of an earlier one still runs.
    pub fn overlap(&self, of_schedule: Overlap) -> Overlap {
        match (self.cause, self.is_in_line) {
            (Cause::Time | Cause::CatchUp, _) => of_schedule,
            (Cause::Backfill, true) => Overlap::Queue,
            (Cause::Backfill, false) | (Cause::Trigger, _) => Overlap::Allow,
        }
    }
}

// === impl Fire ===

impl Fire {
    /// The name of its record.
    pub fn name(&self) -> Arc<str> {
        match self.token {
            0 => fire_name(&self.schedule_id, self.nominal),
            token => token_name(&self.schedule_id, token),
        }
    }
}

// === numbers ===

macro_rules! named {
    ($($name:ident { $($variant:ident = $number:literal,)+ })+) => {
        $(impl $name {
            /// The number it is stored under.
            pub fn number(self) -> u32 {
                match self { $($name::$variant => $number,)+ }
            }
            pub fn from_number(number: u32) -> Option<$name> {
                match number { $($number => Some($name::$variant),)+ _ => None }
            }
        })+
    };
}

named! {
    Cause { Time = 1, CatchUp = 2, Trigger = 3, Backfill = 4, }
    Outcome { Pending = 1, Started = 2, Skipped = 3, Failed = 4, }
    Overlap { Skip = 1, Queue = 2, Allow = 3, CancelRunning = 4, }
}
