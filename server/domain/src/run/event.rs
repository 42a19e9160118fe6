//! What happens to a run. Its record is the fold of these, and everything that decided something is in them.

use super::state::{RunState, StepState};
use crate::time::Time;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A step in one of the places where it is done: the list it is in, as opened in this run, and its place there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct At {
    pub scope: u32,
    pub place: u32,
}

/// One line of the history of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// From 1, without a gap.
    pub seq: u64,
    pub time: Time,
    pub event: Event,
}

/// What a step is while it is not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// A job.
    Job,
    /// A question to people: a job as well, that no worker does.
    Approval,
    /// A job for each item.
    Items { count: u32 },
    /// A list of steps.
    Group,
    /// A list of steps for each item.
    Groups { count: u32 },
    /// A time.
    Timer { due: Time },
    /// A signal; until a time, if there is one.
    Signal { due: Option<Time> },
}

/// Why something did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// The step, as `<step>[:index]`; empty where it is about the run.
    #[serde(default)]
    pub step: Arc<str>,
    /// Type of the failure, for example `TimeoutError`.
    pub kind: Arc<str>,
    pub message: Arc<str>,
}

/// How a step, an item or an undoing ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub state: StepState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Trouble>,
    /// Attempts of its job.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempts: u32,
    /// Where it is not the result of a job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// It is undone when the run does not succeed.
    #[serde(default, skip_serializing_if = "is_false")]
    pub is_undoable: bool,
}

/// A signal as it came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// A repeat of it has the same; empty: none was given.
    #[serde(default)]
    pub id: Arc<str>,
    pub name: Arc<str>,
    /// JSON.
    pub data: Arc<str>,
    #[serde(default)]
    pub actor: Arc<str>,
}

/// A list of steps that is begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// Which list of the workflow.
    pub list: u32,
    /// The group it belongs to; none: the steps of the workflow itself, or those of `on_failure`.
    pub owner: Option<At>,
    /// The item it is done for.
    pub index: Option<u32>,
    /// Its steps.
    pub size: u32,
}

/// Why a run is to end before its steps are over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    /// How it is to end.
    pub state: RunState,
    pub error: Trouble,
    /// Who wanted it; empty: nobody.
    #[serde(default)]
    pub actor: Arc<str>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// It was asked for, by somebody.
    Made {
        actor: Arc<str>,
    },
    /// It has a place of its concurrency key, where it has one.
    Began,
    Opened(Opening),
    Started {
        at: At,
        work: Work,
    },
    /// Jobs of the next items were made.
    ItemsStarted {
        at: At,
        count: u32,
    },
    ItemEnded {
        at: At,
        index: u32,
        outcome: Outcome,
    },
    Ended {
        at: At,
        outcome: Outcome,
    },
    Signalled(Signal),
    /// The step got the signal with this number in the history.
    Heard {
        at: At,
        signal: u64,
    },
    /// A step of a group failed: the rest of the group is being stopped.
    GroupClosing {
        scope: u32,
        error: Trouble,
    },
    Closing(Closing),
    UndoStarted {
        at: At,
        index: Option<u32>,
    },
    UndoEnded {
        at: At,
        index: Option<u32>,
        outcome: Outcome,
    },
    Over {
        state: RunState,
        #[serde(default)]
        error: Option<Trouble>,
        #[serde(default)]
        output: Option<Value>,
    },
}

/// A JSON text of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// Short: here it is.
    Here(Arc<str>),
    /// Long, of so many bytes: a part of the run, under its name.
    Apart(u32),
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

fn is_false(is: &bool) -> bool {
    !is
}

// === impl Outcome ===

impl Outcome {
    pub fn new(state: StepState) -> Outcome {
        Outcome { state, error: None, attempts: 0, output: None, is_undoable: false }
    }

    pub fn failed(error: Trouble) -> Outcome {
        Outcome { error: Some(error), ..Outcome::new(StepState::Failed) }
    }
}

// === impl Event ===

impl Event {
    pub const fn name(&self) -> &'static str {
        match self {
            Event::Made { .. } => "RUN_STARTED",
            Event::Began => "RUN_BEGAN",
            Event::Opened(_) => "STEPS_OPENED",
            Event::Started { .. } => "STEP_STARTED",
            Event::ItemsStarted { .. } => "ITEMS_STARTED",
            Event::ItemEnded { .. } => "ITEM_ENDED",
            Event::Ended { .. } => "STEP_ENDED",
            Event::Signalled(_) => "SIGNAL_RECEIVED",
            Event::Heard { .. } => "SIGNAL_TAKEN",
            Event::GroupClosing { .. } => "GROUP_CLOSING",
            Event::Closing(_) => "RUN_CLOSING",
            Event::UndoStarted { .. } => "UNDO_STARTED",
            Event::UndoEnded { .. } => "UNDO_ENDED",
            Event::Over { .. } => "RUN_ENDED",
        }
    }

    /// The step it is about.
    pub const fn at(&self) -> Option<At> {
        match self {
            Event::Started { at, .. }
            | Event::ItemsStarted { at, .. }
            | Event::ItemEnded { at, .. }
            | Event::Ended { at, .. }
            | Event::Heard { at, .. }
            | Event::UndoStarted { at, .. }
            | Event::UndoEnded { at, .. } => Some(*at),
            Event::Opened(opening) => opening.owner,
            Event::Made { .. }
            | Event::Began
            | Event::Signalled(_)
            | Event::GroupClosing { .. }
            | Event::Closing(_)
            | Event::Over { .. } => None,
        }
    }
}
