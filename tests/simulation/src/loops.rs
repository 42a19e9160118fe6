//! The shard loop: decide a group, send it to the store, act when it is committed. The engine's, step by step.

use crate::event::Event;
use crate::hands::Task;
use crate::node::{Committing, Got, Mail, Pending, Phase, ReplyTo};
use crate::planted::Shell;
use crate::store::SimStore;
use crate::wire::{Refused, Why};
use crate::world::World;
use coretex_domain::{Job, JobKey, Time};
use coretex_kernel::input::{Effect, Input, Reply, Write as KernelWrite};
use coretex_kernel::mutant::Mutant;
use coretex_kernel::{Turn, decide, dispatch};
use coretex_ports::{Group, KeyRow, Outcome, Write};
use std::sync::Arc;

/// Mails decided in one group.
const GROUP_MAX: usize = 64;

/// The longest sleep of a loop that has a timer to watch.
const SLEEP_MAX_MS: u64 = 2_000;

/// Leases on their way to one session.
type Delivery = (coretex_domain::SessionId, Vec<(u64, Arc<Job>)>);

impl World {
    /// Makes a loop look for work soon.
    pub(crate) fn wake(&mut self, node: usize, who: usize) {
        let (boot, now) = (self.nodes[node].boot, self.now);
        let Some(shard_loop) = self.nodes[node].loops.get_mut(who).filter(|l| now < l.wake_at) else {
            return;
        };
        shard_loop.wake_at = now;
        self.push(now, Event::Loop { node, boot, who });
    }

    pub(crate) fn post(&mut self, node: usize, who: usize, mail: Mail) {
        self.nodes[node].mails[who].push_back(mail);
        self.wake(node, who);
    }

    pub(crate) fn on_loop(&mut self, node: usize, who: usize) {
        if !self.nodes[node].is_up() {
            return;
        }
        let now = self.clock_of(node);
        let depth = self.opt.depth;
        let Some(shard_loop) = self.nodes[node].loops.get_mut(who) else { return };
        for planned in [&mut shard_loop.wake_at, &mut shard_loop.alarm_at] {
            if *planned <= self.now {
                *planned = u64::MAX;
            }
        }
        if shard_loop.inflight.len() >= depth {
            return;
        }
        let is_due = shard_loop.view.next_due().is_some_and(|at| at <= now.wall)
            || shard_loop.view.next_offer_deadline().is_some_and(|at| at <= now.mono);
        let has_work = is_due || shard_loop.again || !shard_loop.nudges.is_empty();
        if has_work || !self.nodes[node].mails[who].is_empty() {
            self.turn(node, who, is_due);
        }
        self.set_alarm(node, who);
    }

    fn set_alarm(&mut self, node: usize, who: usize) {
        let now = self.clock_of(node);
        let depth = self.opt.depth;
        let true_now = self.now;
        let Some(shard_loop) = self.nodes[node].loops.get(who) else { return };
        if shard_loop.inflight.len() >= depth {
            return;
        }
        if shard_loop.again || !shard_loop.nudges.is_empty() || !self.nodes[node].mails[who].is_empty() {
            return self.wake(node, who);
        }
        // The wall clock may be set forward while the loop sleeps: it looks again before long.
        let most = if self.opt.has(Shell::AlarmNotCapped) { u64::MAX } else { SLEEP_MAX_MS };
        let wall = shard_loop.view.next_due().map(|at| true_now + at.since(now.wall).0.min(most));
        let mono =
            shard_loop.view.next_offer_deadline().map(|at| self.nodes[node].clock.when(at).max(true_now));
        let Some(at) = [wall, mono].into_iter().flatten().min() else { return };
        let (boot, Some(shard_loop)) = (self.nodes[node].boot, self.nodes[node].loops.get_mut(who)) else {
            return;
        };
        if at < shard_loop.alarm_at {
            shard_loop.alarm_at = at;
            self.push(at, Event::Loop { node, boot, who });
        }
    }

