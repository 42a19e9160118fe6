//! Calls that take more than one step: each is what an async function of the engine is, laid out flat.

use crate::asks::Asking;
use crate::event::Event;
use crate::fault::Fault;
use crate::node::{EXCUSE_MS, Got, Mail, ReplyTo};
use crate::planted::Shell;
use crate::runs::RunFlow;
use crate::submit::SubmitFlow;
use crate::wire::{Ask, Caller, Down, HeldLease, Refused, Resumed, Said, TopicChange, Why};
use crate::world::World;
use coretex_domain::approval::{ApprovalId, Voter};
use coretex_domain::job::StateKind;
use coretex_domain::session::Session;
use coretex_domain::topic::{Pause, Settings, Topic};
use coretex_domain::{Job, JobId, SessionId, ShardId, Time};
use coretex_kernel::input::{Ballot, HandOver, Held, Input, RejectCode, Reply, RetryByHand, Verdict};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// A call under way on a node.
pub(crate) struct Call {
    pub(crate) from: Caller,
    /// Names this execution of a request, so that its traces in the store can be told apart.
    pub(crate) exec: u64,
    pub(crate) flow: Flow,
}

pub(crate) enum Flow {
    Submit(Box<SubmitFlow>),
    Cancel {
        job: JobId,
    },
    Retry {
        old: Arc<Job>,
        new_id: JobId,
        known: Option<Arc<Job>>,
        looked_at: u64,
    },
    Wait {
        job: JobId,
    },
    Explain,
    Vote {
        id: ApprovalId,
    },
    /// `who` is the loop asked now.
    Topic {
        name: Arc<str>,
        change: TopicChange,
        next: Option<Arc<Topic>>,
        who: usize,
        asked: usize,
    },
    Report {
        left: usize,
        rejected: Vec<(usize, RejectCode)>,
    },
    Hello {
        stream: u64,
        session: Arc<Session>,
    },
    Reconcile(Box<Reconcile>),
    Ask(Box<Asking>),
    Run(Box<RunFlow>),
}

/// A worker that came back, loop by loop.
pub(crate) struct Reconcile {
    session: SessionId,
    parts: Vec<HeldLease>,
    /// Absent for a `Sync`.
    stream: Option<NewStream>,
    who: usize,
    resumed: Resumed,
    kept: Vec<(u64, Arc<str>)>,
}

/// The stream a session goes on with, and the credit it had on the last one.
pub(crate) struct NewStream {
    pub(crate) stream: u64,
    pub(crate) accounts: Vec<(Arc<str>, u64, u32)>,
    pub(crate) granted: u64,
}

impl Flow {
    pub(crate) fn reconcile(session: SessionId, held: Vec<HeldLease>, stream: Option<NewStream>) -> Flow {
        let resumed = Resumed::default();
        Flow::Reconcile(Box::new(Reconcile {
            session,
            parts: held,
            stream,
            who: 0,
            resumed,
            kept: Vec::new(),
        }))
    }
}

