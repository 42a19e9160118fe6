//! What happens to a time when the target of an earlier one still runs.

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overlap {
    /// The new one is not started.
    #[default]
    Skip,
    /// The new one waits for the end of the old one.
    Queue,
    /// Both run.
    Allow,
    /// The old one is cancelled, and the new one started at once.
    CancelRunning,
}

/// What to do with a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    Start,
    Skip,
    Wait,
    CancelAndStart,
}

impl Overlap {
    pub fn decide(self, is_running: bool) -> Move {
        match (self, is_running) {
            (_, false) | (Overlap::Allow, true) => Move::Start,
            (Overlap::Skip, true) => Move::Skip,
            (Overlap::Queue, true) => Move::Wait,
            (Overlap::CancelRunning, true) => Move::CancelAndStart,
        }
    }
}
