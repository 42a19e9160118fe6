//! Where runs and their steps stand.

use serde::{Deserialize, Serialize};

macro_rules! states {
    ($(#[$of:meta])* $name:ident { $($(#[$doc:meta])* $state:ident = $number:literal $word:literal,)* }) => {
        $(#[$of])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[repr(u8)]
        pub enum $name { $($(#[$doc])* #[serde(rename = $word)] $state = $number,)* }
        impl $name {
            pub const ALL: &[$name] = &[$($name::$state,)*];
            pub const fn name(self) -> &'static str { match self { $($name::$state => $word,)* } }
            pub fn from_name(name: &str) -> Option<$name> {
                $name::ALL.iter().copied().find(|state| state.name() == name)
            }
            pub fn from_number(number: u8) -> Option<$name> {
                $name::ALL.iter().copied().find(|state| *state as u8 == number)
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { f.write_str(self.name()) }
        }
    };
}

states! {
    /// Where a run stands.
    RunState {
        /// Other runs hold all places of its concurrency key.
        Pending = 1 "PENDING",
        Running = 2 "RUNNING",
        /// Nothing works: people, a time or a signal are waited for.
        Waiting = 3 "WAITING",
        Succeeded = 4 "SUCCEEDED",
        Failed = 5 "FAILED",
        Cancelled = 6 "CANCELLED",
        TimedOut = 7 "TIMED_OUT",
    }
}

states! {
    /// Where a step stands.
    StepState {
        /// Steps it needs are not over.
        Pending = 1 "PENDING",
        /// It may begin; what it is given is being worked out.
        Ready = 2 "READY",
        Running = 3 "RUNNING",
        /// People, a time or a signal are waited for.
        Waiting = 4 "WAITING",
        Succeeded = 5 "SUCCEEDED",
        Failed = 6 "FAILED",
        /// Its condition did not hold.
        Skipped = 7 "SKIPPED",
        Cancelled = 8 "CANCELLED",
    }
}

/// What a run is busy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// It waits for a place of its concurrency key.
    Queued,
    /// Steps are done.
    Going,
    /// It is to end: what is open is being stopped.
    Closing,
    /// What was done is being undone, the last first.
    Undoing,
    /// The steps of `on_failure` are done.
    AfterFailure,
    Over,
}

// === impl RunState ===

impl RunState {
    pub const fn is_terminal(self) -> bool {
        match self {
            RunState::Succeeded | RunState::Failed | RunState::Cancelled | RunState::TimedOut => true,
            RunState::Pending | RunState::Running | RunState::Waiting => false,
        }
    }
}

// === impl StepState ===

impl StepState {
    pub const fn is_over(self) -> bool {
        match self {
            StepState::Succeeded | StepState::Failed | StepState::Skipped | StepState::Cancelled => true,
            StepState::Pending | StepState::Ready | StepState::Running | StepState::Waiting => false,
        }
    }
}
