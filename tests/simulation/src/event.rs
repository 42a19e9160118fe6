//! What can happen next, in order of time and, within a millisecond, of being planned.

use crate::plan::Plan;
use crate::wire::{Ask, Caller, Down, Said, Up};
use coretex_ports::Outcome;
use std::cmp::Ordering;

/// One thing that will happen.
#[derive(Debug)]
pub(crate) enum Event {
    /// A shard loop has something to do.
    Loop {
        node: usize,
        boot: u32,
        who: usize,
    },
    /// A group arrives at the store.
    Arrive {
        commit: u64,
    },
    /// The store's answer arrives at the loop.
    Answered {
        node: usize,
        boot: u32,
        life: u32,
        who: usize,
        no: u64,
        outcome: Outcome,
    },
    /// A node asks the store for ownership.
    Claim {
        node: usize,
        boot: u32,
    },
    /// An owner looks whether it still is one.
    Beat {
        node: usize,
        boot: u32,
        epoch: u64,
    },
    /// A session may have expired.
    Sessions {
        node: usize,
        boot: u32,
    },
    /// A call goes on after a read.
    Step {
        node: usize,
        boot: u32,
        call: u64,
    },
    /// Something a run asked for is done.
    Task {
        node: usize,
        boot: u32,
        task: u64,
    },
    /// The caller of a call goes away.
    Hang {
        node: usize,
        boot: u32,
        call: u64,
    },
    /// A unary call arrives.
    Call {
        node: usize,
        from: Caller,
        ask: Box<Ask>,
    },
    /// Its answer arrives; `None` is a broken connection.
    Said {
        to: Caller,
        node: usize,
        said: Option<Box<Said>>,
    },
    Up {
        stream: u64,
        frame: Box<Up>,
    },
    Down {
        stream: u64,
        frame: Box<Down>,
    },
    /// One side learns that a stream is gone.
    NodeLost {
        stream: u64,
    },
    WorkerLost {
        stream: u64,
    },
    /// A worker does what it planned.
    Worker {
        worker: usize,
        process: u32,
        act: Act,
    },
    Client {
        client: usize,
        act: Do,
    },
    Boot {
        node: usize,
    },
    Plan(Plan),
    Calm,
    CalmCheck,
}

/// What a worker planned.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    Connect,
    Beat,
    Start(u64),
    Work(u64),
    /// Ask again what could not be answered.
    AskAgain(u64),
    Flush,
    Restart,
}

/// What a client planned.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Do {
    Next,
    /// Send a call again, or for the first time.
    Send(u64),
    /// Nobody answered this try.
    Timeout {
        call: u64,
        attempt: u32,
    },
}

/// An event in the queue.
pub(crate) struct Due {
    pub(crate) at: u64,
    pub(crate) no: u64,
    pub(crate) event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Due) -> bool {
        (self.at, self.no) == (other.at, other.no)
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Due) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    /// Reversed, so that a binary heap gives the earliest.
    fn cmp(&self, other: &Due) -> Ordering {
        (other.at, other.no).cmp(&(self.at, self.no))
    }
}

impl Event {
    /// A small number for the event log.
    pub(crate) fn mark(&self) -> u64 {
        match self {
            Event::Loop { node, who, .. } => 1 | (*node as u64) << 8 | (*who as u64) << 16,
            Event::Arrive { commit } => 2 | commit << 8,
            Event::Answered { node, no, .. } => 3 | (*node as u64) << 8 | no << 16,
            Event::Claim { node, .. } => 4 | (*node as u64) << 8,
            Event::Sessions { node, .. } => 5 | (*node as u64) << 8,
            Event::Step { node, call, .. } => 6 | (*node as u64) << 8 | call << 16,
            Event::Task { node, task, .. } => 21 | (*node as u64) << 8 | task << 16,
            Event::Beat { node, .. } => 20 | (*node as u64) << 8,
            Event::Hang { node, call, .. } => 19 | (*node as u64) << 8 | call << 16,
            Event::Call { node, .. } => 7 | (*node as u64) << 8,
            Event::Said { node, said, .. } => 8 | (*node as u64) << 8 | u64::from(said.is_some()) << 16,
            Event::Up { stream, .. } => 9 | stream << 8,
            Event::Down { stream, .. } => 10 | stream << 8,
            Event::NodeLost { stream } => 11 | stream << 8,
            Event::WorkerLost { stream } => 12 | stream << 8,
            Event::Worker { worker, process, .. } => 13 | (*worker as u64) << 8 | u64::from(*process) << 16,
            Event::Client { client, .. } => 14 | (*client as u64) << 8,
            Event::Boot { node } => 15 | (*node as u64) << 8,
            Event::Plan(_) => 16,
            Event::Calm => 17,
            Event::CalmCheck => 18,
        }
    }
}