impl World {
    /// A unary call arrives at a node.
    pub(crate) fn on_call(&mut self, n: usize, from: Caller, ask: Ask) {
        self.next_exec += 1;
        let exec = self.next_exec;
        self.oracle.on_exec(exec);
        if !self.nodes[n].is_up() {
            let why = if self.nodes[n].phase == crate::node::Phase::Standby {
                Why::NotOwner
            } else {
                Why::NotReady
            };
            return self.say(n, from, exec, Said::Refused(Refused::Definite(why)));
        }
        let namespace = self.namespace.clone();
        match ask {
            Ask::Submit { request_id, wants } => self.submit(n, from, exec, request_id, wants),
            Ask::Cancel { job } => {
                let who = self.loop_of(job.shard(&namespace));
                let call = self.nodes[n].add_call(from, exec, Flow::Cancel { job: job.clone() });
                let (reason, actor) = ("sim".into(), format!("e{exec}").into());
                let input = Input::Cancel { namespace, job_id: job, reason, actor };
                self.post(n, who, Mail::Decide(input, ReplyTo::Call(call)));
            }
            Ask::Retry { job, request_id } => self.retry(n, from, exec, &job, &request_id),
            Ask::Get { job } => {
                let found = self.store.find(&namespace, &job).cloned();
                let said = found.map_or(Said::Refused(Refused::Definite(Why::NotFound)), Said::Job);
                return self.say(n, from, exec, said);
            }
            Ask::Wait { job } => {
                let who = self.loop_of(job.shard(&namespace));
                let call = self.nodes[n].add_call(from, exec, Flow::Wait { job: job.clone() });
                self.post(n, who, Mail::Wait { job, to: ReplyTo::Call(call) });
            }
            Ask::Explain { job } => {
                let who = self.loop_of(job.shard(&namespace));
                let call = self.nodes[n].add_call(from, exec, Flow::Explain);
                let input = Input::Explain { namespace, job_id: job };
                self.post(n, who, Mail::Decide(input, ReplyTo::Call(call)));
            }
            Ask::Vote { id, voter, choice, edited } => {
                let (voter, comment) = (Voter::named(voter), "sim".into());
                let ballot = Ballot { namespace, id: id.clone(), voter, choice, comment, edited };
                self.ask_about(n, from, exec, id, Input::Vote(Box::new(ballot)));
            }
            Ask::Delegate { id, voter, to } => {
                let (voter, comment) = (Voter::named(voter), "sim".into());
                let order = HandOver { namespace, id: id.clone(), voter, to, comment };
                self.ask_about(n, from, exec, id, Input::Delegate(Box::new(order)));
            }
            Ask::Topic { name, change } => {
                let flow = Flow::Topic { name, change, next: None, who: 0, asked: 0 };
                let call = self.nodes[n].add_call(from, exec, flow);
                self.nodes[n].topic_turn.push_back(call);
                if self.nodes[n].topic_turn.len() == 1 {
                    self.topic_begin(n, call);
                }
            }
            Ask::Run(wish) => {
                let call = self.nodes[n].add_call(from, exec, Flow::Run(Box::new(RunFlow::new(wish))));
                self.run_begin(n, call);
            }
            Ask::Report { said } => return self.report_by_token(n, from, exec, said),
        }
        self.maybe_drop_call(n);
    }

    /// Asks the loop of a job about its approval.
    fn ask_about(&mut self, n: usize, from: Caller, exec: u64, id: ApprovalId, input: Input) {
        let who = self.loop_of(id.job_id.shard(&self.namespace));
        let call = self.nodes[n].add_call(from, exec, Flow::Vote { id });
        self.post(n, who, Mail::Decide(input, ReplyTo::Call(call)));
    }

    /// A caller may go away at any await.
    fn maybe_drop_call(&mut self, n: usize) {
        let (boot, call) = (self.nodes[n].boot, self.nodes[n].next_call);
        let is_topic = matches!(self.nodes[n].calls.get(&call).map(|c| &c.flow), Some(Flow::Topic { .. }));
        let rate = if is_topic { self.opt.call_dropped * 10 } else { self.opt.call_dropped };
        if !self.is_calm && self.chance.chance(rate) {
            let at = self.now + self.chance.skewed(1, if is_topic { 20 } else { 300 });
            self.push(at, Event::Hang { node: n, boot, call });
        }
    }

    /// The caller is gone: what the call waits for is never looked at.
    pub(crate) fn on_hang(&mut self, n: usize, id: u64) {
        let Some(call) = self.nodes[n].calls.get(&id) else { return };
        let is_detached = matches!(call.flow, Flow::Topic { .. }) && !self.opt.has(Shell::TopicChangeDropped);
        let is_stream = matches!(call.flow, Flow::Hello { .. } | Flow::Reconcile(_) | Flow::Ask(_));
        let from = call.from;
        if is_detached || is_stream || !self.strikes(Fault::CallDropped) {
            return;
        }
        self.nodes[n].calls.remove(&id);
        self.hang_up(n, from);
        let was_first = self.nodes[n].topic_turn.front() == Some(&id);
        self.nodes[n].topic_turn.retain(|c| *c != id);
        if let (true, Some(next)) = (was_first, self.nodes[n].topic_turn.front().copied()) {
            self.topic_begin(n, next);
        }
    }