    /// Decides one group and sends it to the store.
    fn turn(&mut self, n: usize, who: usize, is_due: bool) {
        let now = self.clock_of(n);
        let mut turn = Turn::new(now, self.chance.bits());
        let mut replies = Vec::new();
        let mut rows = Vec::new();
        if is_due {
            self.note_lag(n, who, now.wall);
        }
        let node = &mut self.nodes[n];
        let shard_loop = &mut node.loops[who];
        let view = &mut shard_loop.view;
        let dispatcher = &mut node.dispatcher;
        view.begin(now.wall);
        if is_due {
            decide(view, dispatcher, Input::Tick, &mut turn);
        }
        for input in std::mem::take(&mut shard_loop.nudges) {
            decide(view, dispatcher, input, &mut turn);
        }
        for _ in 0..GROUP_MAX {
            let Some(mail) = node.mails[who].pop_front() else { break };
            match mail {
                Mail::Decide(input, to) => {
                    replies.push(Pending::Reply(decide(view, dispatcher, input, &mut turn), to));
                }
                Mail::Rows(more, to) => {
                    rows.extend(more);
                    replies.push(Pending::Rows(to));
                }
                Mail::Wait { job, to } => match view.look(&self.namespace, &job) {
                    Some(job) => shard_loop.waiters.entry(job.key()).or_default().push(to),
                    None => replies.push(Pending::Wait(to)),
                },
            }
        }
        shard_loop.again = dispatch(view, dispatcher, &mut turn);
        let finished = turn.finish(view);
        let departed = view.departed();
        for illegal in &finished.illegal {
            self.oracle.violate("I-01", || format!("the kernel asked for an illegal move: {illegal}"));
        }
        for unfit in &finished.unfit {
            self.oracle
                .violate("I-26", || format!("the kernel asked for an event that does not fit: {unfit}"));
        }
        let life = (n, self.nodes[n].boot, self.nodes[n].life);
        self.oracle.on_turn(life, &self.nodes[n].loops[who].view, &finished.writes);
        self.oracle.on_ends(life, who, &finished.writes);
        let replies = replies.into_iter().map(|p| self.resolve(n, who, p, &finished.effects)).collect();
        let store = &mut self.store;
        rows.extend(finished.writes.into_iter().map(|write| row_of(store, write, now.wall)));
        let committing = Committing {
            no: 0,
            outcome: None,
            has_writes: !rows.is_empty(),
            effects: finished.effects,
            replies,
            departed,
        };
        self.commit(n, who, rows, committing, now.wall);
    }

    /// Replaces keys and records of jobs by what this group leaves of them.
    fn resolve(&self, node: usize, who: usize, pending: Pending, effects: &[Effect]) -> Pending {
        let is_stale = self.opt.has(Shell::ReplyUnnumbered);
        let view = &self.nodes[node].loops[who].view;
        let find = |key: JobKey| {
            let ended = effects.iter().find_map(|effect| match effect {
                Effect::Ended(job) if job.key() == key => Some(job),
                Effect::Ended(_)
                | Effect::Deliver { .. }
                | Effect::Stop { .. }
                | Effect::Closed(_)
                | Effect::Judge(_)
                | Effect::Evaluate(_)
                | Effect::LoadRun { .. }
                | Effect::CancelRun { .. }
                | Effect::FreeSlot(..) => None,
            });
            view.job(key).or(ended).cloned()
        };
        let newest = |job: Arc<Job>| if is_stale { job } else { find(job.key()).unwrap_or(job) };
        match pending {
            Pending::Reply(Reply::Submitted(answers), to) => {
                let found = answers.into_iter().map(|one| match one {
                    Ok(submitted) => match submitted.existing {
                        Some(job) => Ok((newest(job), true)),
                        None => find(submitted.key).map(|job| (job, false)).ok_or(Refused::Unknown),
                    },
                    Err(_) => Err(Refused::Definite(Why::Conflict)),
                });
                Pending::Submit(found.collect(), to)
            }
            Pending::Reply(Reply::Job(Ok(job)), to) => Pending::Reply(Reply::Job(Ok(newest(job))), to),
            other => other,
        }
    }

