//! What may happen when, and what must always hold.

use crate::state::{Action, Flaw, Frame, Group, Job, JobState, Lease, OWNERS, Owner, State, WORKERS};
use stateright::{Model, Property};
use std::collections::BTreeSet;

/// The bounds of the model.
#[derive(Clone, Debug)]
pub struct Rules {
    pub jobs: u8,
    pub crashes_max: u8,
    pub claims_max: u8,
    pub serial_max: u8,
    /// Frames on the links at a time.
    pub net_max: usize,
    pub flaw: Flaw,
}

impl Rules {
    /// One job, more of everything that can go wrong with it.
    pub fn new() -> Rules {
        Rules { jobs: 1, crashes_max: 2, claims_max: 3, serial_max: 2, net_max: 2, flaw: Flaw::None }
    }

    /// Two jobs that share workers and owners. More of anything no longer fits a small machine.
    pub fn two_jobs() -> Rules {
        Rules { jobs: 2, crashes_max: 2, claims_max: 3, serial_max: 1, net_max: 2, ..Rules::new() }
    }
}

impl Default for Rules {
    fn default() -> Rules {
        Rules::new()
    }
}

const NEW: Job =
    Job { state: JobState::Waiting, serial: 0, ends: 0, is_cancelled: false, serial_at_cancel: 0 };