    pub(crate) fn on_step(&mut self, n: usize, id: u64) {
        let Some(call) = self.nodes[n].calls.get_mut(&id) else { return };
        match &mut call.flow {
            Flow::Submit(_) => self.submit_step(n, id),
            Flow::Ask(_) => self.ask_step(n, id),
            Flow::Run(_) => self.run_step(n, id),
            Flow::Retry { old, new_id, known, looked_at } => {
                let looked_at = *looked_at;
                let (old, new_id, known) = (old.clone(), new_id.clone(), known.take());
                let actor = Some(format!("e{}", call.exec).into_boxed_str());
                let who = self.loop_of(old.shard);
                let retry =
                    RetryByHand { old, new_id, edited: None, actor, known, only_first: false, config: None };
                self.post(
                    n,
                    who,
                    Mail::Decide(Input::RetryByHand(Box::new(retry), looked_at), ReplyTo::Call(id)),
                );
            }
            Flow::Wait { job } => {
                let job = job.clone();
                let who = self.loop_of(job.shard(&self.namespace));
                self.post(n, who, Mail::Wait { job, to: ReplyTo::Call(id) });
            }
            Flow::Cancel { .. }
            | Flow::Vote { .. }
            | Flow::Explain
            | Flow::Topic { .. }
            | Flow::Report { .. }
            | Flow::Hello { .. }
            | Flow::Reconcile(_) => {}
        }
    }

    /// Goes on with a call after a read that takes a while.
    pub(crate) fn step_later(&mut self, n: usize, call: u64) {
        let at = self.now + self.store_wait();
        let boot = self.nodes[n].boot;
        self.push(at, Event::Step { node: n, boot, call });
    }

    fn retry(&mut self, n: usize, from: Caller, exec: u64, job: &JobId, request_id: &str) {
        let namespace = self.namespace.clone();
        let Some(old) = self.store.find(&namespace, job).cloned() else {
            return self.say(n, from, exec, Said::Refused(Refused::Definite(Why::NotFound)));
        };
        let new_id = crate::submit::derived_id(&namespace, &format!("{request_id}\0{job}"), 0, old.shard);
        let known = self.store.find(&namespace, &new_id).cloned();
        let who = self.loop_of(old.shard);
        let looked_at = self.nodes[n].loops.get(who).map_or(0, |l| l.departed);
        let call = self.nodes[n].add_call(from, exec, Flow::Retry { old, new_id, known, looked_at });
        self.step_later(n, call);
    }

    /// What a loop answered.
    pub(crate) fn got(&mut self, n: usize, id: u64, got: Got) {
        let Some(call) = self.nodes[n].calls.get_mut(&id) else { return };
        let (from, exec) = (call.from, call.exec);
        let said = match (&mut call.flow, got) {
            (Flow::Submit(_), got) => return self.submit_got(n, id, got),
            (Flow::Hello { stream, session }, got) => {
                let (stream, session) = (*stream, session.clone());
                self.nodes[n].calls.remove(&id);
                return match got {
                    Got::Rows => self.welcome(n, stream, session),
                    _ => self.refuse_stream(stream),
                };
            }
            (Flow::Reconcile(_), got) => return self.reconciled(n, id, got),
            (Flow::Ask(_), got) => return self.ask_got(n, id, got),
            (Flow::Run(_), got) => return self.run_got(n, id, got),
            (Flow::Topic { .. }, got) => return self.topic_got(n, id, got),
            (Flow::Report { .. }, got) => return self.token_report_got(n, id, got),
            (_, Got::Failed(refused)) => Said::Refused(refused),
            (Flow::Cancel { job }, Got::Reply(reply)) => {
                let job = job.clone();
                self.cancel_answer(&job, reply)
            }
            (Flow::Retry { .. }, Got::Submitted(answers)) => match answers.into_iter().next() {
                Some(Ok((job, _))) => Said::Job(job),
                Some(Err(Refused::Definite(_))) => Said::Refused(Refused::Definite(Why::NotTerminal)),
                Some(Err(refused)) => Said::Refused(refused),
                None => Said::Refused(Refused::Unknown),
            },
            (Flow::Wait { .. }, Got::Ended(Some(job))) => Said::Job(job),
            (Flow::Wait { job }, Got::Ended(None)) => {
                let found = self.store.find(&self.namespace, job).cloned();
                match found {
                    Some(job) if job.state.kind().is_terminal() => Said::Job(job),
                    Some(_) => {
                        // The loop was reloaded between the two questions: ask again, not at once.
                        let (at, boot) = (self.now + 10, self.nodes[n].boot);
                        return self.push(at, Event::Step { node: n, boot, call: id });
                    }
                    None => Said::Refused(Refused::Definite(Why::NotFound)),
                }
            }
            (Flow::Explain, Got::Reply(_)) => Said::Explained,
            (Flow::Vote { .. }, Got::Reply(Reply::Approval(Ok(approval)))) => {
                self.cover.votes += 1;
                Said::Voted(approval)
            }
            (Flow::Vote { .. }, Got::Reply(Reply::Approval(Err(_)))) => {
                Said::Refused(Refused::Definite(Why::Barred))
            }
            (Flow::Vote { id }, Got::Reply(_)) => {
                let key = (id.job_id.key(&self.namespace), id.round);
                Said::Refused(match self.store.approvals.get(&key) {
                    None => Refused::Definite(Why::NotFound),
                    Some(approval) if approval.is_pending() => Refused::Unknown,
                    Some(_) => Refused::Definite(Why::Decided),
                })
            }
            (
                Flow::Vote { .. }
                | Flow::Cancel { .. }
                | Flow::Retry { .. }
                | Flow::Wait { .. }
                | Flow::Explain,
                _,
            ) => Said::Refused(Refused::Unknown),
        };
        self.finish(n, id, from, exec, said);
    }

