//! The whole state × event product, and folds.

use super::*;
use crate::id::SessionId;
use proptest::prelude::*;

fn lease(serial: u32) -> Box<Lease> {
    Box::new(Lease {
        serial,
        id: u64::from(serial),
        session: SessionId(7),
        worker_id: "w".into(),
        lane_id: "default".into(),
    })
}

fn sample(kind: EventKind, serial: u32) -> Event {
    let closed = || Closed { close: Close::Failed, kind: "E".into(), message: "m".into() };
    match kind {
        EventKind::Submitted => Event::Submitted { actor: None },
        EventKind::Admitted => Event::Admitted { place: 1 << 20 },
        EventKind::Deferred => Event::Deferred(Box::new((Time(9), "outage".into()))),
        EventKind::ApprovalRequested => Event::ApprovalRequested,
        EventKind::Approved => Event::Approved { place: 1 << 20, ruling: None },
        EventKind::ApprovalVoided => Event::ApprovalVoided(None),
        EventKind::Rejudged => Event::Rejudged,
        EventKind::Denied => Event::Denied(None),
        EventKind::Dispatched => Event::Dispatched(lease(serial)),
        EventKind::Returned => Event::Returned(Return::NotAcked),
        EventKind::Started => Event::Started,
        EventKind::Released => Event::Released,
        EventKind::Succeeded => Event::Succeeded,
        EventKind::AttemptFailed => Event::AttemptFailed(Box::new((closed(), Time(99)))),
        EventKind::Failed => Event::Failed(Box::new(closed())),
        EventKind::TimedOut => Event::TimedOut { total: false },
        EventKind::RetryDue => Event::RetryDue { place: 2 << 20 },
        EventKind::Expired => Event::Expired,
        EventKind::CancelRequested => {
            Event::CancelRequested(Box::new(Cancel { reason: "r".into(), actor: "a".into(), time: Time(3) }))
        }
        EventKind::Cancelled => Event::Cancelled(None),
        EventKind::Annotated => Event::Annotated(Box::new(Note::LateResult("late".into()))),
    }
}

fn new_job() -> Job {
    let spec = Arc::new(Spec::new("job.echo", Payload::empty()));
    Job::submitted(JobId::Named("a".into()), Namespace::new("default"), spec, 1, Time(1), None)
}

fn in_state(kind: StateKind) -> State {
    match kind {
        StateKind::Pending => State::Pending(None),
        StateKind::AwaitingApproval => State::AwaitingApproval,
        StateKind::Scheduled => State::Scheduled,
        StateKind::Dispatched => State::Dispatched(lease(1)),
        StateKind::Running => State::Running(lease(1)),
        StateKind::Retrying => State::Retrying { due: Time(5) },
        StateKind::Succeeded => State::Succeeded,
        StateKind::Failed => State::Failed,
        StateKind::TimedOut => State::TimedOut,
        StateKind::Cancelled => State::Cancelled,
        StateKind::Denied => State::Denied,
        StateKind::Expired => State::Expired,
    }
}

#[test]
fn every_state_takes_exactly_the_events_of_the_table() {
    let mut legal = 0;
    for from in StateKind::ALL {
        for event in EventKind::ALL {
            let mut job = new_job();
            job.state = in_state(from);
            let before = job.clone();
            let took = job.apply(Entry { seq: 2, time: Time(2), event: sample(*event, 2) });
            match machine::target(from, *event) {
                Some(to) => {
                    legal += 1;
                    assert_eq!(took, Ok(()));
                    assert_eq!(job.state.kind(), to, "{from:?} × {event:?}");
                    assert_eq!(job.revision, before.revision + 1);
                }
                None => {
                    assert_eq!(took, Err(Illegal { from, event: *event }));
                    assert_eq!(job, before, "an illegal event changes nothing");
                }
            }
        }
    }
    assert_eq!(legal, machine::TABLE.len());
}

#[test]
fn terminal_states_take_only_notes() {
    for row in machine::TABLE.iter().filter(|r| r.from.is_terminal()) {
        assert_eq!((row.event, row.to), (EventKind::Annotated, row.from));
    }
}

#[test]
fn every_open_state_has_a_way_out() {
    for state in StateKind::ALL.into_iter().filter(|s| !s.is_terminal()) {
        assert!(machine::TABLE.iter().any(|r| r.from == state && r.to == StateKind::Cancelled), "{state:?}");
        assert!(machine::TABLE.iter().any(|r| r.from == state && r.to == StateKind::TimedOut), "{state:?}");
    }
}

#[test]
fn entries_stay_small() {
    assert!(size_of::<Entry>() <= 40, "{}", size_of::<Entry>());
    assert!(size_of::<Job>() <= 330, "{}", size_of::<Job>());
}

proptest! {
    #[test]
    fn any_sequence_of_inputs_keeps_the_record_equal_to_the_fold(picks in prop::collection::vec(0usize..EventKind::COUNT, 0..60)) {
        let mut job = new_job();
        for (n, pick) in picks.into_iter().enumerate() {
            let serial = job.counters.lease_serial + 1;
            let event = sample(EventKind::ALL[pick], serial);
            let _ = job.apply(Entry { seq: n as u64 + 2, time: Time(n as u64), event });
        }
        prop_assert!(job.is_fold_of_history());
        prop_assert_eq!(job.revision as usize, job.history.len());
    }
}

#[test]
fn who_cancelled_a_job_without_a_lease_is_in_the_line_that_says_so() {
    let wish = Cancel { reason: "enough".into(), actor: "ann".into(), time: Time(3) };
    let mut job = new_job();
    let event = Event::Cancelled(Some(Box::new(wish.clone())));
    job.apply(Entry { seq: 2, time: Time(3), event }).unwrap();
    assert_eq!((job.state.kind(), job.rare().cancel.as_ref()), (StateKind::Cancelled, Some(&wish)));
    assert!(job.is_fold_of_history());
    // As releases before wrote it.
    let mut old = new_job();
    old.apply(Entry { seq: 2, time: Time(3), event: Event::Cancelled(None) }).unwrap();
    assert_eq!((old.state.kind(), old.rare().cancel.as_ref()), (StateKind::Cancelled, None));
}