impl Model for Rules {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            epoch: 0,
            jobs: vec![NEW; usize::from(self.jobs)],
            broken_fence: false,
            owners: vec![None; OWNERS],
            running: vec![BTreeSet::new(); WORKERS],
            net: BTreeSet::new(),
            late: None,
            crashes: 0,
            unfenced_result: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for owner in 0..OWNERS {
            let Some(view) = &state.owners[owner] else {
                if state.epoch < self.claims_max {
                    actions.push(Action::Claim(owner));
                }
                continue;
            };
            if state.crashes < self.crashes_max {
                actions.push(Action::Crash(owner));
            }
            match view.group {
                Some(_) => {
                    actions.push(Action::Commit(owner));
                    actions.push(Action::Lose(owner));
                }
                None => self.decisions(owner, view, actions),
            }
        }
        if state.late.is_some() {
            actions.push(Action::Late);
        }
        for (worker, running) in state.running.iter().enumerate() {
            for (job, serial) in running {
                actions.push(Action::Finish { worker, job: *job, serial: *serial });
            }
        }
        for frame in &state.net {
            actions.push(Action::Drop(*frame));
            match frame {
                Frame::Deliver { .. } => {
                    for stays in [false, true] {
                        actions.push(Action::Arrive { frame: *frame, stays, owner: 0 });
                    }
                }
                Frame::Done { .. } => {
                    for owner in (0..OWNERS).filter(|o| can_decide(state, *o)) {
                        for stays in [false, true] {
                            actions.push(Action::Arrive { frame: *frame, stays, owner });
                        }
                    }
                }
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        match action {
            Action::Claim(owner) => {
                next.epoch += 1;
                next.owners[owner] = Some(Owner { epoch: next.epoch, jobs: next.jobs.clone(), group: None });
            }
            Action::Crash(owner) => {
                let died = next.owners[owner].take()?;
                next.crashes += 1;
                next.late = died.group.map(|group| (died.epoch, group)).or(next.late);
            }
            Action::Late => {
                let (epoch, group) = next.late.take()?;
                if epoch == next.epoch || self.flaw == Flaw::EpochNotChecked {
                    next.broken_fence |= epoch != next.epoch;
                    next.jobs[usize::from(group.job)] = group.after;
                }
            }
            Action::Dispatch { owner, job, worker } => {
                let view = next.owners[owner].as_mut()?;
                let mut after = view.jobs[usize::from(job)];
                after.serial += 1;
                let serial = after.serial;
                after.state = JobState::Leased(Lease { serial, worker });
                view.group = Some(Group { job, after, tell: Some(Frame::Deliver { job, serial, worker }) });
            }
            Action::Expire { owner, job } => self.expire(next.owners[owner].as_mut()?, job),
            Action::Cancel { owner, job } => cancel(next.owners[owner].as_mut()?, job),
            Action::Commit(owner) => self.commit(&mut next, owner)?,
            // The owner's memory is not to be trusted any more: it starts over.
            Action::Lose(owner) => next.owners[owner] = None,
            Action::Arrive { frame, stays, owner } => {
                if !stays {
                    next.net.remove(&frame);
                }
                self.arrive(&mut next, frame, owner)?;
            }
            Action::Drop(frame) => drop(next.net.remove(&frame)),
            Action::Finish { worker, job, serial } => {
                next.running[worker].remove(&(job, serial));
                self.send(&mut next, Frame::Done { job, serial })?;
            }
        }
        (next != *last).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Rules>> {
        vec![
            Property::always("I-02 at most one terminal", |_, s: &State| s.jobs.iter().all(|j| j.ends <= 1)),
            Property::always("I-08 serials of open leases are the newest", |_, s: &State| {
                s.jobs.iter().all(|j| match j.state {
                    JobState::Leased(lease) => lease.serial == j.serial,
                    JobState::Waiting | JobState::Succeeded | JobState::Cancelled | JobState::Failed => true,
                })
            }),
            Property::always("I-09 results are fenced", |_, s: &State| !s.unfenced_result),
            Property::always("I-13 no lease after a cancel", |_, s: &State| {
                s.jobs.iter().all(|j| !j.is_cancelled || j.serial <= j.serial_at_cancel)
            }),
            Property::always("I-13 a cancelled job ends so or was done before", |_, s: &State| {
                s.jobs
                    .iter()
                    .all(|j| !j.is_cancelled || matches!(j.state, JobState::Leased(_) | JobState::Cancelled))
            }),
            Property::always("I-18 writes are fenced", |_, s: &State| !s.broken_fence),
            Property::always("I-19 one holder of an unfinished lease", |_, s: &State| {
                s.jobs.iter().enumerate().all(|(n, _)| holders(s, n) <= 1)
            }),
            Property::sometimes("a job completes", |_, s: &State| {
                s.jobs.iter().any(|j| j.state == JobState::Succeeded)
            }),
            Property::sometimes("a running job is cancelled", |_, s: &State| {
                s.jobs.iter().any(|j| j.state == JobState::Cancelled && j.serial > 0)
            }),
            Property::sometimes("a take-over happens", |_, s: &State| {
                s.owners.iter().flatten().count() == OWNERS
            }),
            Property::sometimes("a stale result arrives", |_, s: &State| {
                s.net.iter().any(|f| is_stale(s, f))
            }),
            Property::sometimes("a late group is fenced", |_, s: &State| {
                s.late.as_ref().is_some_and(|(epoch, _)| *epoch != s.epoch)
            }),
            Property::sometimes("all jobs end", |_, s: &State| s.jobs.iter().all(|j| j.ends == 1)),
        ]
    }
}

/// Workers that hold the very lease the store has open.
fn holders(state: &State, job: usize) -> usize {
    let JobState::Leased(lease) = state.jobs[job].state else { return 0 };
    let key = (job as u8, lease.serial);
    state.running.iter().filter(|running| running.contains(&key)).count()
}

/// A result of a lease that is not open any more.
fn is_stale(state: &State, frame: &Frame) -> bool {
    let Frame::Done { job, serial } = frame else { return false };
    !matches!(state.jobs[usize::from(*job)].state, JobState::Leased(lease) if lease.serial == *serial)
}

fn can_decide(state: &State, owner: usize) -> bool {
    state.owners[owner].as_ref().is_some_and(|view| view.group.is_none())
}

fn end(job: &mut Job, as_what: JobState) {
    job.state = as_what;
    job.ends += 1;
}

/// A wish to stop: at once without a lease, else a flag that whatever ends the lease must heed.
fn cancel(view: &mut Owner, job: u8) {
    let mut after = view.jobs[usize::from(job)];
    after.is_cancelled = true;
    after.serial_at_cancel = after.serial;
    if after.state == JobState::Waiting {
        end(&mut after, JobState::Cancelled);
    }
    view.group = Some(Group { job, after, tell: None });
}

impl Rules {
    /// What an owner may decide, by what it believes.
    fn decisions(&self, owner: usize, view: &Owner, actions: &mut Vec<Action>) {
        for (n, job) in view.jobs.iter().enumerate() {
            let number = n as u8;
            match job.state {
                JobState::Waiting => {
                    // The first job is the one everything happens to; the others only get in its way.
                    let (workers, serial_max) =
                        if n == 0 { (0..WORKERS, self.serial_max) } else { (1..WORKERS, 1) };
                    for worker in workers.filter(|_| job.serial < serial_max) {
                        actions.push(Action::Dispatch { owner, job: number, worker: worker as u8 });
                    }
                }
                JobState::Leased(_) => actions.push(Action::Expire { owner, job: number }),
                JobState::Succeeded | JobState::Cancelled | JobState::Failed => {}
            }
            let is_open = matches!(job.state, JobState::Waiting | JobState::Leased(_));
            // One job is enough to cancel; the other shows that it is left alone.
            if n == 0 && is_open && !job.is_cancelled {
                actions.push(Action::Cancel { owner, job: number });
            }
        }
    }

    fn expire(&self, view: &mut Owner, job: u8) {
        let mut after = view.jobs[usize::from(job)];
        if after.is_cancelled && self.flaw != Flaw::CancelForgotten {
            end(&mut after, JobState::Cancelled);
        } else if after.serial >= self.serial_max {
            end(&mut after, JobState::Failed);
        } else {
            after.state = JobState::Waiting;
        }
        view.group = Some(Group { job, after, tell: None });
    }

    /// A group arrives at the store: taken if its epoch is the newest, and then told.
    fn commit(&self, next: &mut State, owner: usize) -> Option<()> {
        let view = next.owners[owner].as_mut()?;
        let group = view.group.take()?;
        if view.epoch != next.epoch && self.flaw != Flaw::EpochNotChecked {
            // Refused: the old owner learns that it is one.
            next.owners[owner] = None;
            return Some(());
        }
        next.broken_fence |= view.epoch != next.epoch;
        view.jobs[usize::from(group.job)] = group.after;
        next.jobs[usize::from(group.job)] = group.after;
        match group.tell {
            Some(frame) => self.send(next, frame),
            None => Some(()),
        }
    }

    fn arrive(&self, next: &mut State, frame: Frame, owner: usize) -> Option<()> {
        match frame {
            Frame::Deliver { job, serial, worker } => {
                next.running[usize::from(worker)].insert((job, serial));
                Some(())
            }
            Frame::Done { job, serial } => self.reported(next, owner, job, serial),
        }
    }

    /// A worker reports a result: it counts if and only if its lease is the open one.
    fn reported(&self, next: &mut State, owner: usize, job: u8, serial: u8) -> Option<()> {
        let view = next.owners[owner].as_mut()?;
        let mut after = view.jobs[usize::from(job)];
        let JobState::Leased(lease) = after.state else { return Some(()) };
        if lease.serial != serial && self.flaw != Flaw::SerialNotChecked {
            return Some(());
        }
        next.unfenced_result |= lease.serial != serial;
        let as_what = if after.is_cancelled { JobState::Cancelled } else { JobState::Succeeded };
        end(&mut after, as_what);
        view.group = Some(Group { job, after, tell: None });
        Some(())
    }

    /// Puts a frame on the link; a full link loses nothing here, it only is not explored further.
    fn send(&self, next: &mut State, frame: Frame) -> Option<()> {
        next.net.insert(frame);
        (next.net.len() <= self.net_max).then_some(())
    }
}