    pub(crate) fn finish(&mut self, n: usize, id: u64, from: Caller, exec: u64, said: Said) {
        self.nodes[n].calls.remove(&id);
        self.say(n, from, exec, said);
    }

    fn cancel_answer(&self, job: &JobId, reply: Reply) -> Said {
        if let Reply::Job(Ok(job)) = reply {
            return Said::Job(job);
        }
        match self.store.find(&self.namespace, job) {
            None => Said::Refused(Refused::Definite(Why::NotFound)),
            Some(job) if job.state.kind() == StateKind::Cancelled => Said::Job(job.clone()),
            Some(job) if job.state.kind().is_terminal() => Said::Refused(Refused::Definite(Why::Terminal)),
            Some(_) => Said::Refused(Refused::Unknown),
        }
    }
}

// === impl World: topics ===

impl World {
    fn topic_begin(&mut self, n: usize, id: u64) {
        let update_time = self.clock_of(n).wall;
        let namespace = self.namespace.clone();
        let home = self.loop_of(ShardId::CATALOG);
        let node = &mut self.nodes[n];
        let Some(Call { flow: Flow::Topic { name, change, next, who, .. }, .. }) = node.calls.get_mut(&id)
        else {
            return;
        };
        let present = node.topic_rows.get(name);
        let mut row = present.map_or_else(
            || Topic {
                namespace,
                name: name.clone(),
                settings: Settings::default(),
                paused: None,
                revision: 0,
                update_time: Time(0),
                calls: Vec::new(),
            },
            |row| (**row).clone(),
        );
        match change {
            TopicChange::Settings(settings) => row.settings = (**settings).clone(),
            TopicChange::Pause(true) => {
                row.paused = Some(Pause { reason: "sim".into(), since: update_time, actor: "sim".into() });
            }
            TopicChange::Pause(false) => row.paused = None,
        }
        row.revision += 1;
        row.update_time = update_time;
        let row = Arc::new(row);
        *next = Some(row.clone());
        *who = home;
        // New timeouts may be over already: that is not lateness.
        let now = self.now;
        self.nodes[n].excuse(now + EXCUSE_MS);
        self.post(n, home, Mail::Decide(Input::SetTopic(row), ReplyTo::Call(id)));
    }

    /// The catalog's loop writes the row; then the others mirror it, then the dispatcher.
    fn topic_got(&mut self, n: usize, id: u64, got: Got) {
        let loops = self.opt.loops;
        let Some(call) = self.nodes[n].calls.get_mut(&id) else { return };
        let (from, exec) = (call.from, call.exec);
        let Flow::Topic { next, who, asked, .. } = &mut call.flow else { return };
        let Some(row) = next.clone() else { return };
        let said = match got {
            Got::Failed(refused) => Said::Refused(refused),
            _ => {
                *asked += 1;
                if *asked < loops {
                    *who = (*who + 1) % loops;
                    let who = *who;
                    let mail = Mail::Decide(Input::MirrorTopic(row), ReplyTo::Call(id));
                    return self.post(n, who, mail);
                }
                let now = row.update_time;
                self.nodes[n].topic_rows.insert(row.name.clone(), row.clone());
                let wake = self.nodes[n].dispatcher.set_topic(row, now);
                self.wake_for(n, wake);
                Said::TopicSet
            }
        };
        self.nodes[n].topic_turn.retain(|c| *c != id);
        self.finish(n, id, from, exec, said);
        if let Some(next) = self.nodes[n].topic_turn.front().copied() {
            self.topic_begin(n, next);
        }
    }
}

// === impl World: workers that come back ===

