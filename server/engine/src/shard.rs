//! The shard loop: drain the mailbox, decide each, commit the group, release replies, perform effects.
//!
//! One loop is the single writer of its shards. Replies and effects of a group wait for its commit, and for the
//! commits of all groups before it. Any outcome but *committed* ends the loop; the supervisor reloads it.

use crate::api::Accepted;
use crate::events::refusal_of;
use crate::house;
use crate::mail::{Answer, Mail, ReplyTo, Submitted, Waiter};
use crate::metrics::add;
use crate::shared::Shared;
use coretex_domain::{Job, JobKey, Reason, Refusal, Span, Time};
use coretex_kernel::input::{Effect, Input, Reply, Write as KernelWrite};
use coretex_kernel::{Turn, View, decide, dispatch};
use coretex_ports::{BoxFuture, Group, KeyRow, Outcome, Write};
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use rustc_hash::FxHashMap;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Mails decided in one group.
const GROUP_MAX: usize = 512;
/// Groups on their way to the store at a time, where the store allows it.
const PIPELINE_DEPTH: usize = 3;

/// Longest sleep while something waits for a wall time.
pub(crate) const WALL_SLEEP_MAX: Span = Span::secs(2);

/// Why a loop ended.
pub(crate) enum Exit {
    /// The engine stops.
    Stopped,
    /// A commit did not succeed; memory is not to be trusted any more.
    Failed,
}

pub(crate) struct ShardLoop {
    who: usize,
    view: View,
    shared: Arc<Shared>,
    epoch: u64,
    waiters: FxHashMap<JobKey, Vec<Waiter>>,
    inflight: FuturesOrdered<BoxFuture<Committing>>,
    depth: usize,
    /// Work was left behind by the last turn.
    again: bool,
    alarm: Option<(Time, BoxFuture<()>)>,
}

/// A group on its way.
struct Committing {
    outcome: Outcome,
    writes: Vec<Write>,
    effects: Vec<Effect>,
    replies: Vec<Pending>,
    /// Jobs that had left memory after this group.
    departed: u64,
}

/// A reply that waits for its group.
enum Pending {
    Reply(Reply, ReplyTo),
    Submit(Vec<Result<(Arc<Job>, bool), Refusal>>, Answer<Submitted>, Option<crate::api::FollowAs>),
    Rows(Answer<()>),
    Wait(oneshot::Sender<Option<Arc<Job>>>),
    Census(Vec<u64>, Answer<Vec<u64>>),
}

impl ShardLoop {
    pub(crate) fn new(who: usize, view: View, shared: Arc<Shared>, epoch: u64) -> ShardLoop {
        let depth = if shared.store.guarantees().pipelined { PIPELINE_DEPTH } else { 1 };
        ShardLoop {
            who,
            view,
            shared,
            epoch,
            waiters: FxHashMap::default(),
            inflight: FuturesOrdered::new(),
            depth,
            again: true,
            alarm: None,
        }
    }

