//! What the model consists of.

use std::collections::BTreeSet;

pub(crate) const WORKERS: usize = 2;
pub(crate) const OWNERS: usize = 2;

/// Where a job stands in the store. A retry goes straight back to waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum JobState {
    Waiting,
    Leased(Lease),
    Succeeded,
    Cancelled,
    Failed,
}

/// A committed hand-out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lease {
    pub serial: u8,
    pub worker: u8,
}

/// A job as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Job {
    pub state: JobState,
    pub serial: u8,
    /// Terminal events written: more than one is the end of the world.
    pub ends: u8,
    /// Cancel was asked for, and its OK is sent with the commit that says so.
    pub is_cancelled: bool,
    /// The serial of the newest lease at that commit.
    pub serial_at_cancel: u8,
}

/// What an owner believes: a copy of the store as of its claim, and what it did since.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    pub epoch: u8,
    pub jobs: Vec<Job>,
    /// A group on its way to the store: the jobs it leaves behind, and what is told once it is committed.
    pub group: Option<Group>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Group {
    pub job: u8,
    pub after: Job,
    pub tell: Option<Frame>,
}

/// Frames on the links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Frame {
    /// Owner → worker: the lease is yours.
    Deliver { job: u8, serial: u8, worker: u8 },
    /// Worker → owner: the result.
    Done { job: u8, serial: u8 },
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// The store: its epoch and rows.
    pub epoch: u8,
    pub jobs: Vec<Job>,
    /// A group was applied under an epoch that is not the newest.
    pub broken_fence: bool,
    pub owners: Vec<Option<Owner>>,
    /// Leases each worker believes it runs.
    pub running: Vec<BTreeSet<(u8, u8)>>,
    /// Frames in flight: lossy and doubling, so a set that frames need not leave.
    pub net: BTreeSet<Frame>,
    /// The last group of an owner that died: it may still arrive, under the epoch it was sent with.
    pub late: Option<(u8, Group)>,
    pub crashes: u8,
    /// The result of a closed lease was applied.
    pub unfenced_result: bool,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// An owner claims the store, whatever another one believes.
    Claim(usize),
    Crash(usize),
    Dispatch {
        owner: usize,
        job: u8,
        worker: u8,
    },
    /// A worker's session is over: the owner closes its lease.
    Expire {
        owner: usize,
        job: u8,
    },
    Cancel {
        owner: usize,
        job: u8,
    },
    Commit(usize),
    /// The group never arrives.
    Lose(usize),
    /// A group of an owner that died arrives after all.
    Late,
    /// A frame arrives and stays on the link (doubling), or leaves it.
    Arrive {
        frame: Frame,
        stays: bool,
        owner: usize,
    },
    Drop(Frame),
    /// A worker finishes what it runs.
    Finish {
        worker: usize,
        job: u8,
        serial: u8,
    },
}

/// A fault planted in the rules, to see that the properties notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    None,
    /// Results are taken without comparing the serial.
    SerialNotChecked,
    /// The store takes groups of any epoch.
    EpochNotChecked,
    /// A cancelled job is leased again after its lease expired.
    CancelForgotten,
}