impl World {
    pub(crate) fn reconcile_next(&mut self, n: usize, id: u64) {
        let loops = self.opt.loops;
        let Some(Call { flow: Flow::Reconcile(state), .. }) = self.nodes[n].calls.get_mut(&id) else {
            return;
        };
        let (session, who) = (state.session, state.who);
        let held = state
            .parts
            .iter()
            .filter(|h| usize::from(h.token.shard) % loops == who)
            .map(|h| Held {
                lease_id: h.lease,
                job: h.token.job,
                serial: h.token.serial,
                is_finished: h.is_finished,
            })
            .collect();
        self.post(n, who, Mail::Decide(Input::Reconcile { session, held }, ReplyTo::Call(id)));
    }

    fn reconciled(&mut self, n: usize, id: u64, got: Got) {
        let loops = self.opt.loops;
        let Some(Call { flow: Flow::Reconcile(state), .. }) = self.nodes[n].calls.get_mut(&id) else {
            return;
        };
        match got {
            Got::Rows => return self.reconcile_next(n, id),
            Got::Reply(Reply::Reconciled(part)) => {
                state.resumed.verdicts.extend(part.verdicts);
                state.resumed.unknown_to_worker.extend(part.unknown_to_worker);
                state.kept.extend(part.kept);
                state.who += 1;
                if state.who < loops {
                    return self.reconcile_next(n, id);
                }
            }
            _ => {
                let stream = state.stream.as_ref().map(|s| s.stream);
                self.nodes[n].calls.remove(&id);
                if let Some(stream) = stream {
                    self.refuse_stream(stream);
                }
                return;
            }
        }
        let Some(Call { flow: Flow::Reconcile(state), .. }) = self.nodes[n].calls.remove(&id) else { return };
        self.resumed(n, *state);
    }

    fn resumed(&mut self, n: usize, state: Reconcile) {
        let Reconcile { session, stream, mut resumed, kept, .. } = state;
        let Some(stay) = self.nodes[n].stays.get_mut(&session) else {
            if let Some(new) = stream {
                self.refuse_stream(new.stream);
            }
            return;
        };
        let mut outstanding: FxHashMap<Arc<str>, u32> = FxHashMap::default();
        stay.leases = kept.iter().map(|(lease, _)| (*lease, 0)).collect();
        stay.mismatches = 0;
        resumed.last_report = stay.durable;
        let has_ended =
            |(lease, verdict): &(u64, Verdict)| (*verdict == Verdict::AlreadyTerminal).then_some(*lease);
        stay.ended_before = resumed.verdicts.iter().filter_map(has_ended).collect();
        for (_, lane) in kept {
            *outstanding.entry(lane).or_default() += 1;
        }
        self.cover.reconciled += 1;
        self.cover.resend_verdicts +=
            resumed.verdicts.iter().filter(|(_, v)| matches!(v, Verdict::ResendResult)).count() as u64;
        let row = stay.session.clone();
        let Some(NewStream { stream, accounts, granted }) = stream else {
            return self.send_down(n, session, Down::Resumed(resumed));
        };
        let assigned = assigned_after(&accounts, &outstanding, granted);
        resumed.assigned = assigned.values().sum();
        self.nodes[n].dispatcher.rejoin(row, &outstanding, &assigned);
        self.attach(n, stream, session);
        let Some(stay) = self.nodes[n].stays.get_mut(&session) else { return };
        if stay.reports.is_empty() {
            stay.last_seq = stay.durable;
        }
        let controls: Vec<_> =
            stay.controls.iter().map(|(no, (lease, why))| (*no, *lease, why.clone())).collect();
        if !controls.is_empty() {
            self.send_down(n, session, Down::Controls(controls));
        }
        let ttl = self.opt.session_ttl;
        self.send_down(n, session, Down::Welcome { session, ttl, resumed: Some(resumed), is_new: false });
    }
}

/// Credit used per lane: what was assigned, less the leases that never arrived. Without an account all that was
/// granted counts as used.
fn assigned_after(
    accounts: &[(Arc<str>, u64, u32)],
    kept: &FxHashMap<Arc<str>, u32>,
    granted: u64,
) -> FxHashMap<Arc<str>, u64> {
    if accounts.is_empty() {
        return [(Arc::from("main"), granted)].into_iter().collect();
    }
    let after = |(lane, assigned, open): &(Arc<str>, u64, u32)| {
        let refunded = open.saturating_sub(kept.get(lane).copied().unwrap_or(0));
        (lane.clone(), assigned.saturating_sub(u64::from(refunded)))
    };
    accounts.iter().map(after).collect()
}