    /// Runs until told to stop, or until a commit fails.
    pub(crate) async fn run(mut self, mailbox: &mut mpsc::Receiver<Mail>) -> Exit {
        let shared = self.shared.clone();
        let nudge = shared.nudges[self.who].clone();
        let mut mails = Vec::with_capacity(GROUP_MAX);
        loop {
            let has_room = self.inflight.len() < self.depth;
            if self.again && has_room {
                self.turn(&mut mails);
                continue;
            }
            self.set_alarm();
            let alarm = async {
                match &mut self.alarm {
                    Some((_, sleep)) => sleep.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some(done) = self.inflight.next(), if !self.inflight.is_empty() => {
                    if done.outcome != Outcome::Committed {
                        return self.fail(done).await;
                    }
                    self.complete(done);
                }
                () = nudge.notify.notified(), if has_room => self.turn(&mut mails),
                received = mailbox.recv_many(&mut mails, GROUP_MAX), if has_room => {
                    if received == 0 {
                        return Exit::Stopped;
                    }
                    self.turn(&mut mails);
                }
                () = shared.halt.notified_for(self.who) => return Exit::Stopped,
                () = alarm, if has_room => {
                    self.alarm = None;
                    self.turn(&mut mails);
                }
            }
        }
    }

    /// Keeps one timer for whatever is due next. One that rings early costs a look and no more.
    fn set_alarm(&mut self) {
        let now = self.shared.env.clock.now();
        // The wall clock may be set forward while we sleep: a wall deadline is looked at now and then.
        let wall = self.view.next_due().map(|at| now.mono + at.since(now.wall).min(WALL_SLEEP_MAX));
        let Some(due) = [wall, self.view.next_offer_deadline()].into_iter().flatten().min() else {
            self.alarm = None;
            return;
        };
        if self.alarm.as_ref().is_none_or(|(at, _)| *at > due) {
            self.alarm = Some((due, self.shared.env.clock.sleep_until(due)));
        }
    }

    /// Decides one group and sends it to the store.
    fn turn(&mut self, mails: &mut Vec<Mail>) {
        let now = self.shared.env.clock.now();
        let dice = (self.shared.env.dice.bits() & u128::from(u64::MAX)) as u64;
        let mut turn = Turn::new(now, dice);
        let mut replies = Vec::with_capacity(mails.len());
        let mut rows = Vec::new();
        self.view.begin(now.wall);
        let houseless = {
            let shared = self.shared.clone();
            let mut dispatcher = shared.dispatcher();
            let is_due = self.view.next_due().is_some_and(|at| at <= now.wall)
                || self.view.next_offer_deadline().is_some_and(|at| at <= now.mono);
            if is_due {
                decide(&mut self.view, &mut dispatcher, Input::Tick, &mut turn);
            }
            for input in shared.nudges[self.who].take() {
                decide(&mut self.view, &mut dispatcher, input, &mut turn);
            }
            for mail in mails.drain(..) {
                match mail {
                    Mail::Decide(input, to) => {
                        let reply = decide(&mut self.view, &mut dispatcher, input, &mut turn);
                        replies.push(Pending::Reply(reply, to));
                    }
                    Mail::Rows(more, answer) => {
                        rows.extend(more);
                        replies.push(Pending::Rows(answer));
                    }
                    Mail::Wait { namespace, job_id, answer } => match self.view.look(&namespace, &job_id) {
                        Some(job) => wait_for(&mut self.waiters, job.key(), Waiter::One(answer)),
                        None => replies.push(Pending::Wait(answer)),
                    },
                    Mail::Census(answer) => replies.push(Pending::Census(self.view.census(), answer)),
                }
            }
            self.again = dispatch(&mut self.view, &mut dispatcher, &mut turn);
            dispatcher.take_houseless()
        };
        for namespace in houseless {
            house::serve(&self.shared, &namespace);
        }
        let finished = turn.finish(&mut self.view);
        for illegal in &finished.illegal {
            add(&self.shared.metrics.invariant_violations, 1);
            tracing::error!(%illegal, "a decision asked for a move that table T does not allow; nothing was changed");
        }
        for unfit in &finished.unfit {
            add(&self.shared.metrics.invariant_violations, 1);
            tracing::error!(%unfit, "a decision asked for an event that does not fit its run; nothing was changed");
        }
        self.shared.open_jobs[self.who]
            .store(self.view.open_count() as u64, std::sync::atomic::Ordering::Relaxed);
        self.shared.pending_approvals[self.who]
            .store(self.view.pending_approvals() as u64, std::sync::atomic::Ordering::Relaxed);
        let replies = replies.into_iter().map(|p| self.resolve(p, &finished.effects)).collect();
        rows.extend(finished.writes.into_iter().map(|write| row_of(write, now.wall)));
        self.commit(rows, finished.effects, replies, now.wall);
    }

    /// Replaces keys of new jobs by the records this group leaves.
    fn resolve(&self, pending: Pending, effects: &[Effect]) -> Pending {
        let ended = std::cell::LazyCell::new(|| ended_jobs(effects));
        let find = |key: JobKey| self.view.job(key).or_else(|| ended.get(&key).copied()).cloned();
        match pending {
            Pending::Reply(Reply::Job(Ok(job)), to) => {
                // What was at hand when it was decided may have changed later in the turn, and has its numbers now.
                let job = find(job.key()).filter(|newer| newer.revision >= job.revision).unwrap_or(job);
                Pending::Reply(Reply::Job(Ok(job)), to)
            }
            Pending::Reply(Reply::Submitted(answers), ReplyTo::Submit { answer, follow }) => {
                let lost =
                    || Refusal::new(Reason::OutcomeUnknown, "the job was made but its record was not found");
                let record = |s: coretex_kernel::input::Submitted| match (find(s.key), s.existing) {
                    (Some(job), existing) => Ok((job, existing.is_some())),
                    (None, Some(job)) => Ok((job, true)),
                    (None, None) => Err(lost()),
                };
                Pending::Submit(answers.into_iter().map(|one| one.and_then(record)).collect(), answer, follow)
            }
            other => other,
        }
    }

    fn commit(&mut self, writes: Vec<Write>, effects: Vec<Effect>, replies: Vec<Pending>, now: Time) {
        let mut committing = Committing {
            outcome: Outcome::Committed,
            writes: Vec::new(),
            effects,
            replies,
            departed: self.view.departed(),
        };
        if writes.is_empty() {
            if self.inflight.is_empty() {
                self.complete(committing);
            } else if !committing.replies.is_empty() || !committing.effects.is_empty() {
                // Answers may rest on groups that are not committed yet: they keep their place in line.
                self.inflight.push_back(Box::pin(std::future::ready(committing)));
            }
            return;
        }
        let group = Group { epoch: self.epoch, time: now, writes: writes.clone() };
        let commit = self.shared.store.commit(group);
        let started = std::time::Instant::now();
        let metrics = self.shared.metrics.clone();
        self.inflight.push_back(Box::pin(async move {
            committing.outcome = commit.await;
            committing.writes = writes;
            metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
            committing
        }));
    }

    /// The group is durable: say so, then act.
    fn complete(&mut self, done: Committing) {
        // Only now can a look-up see what has departed.
        self.shared.departed[self.who].store(done.departed, std::sync::atomic::Ordering::Release);
        self.count(&done);
        self.shared.events.publish(&done.writes);
        self.shared.run_watches.tell(&done.writes);
        for pending in done.replies {
            self.answer(pending);
        }
        self.perform(done.effects);
    }

    fn answer(&mut self, pending: Pending) {
        match pending {
            Pending::Submit(found, answer, follow) => {
                if let Some(follow) = follow {
                    self.follow(&found, &follow);
                }
                let accepted =
                    found.into_iter().map(|r| r.map(|(job, existing)| Accepted { job, existing })).collect();
                let _ = answer.send(Ok(Submitted::Done(accepted)));
            }
            Pending::Reply(Reply::LookAgain(submit), ReplyTo::Submit { answer, .. }) => {
                let _ = answer.send(Ok(Submitted::LookAgain(submit)));
            }
            Pending::Reply(_, ReplyTo::Submit { answer, .. }) => drop(answer),
            Pending::Reply(Reply::Reported(rejected), ReplyTo::Report { stay, seq, indexes }) => {
                add(&self.shared.metrics.stale_updates, rejected.len() as u64);
                stay.report_done(seq, rejected, indexes.as_deref());
            }
            Pending::Reply(reply, ReplyTo::One(answer)) => {
                let _ = answer.send(Ok(reply));
            }
            Pending::Reply(_, ReplyTo::Nobody | ReplyTo::Report { .. }) => {}
            Pending::Rows(answer) => {
                let _ = answer.send(Ok(()));
            }
            Pending::Wait(answer) => {
                let _ = answer.send(None);
            }
            Pending::Census(counts, answer) => {
                let _ = answer.send(Ok(counts));
            }
        }
    }

    fn follow(&mut self, found: &[Result<(Arc<Job>, bool), Refusal>], follow: &crate::api::FollowAs) {
        for (tag, one) in (follow.first_tag..).zip(found) {
            let Ok((job, _)) = one else { continue };
            let key = job.key();
            // An open record means its end is in a later group, or in this one's effects: both are still to come.
            if !job.state.kind().is_terminal() {
                let waiter =
                    Waiter::Follow(crate::api::FollowAs { sink: follow.sink.clone(), first_tag: tag });
                wait_for(&mut self.waiters, key, waiter);
            } else {
                follow.sink.ended(tag, job);
            }
        }
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        let mut deliveries = crate::sessions::Deliveries::default();
        let mut closed = Vec::new();
        for effect in effects {
            match effect {
                Effect::Deliver { session, lane_id, lease_id, job } => {
                    deliveries.add(&self.shared, session, lane_id, lease_id, job);
                }
                Effect::Stop { session, lease_id, why } => self.shared.sessions.stop(session, lease_id, &why),
                Effect::Closed(one) => closed.push(one),
                // The task that asks lives as long as the engine.
                Effect::Judge(job) => drop(self.shared.to_judge.send(job)),
                // These tasks live as long as the engine, and give up with it.
                Effect::Evaluate(asked) => {
                    drop(tokio::spawn(crate::runs::evaluate(self.shared.clone(), asked)));
                }
                Effect::LoadRun { namespace, run_id } => {
                    drop(tokio::spawn(crate::runs::load(self.shared.clone(), namespace, run_id)));
                }
                Effect::CancelRun { namespace, run_id } => {
                    drop(tokio::spawn(crate::runs::take_place(self.shared.clone(), namespace, run_id)));
                }
                Effect::FreeSlot(key, holder) => self.shared.free_slot(&key, holder),
                Effect::Ended(job) => {
                    for waiter in self.waiters.remove(&job.key()).unwrap_or_default() {
                        match waiter {
                            Waiter::One(answer) => drop(answer.send(Some(job.clone()))),
                            Waiter::Follow(follow) => follow.sink.ended(follow.first_tag, &job),
                        }
                    }
                }
            }
        }
        self.shared.release(&closed);
        deliveries.send(&self.shared);
    }

    fn count(&self, done: &Committing) {
        let metrics = &self.shared.metrics;
        if !done.writes.is_empty() {
            add(&metrics.commits, 1);
            add(&metrics.commit_writes, done.writes.len() as u64);
        }
        for write in &done.writes {
            match write {
                Write::Job { job, fresh } => crate::counting::count_job(metrics, job, *fresh as usize),
                Write::DeadLetter(_) => add(&metrics.dead_letters, 1),
                Write::Key(_)
                | Write::DeadLetterEnd { .. }
                | Write::Session(_)
                | Write::SessionEnd(_)
                | Write::Topic(_)
                | Write::Secret(..)
                | Write::Resource(_)
                | Write::ResourceEnd(_)
                | Write::Output { .. } => {}
            }
        }
    }

    /// Tells everybody who waits that their request failed, or that its fate is not known.
    async fn fail(mut self, done: Committing) -> Exit {
        let outcome = done.outcome.clone();
        tracing::error!(?outcome, "a commit did not succeed; the loop stops and will be loaded again");
        refuse_all(done.replies, &outcome);
        while let Some(next) = self.inflight.next().await {
            if next.outcome == Outcome::Committed && !next.writes.is_empty() {
                // The store took a later group although an earlier one failed: its fate is told truthfully.
                self.complete(next);
            } else {
                let fate = if next.writes.is_empty() { outcome.clone() } else { next.outcome.clone() };
                refuse_all(next.replies, &fate);
            }
        }
        Exit::Failed
    }
}

/// Nearly always one waits for a job, and a long backlog may be waited for as a whole: room for one, then more.
fn wait_for(waiters: &mut FxHashMap<JobKey, Vec<Waiter>>, key: JobKey, waiter: Waiter) {
    waiters.entry(key).or_insert_with(|| Vec::with_capacity(1)).push(waiter);
}

fn ended_jobs(effects: &[Effect]) -> FxHashMap<JobKey, &Arc<Job>> {
    let mut ended = FxHashMap::default();
    for effect in effects {
        match effect {
            Effect::Ended(job) => drop(ended.insert(job.key(), job)),
            Effect::Deliver { .. }
            | Effect::Stop { .. }
            | Effect::Closed(_)
            | Effect::Judge(_)
            | Effect::Evaluate(_)
            | Effect::LoadRun { .. }
            | Effect::CancelRun { .. }
            | Effect::FreeSlot(..) => {}
        }
    }
    ended
}

fn refuse_all(replies: Vec<Pending>, outcome: &Outcome) {
    let refusal = match outcome {
        Outcome::Refused(error) => refusal_of(error.clone()),
        Outcome::Unknown(why) => {
            Refusal::new(Reason::OutcomeUnknown, format!("it may or may not have been committed: {why}"))
                .retry_after(coretex_domain::Span::secs(1))
        }
        Outcome::Committed => {
            Refusal::new(Reason::StoreUnavailable, "the store failed before this was looked at")
        }
    };
    for pending in replies {
        match pending {
            Pending::Submit(_, answer, _) | Pending::Reply(_, ReplyTo::Submit { answer, .. }) => {
                let _ = answer.send(Err(refusal.clone()));
            }
            Pending::Reply(_, ReplyTo::One(answer)) => {
                let _ = answer.send(Err(refusal.clone()));
            }
            Pending::Rows(answer) => {
                let _ = answer.send(Err(refusal.clone()));
            }
            Pending::Census(_, answer) => {
                let _ = answer.send(Err(refusal.clone()));
            }
            // A report without an ack is sent again by the worker; a wait without an answer asks again.
            Pending::Reply(_, ReplyTo::Nobody | ReplyTo::Report { .. }) | Pending::Wait(_) => {}
        }
    }
}

fn row_of(write: KernelWrite, now: Time) -> Write {
    match write {
        KernelWrite::Job { job, fresh } => Write::Job { job, fresh },
        KernelWrite::Key { namespace, key, job_id, fingerprint } => {
            Write::Key(Arc::new(KeyRow { namespace, key, job_id, fingerprint, create_time: now }))
        }
        KernelWrite::DeadLetter(row) => Write::DeadLetter(row),
        KernelWrite::DeadLetterEnd { namespace, job_id } => Write::DeadLetterEnd { namespace, job_id },
        KernelWrite::Topic(row) => Write::Topic(row),
        KernelWrite::Approval(approval) => Write::Resource(Arc::new(crate::approvals::row(&approval, now))),
        KernelWrite::Resource(row) => Write::Resource(row),
        KernelWrite::Run { run, .. } => Write::Resource(Arc::new(run.to_resource())),
    }
}
