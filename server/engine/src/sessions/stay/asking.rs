//! Which questions of a session are on their way, and how many a lease may ask.

use super::{Holding, Stay};
use coretex_domain::limits::ASKS_PER_SECOND;
use coretex_domain::{Span, Time};

/// Questions of one session on their way at a time.
const ASKS_MAX: usize = 1_024;
const SECOND: Span = Span::secs(1);

/// What becomes of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asking {
    New,
    /// It is on its way: its answer goes to whichever stream is there then.
    UnderWay,
    NotHeld,
    /// Too many of this lease in a second, or of the session at a time; again after this.
    TooMany(Span),
}

/// Questions of one lease in the second that began then.
#[derive(Clone, Copy, Default)]
pub(super) struct Asked {
    since: Time,
    count: u32,
}

impl Holding {
    /// The wait until another question may come, if it may not come now.
    fn ask(&mut self, mono: Time) -> Option<Span> {
        let asked = &mut self.asked;
        if asked.count == 0 || mono.since(asked.since) >= SECOND {
            *asked = Asked { since: mono, count: 0 };
        }
        if asked.count >= ASKS_PER_SECOND {
            return Some((asked.since + SECOND).since(mono));
        }
        asked.count += 1;
        None
    }
}

impl Stay {
    /// Notes that a question came.
    pub(crate) fn ask_begins(&self, lease_id: u64, ask_id: u64, mono: Time) -> Asking {
        let mut inner = self.inner();
        if inner.asking.contains(&(lease_id, ask_id)) {
            return Asking::UnderWay;
        }
        let is_full = inner.asking.len() >= ASKS_MAX;
        let Some(held) = inner.leases.get_mut(&lease_id) else { return Asking::NotHeld };
        if let Some(wait) = held.ask(mono) {
            return Asking::TooMany(wait);
        }
        if is_full {
            return Asking::TooMany(SECOND);
        }
        // Only a handler asks.
        held.is_started = true;
        inner.asking.insert((lease_id, ask_id));
        Asking::New
    }

    /// Notes that a secret was refused to a lease; true the first time.
    pub(crate) fn first_refusal(&self, lease_id: u64) -> bool {
        let mut inner = self.inner();
        inner.leases.get_mut(&lease_id).is_some_and(|held| !std::mem::replace(&mut held.was_refused, true))
    }

    /// The question is decided.
    pub(crate) fn ask_done(&self, lease_id: u64, ask_id: u64) {
        self.inner().asking.remove(&(lease_id, ask_id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_asks_so_often_in_a_second_and_again_in_the_next() {
        let mut held = Holding::default();
        assert!((0..ASKS_PER_SECOND).all(|_| held.ask(Time(5)).is_none()));
        assert_eq!(held.ask(Time(905)), Some(Span(100)));
        assert_eq!(held.ask(Time(1_005)), None);
    }
}