    fn commit(&mut self, n: usize, who: usize, writes: Vec<Write>, mut committing: Committing, time: Time) {
        if self.opt.has_kernel(Mutant::ReplyBeforeCommit) {
            for pending in std::mem::take(&mut committing.replies) {
                self.answer(n, pending);
            }
        }
        if self.opt.has(Shell::EffectsBeforeCommit) {
            let effects = std::mem::take(&mut committing.effects);
            self.perform(n, who, effects);
        }
        if self.opt.has(Shell::DepartedEarly)
            && let Some(shard_loop) = self.nodes[n].loops.get_mut(who)
        {
            shard_loop.departed = committing.departed;
        }
        let node = &mut self.nodes[n];
        if !committing.has_writes {
            if node.loops[who].inflight.is_empty() {
                return self.complete(n, who, committing);
            }
            if !committing.replies.is_empty() || !committing.effects.is_empty() {
                // Answers may rest on groups that are not committed yet: they keep their place in line.
                committing.outcome = Some(Outcome::Committed);
                node.loops[who].inflight.push_back(committing);
            }
            return;
        }
        node.next_commit_no += 1;
        committing.no = node.next_commit_no;
        let group = Group { epoch: node.epoch, time, writes };
        let no = committing.no;
        node.loops[who].inflight.push_back(committing);
        self.send_group(n, who, no, group);
    }

    /// The store has answered; answers count in the order of the groups.
    pub(crate) fn on_answered(&mut self, n: usize, life: u32, who: usize, no: u64, outcome: Outcome) {
        if self.nodes[n].life != life {
            return;
        }
        let Some(shard_loop) = self.nodes[n].loops.get_mut(who) else { return };
        if let Some(found) = shard_loop.inflight.iter_mut().find(|c| c.no == no) {
            found.outcome = Some(outcome);
        }
        loop {
            // A group completed may have taken the node down.
            let Some(shard_loop) = self.nodes[n].loops.get_mut(who) else { return };
            let Some(outcome) = shard_loop.inflight.front().and_then(|c| c.outcome.clone()) else { break };
            let Some(done) = shard_loop.inflight.pop_front() else { break };
            match (self.nodes[n].phase, outcome) {
                (Phase::Up, Outcome::Committed) => self.complete(n, who, done),
                (Phase::Up, outcome) => self.fail(n, who, done, &outcome),
                (Phase::Failing { .. }, Outcome::Committed) if done.has_writes => self.complete(n, who, done),
                (Phase::Failing { .. }, outcome) => self.refuse_all(n, done.replies, &outcome),
                (Phase::Down | Phase::Standby | Phase::Reclaiming, _) => return,
            }
        }
        if let Phase::Failing { who: failed } = self.nodes[n].phase
            && self.nodes[n].loops[failed].inflight.is_empty()
        {
            return self.reload(n);
        }
        self.set_alarm(n, who);
    }

    /// The group is durable: say so, then act.
    fn complete(&mut self, n: usize, who: usize, done: Committing) {
        if let Some(shard_loop) = self.nodes[n].loops.get_mut(who) {
            shard_loop.departed = shard_loop.departed.max(done.departed);
        }
        for pending in done.replies {
            self.answer(n, pending);
        }
        self.perform(n, who, done.effects);
    }

    fn answer(&mut self, n: usize, pending: Pending) {
        match pending {
            Pending::Reply(Reply::Reported(rejected), ReplyTo::Report { session, seq, indexes }) => {
                self.report_done(n, session, seq, &rejected, &indexes);
            }
            Pending::Reply(_, ReplyTo::Nobody | ReplyTo::Report { .. }) => {}
            Pending::Reply(Reply::LookAgain(submit), ReplyTo::Call(call)) => {
                self.got(n, call, Got::LookAgain(submit));
            }
            Pending::Reply(reply, ReplyTo::Call(call)) => self.got(n, call, Got::Reply(reply)),
            Pending::Submit(found, ReplyTo::Call(call)) => self.got(n, call, Got::Submitted(found)),
            Pending::Rows(ReplyTo::Call(call)) => self.got(n, call, Got::Rows),
            Pending::Wait(ReplyTo::Call(call)) => self.got(n, call, Got::Ended(None)),
            Pending::Submit(..) | Pending::Rows(_) | Pending::Wait(_) => {}
        }
    }

    fn perform(&mut self, n: usize, who: usize, effects: Vec<Effect>) {
        let mut deliveries: Vec<Delivery> = Vec::new();
        let mut closed = Vec::new();
        for effect in effects {
            match effect {
                Effect::Deliver { session, lease_id, job, .. } => {
                    self.oracle.on_deliver(&job, &self.store);
                    match deliveries.iter_mut().find(|(id, _)| *id == session) {
                        Some((_, list)) => list.push((lease_id, job)),
                        None => deliveries.push((session, vec![(lease_id, job)])),
                    }
                }
                Effect::Stop { session, lease_id, why } => self.control(n, session, lease_id, why),
                Effect::Closed(one) => closed.push(one),
                // The policies of these lives answer at once.
                Effect::Judge(_) => {}
                Effect::Evaluate(asked) => self.begin_task(n, Task::Evaluate(asked)),
                Effect::LoadRun { namespace, run_id } => self.begin_task(n, Task::Load { namespace, run_id }),
                Effect::CancelRun { run_id, .. } => self.take_place(n, run_id),
                Effect::FreeSlot(key, holder) => {
                    for who in self.nodes[n].dispatcher.free_slot(&key, holder) {
                        self.nudge(n, who, Input::SlotFree(key.clone()));
                    }
                }
                Effect::Ended(job) => {
                    let waiters = self.nodes[n].loops.get_mut(who).and_then(|l| l.waiters.remove(&job.key()));
                    for to in waiters.unwrap_or_default() {
                        if let ReplyTo::Call(call) = to {
                            self.got(n, call, Got::Ended(Some(job.clone())));
                        }
                    }
                }
            }
        }
        self.release(n, &closed);
        for (session, list) in deliveries {
            self.deliver(n, session, list);
        }
    }

    /// Tells everybody who waits that their request failed, or that its fate is not known.
    pub(crate) fn refuse_all(&mut self, n: usize, replies: Vec<Pending>, outcome: &Outcome) {
        let refused = match outcome {
            Outcome::Refused(_) | Outcome::Committed => Refused::Definite(Why::Store),
            Outcome::Unknown(_) => Refused::Unknown,
        };
        for pending in replies {
            let to = match pending {
                // A wait without an answer asks again.
                Pending::Wait(ReplyTo::Call(call)) => {
                    self.got(n, call, Got::Ended(None));
                    continue;
                }
                Pending::Reply(_, to) | Pending::Submit(_, to) | Pending::Rows(to) | Pending::Wait(to) => to,
            };
            if let ReplyTo::Call(call) = to {
                self.got(n, call, Got::Failed(refused));
            }
        }
    }
}

fn row_of(store: &mut SimStore, write: KernelWrite, now: Time) -> Write {
    match write {
        KernelWrite::Job { job, fresh } => Write::Job { job, fresh },
        KernelWrite::Key { namespace, key, job_id, fingerprint } => {
            Write::Key(Arc::new(KeyRow { namespace, key, job_id, fingerprint, create_time: now }))
        }
        KernelWrite::DeadLetter(row) => Write::DeadLetter(row),
        KernelWrite::DeadLetterEnd { namespace, job_id } => Write::DeadLetterEnd { namespace, job_id },
        KernelWrite::Topic(row) => Write::Topic(row),
        KernelWrite::Approval(approval) => Write::Resource(Arc::new(store.row_of(approval, now))),
        KernelWrite::Resource(row) => Write::Resource(row),
        KernelWrite::Run { run, .. } => Write::Resource(Arc::new(run.to_resource())),
    }
}
