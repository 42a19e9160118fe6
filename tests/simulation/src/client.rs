//! Clients: they submit, ask again when nobody answered, cancel, retry by hand, wait and look.

use crate::event::{Do, Event};
use crate::rng::Rng;
use crate::rules::PEOPLE;
use crate::wire::{Ask, Caller, Refused, Said, TopicChange, Want, Why};
use crate::world::World;
use crate::{clock::WALL_START_MS, workload};
use coretex_domain::approval::{ApprovalId, Choice};
use coretex_domain::job::{Spec, State};
use coretex_domain::{Job, JobId, Payload, Time};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How many times a call that may be given up is tried.
const TRIES_MAX: u32 = 6;
/// Jobs of one key in a flood; more than are unparked at a time.
const FLOOD: u64 = 110;

/// A wish and how far it got.
pub(crate) struct Wish {
    pub(crate) ask: Ask,
    attempt: u32,
    /// Asking twice makes no second job.
    is_repeatable: bool,
    /// Must be settled, however often it takes.
    is_owed: bool,
    /// Some try ended without anybody knowing how.
    was_unknown: bool,
}

pub(crate) struct Client {
    pub(crate) roll: Rng,
    next_call: u64,
    pub(crate) wishes: BTreeMap<u64, Wish>,
    /// Submits that were answered, to be sent again.
    past: Vec<Ask>,
    jobs: Vec<JobId>,
    names: u64,
}

impl Client {
    pub(crate) fn new(roll: Rng) -> Client {
        Client { roll, next_call: 0, wishes: BTreeMap::new(), past: Vec::new(), jobs: Vec::new(), names: 0 }
    }

    pub(crate) fn changes_topics(&self) -> bool {
        self.wishes.values().any(|w| matches!(w.ask, Ask::Topic { .. }))
    }

    pub(crate) fn owes(&self) -> bool {
        self.wishes.values().any(|w| w.is_owed)
    }
}

impl World {
    pub(crate) fn on_client(&mut self, c: usize, act: Do) {
        match act {
            Do::Next => {
                if self.is_calm {
                    return;
                }
                self.wish_something(c);
                let wait = self.clients[c].roll.skewed(2_000, 60_000);
                self.push(self.now + wait, Event::Client { client: c, act: Do::Next });
            }
            Do::Send(call) => self.send_wish(c, call),
            Do::Timeout { call, attempt } => {
                if self.clients[c].wishes.get(&call).is_some_and(|w| w.attempt == attempt) {
                    self.try_again(c, call, false);
                }
            }
        }
    }

    pub(crate) fn wish(&mut self, c: usize, wait: u64, ask: Ask, is_repeatable: bool, is_owed: bool) {
        let client = &mut self.clients[c];
        client.next_call += 1;
        let call = client.next_call;
        client.wishes.insert(call, Wish { ask, attempt: 0, is_repeatable, is_owed, was_unknown: false });
        self.push(self.now + wait, Event::Client { client: c, act: Do::Send(call) });
    }

    fn send_wish(&mut self, c: usize, call: u64) {
        let node = self.believed_owner(c, false);
        let Some(wish) = self.clients[c].wishes.get_mut(&call) else { return };
        wish.attempt += 1;
        let attempt = wish.attempt;
        let ask = wish.ask.clone();
        let patience = match ask {
            Ask::Wait { .. } => 30_000,
            _ => self.clients[c].roll.between(2_000, 12_000),
        };
        self.send_call(Caller::Client { client: c, call }, node, &ask);
        self.push(self.now + patience, Event::Client { client: c, act: Do::Timeout { call, attempt } });
    }

    /// Asks the same again, or gives up. `is_sure`: the try that failed did nothing.
    fn try_again(&mut self, c: usize, call: u64, is_sure: bool) {
        let is_calm = self.is_calm;
        let client = &mut self.clients[c];
        let Some(wish) = client.wishes.get_mut(&call) else { return };
        let gives_up = wish.attempt >= TRIES_MAX && !wish.is_owed;
        if gives_up || (!is_sure && !wish.is_repeatable) {
            client.wishes.remove(&call);
            return;
        }
        if !is_sure && !wish.was_unknown {
            wish.was_unknown = true;
            self.cover.unknown_calls += 1;
        }
        let most = if is_calm { 1_000 } else { 500 << wish.attempt.min(5) };
        // A try that is over is not timed out as well.
        wish.attempt += 1;
        let wait = client.roll.between(20, most);
        self.push(self.now + wait, Event::Client { client: c, act: Do::Send(call) });
    }

    /// The node a client or worker talks to next: mostly the right one.
    pub(crate) fn believed_owner(&mut self, who: usize, is_worker: bool) -> usize {
        let roll = if is_worker { &mut self.workers[who].roll } else { &mut self.clients[who].roll };
        if roll.chance(8_500)
            && let Some(owner) = self.owner
        {
            return owner;
        }
        roll.index(self.nodes.len())
    }

    pub(crate) fn on_said(&mut self, to: Caller, _node: usize, said: Option<Said>) {
        let Caller::Client { client: c, call } = to else { return };
        let Some(wish) = self.clients[c].wishes.get(&call) else { return };
        let (was_unknown, is_topic) = (wish.was_unknown, matches!(wish.ask, Ask::Topic { .. }));
        let Some(said) = said else {
            if is_topic {
                // Who changes settings and goes away does not come back to look.
                self.clients[c].wishes.remove(&call);
                return;
            }
            return self.try_again(c, call, false);
        };
        match said {
            Said::Refused(Refused::Unknown) => self.try_again(c, call, false),
            Said::Refused(Refused::Definite(why)) => match why {
                Why::NotOwner | Why::NotReady | Why::StoreFull | Why::Store | Why::Overloaded => {
                    self.try_again(c, call, true);
                }
                Why::Decided => self.next_round(c, call),
                Why::Barred | Why::Conflict | Why::NotFound | Why::Terminal | Why::NotTerminal => {
                    self.clients[c].wishes.remove(&call);
                }
            },
            Said::Submitted(answers) => {
                let ask = wish.ask.clone();
                let is_open = |a: &Result<_, Refused>| {
                    matches!(a, Err(Refused::Unknown | Refused::Definite(Why::Store | Why::Overloaded)))
                };
                if answers.iter().any(is_open) {
                    return self.try_again(c, call, false);
                }
                self.clients[c].wishes.remove(&call);
                self.clients[c].past.push(ask);
                for (job, _) in answers.into_iter().flatten() {
                    if job.state == State::AwaitingApproval {
                        self.ask_people(c, &job);
                    }
                    self.follow_up(c, &job.id);
                }
            }
            Said::Job(job) => {
                let ask = self.clients[c].wishes.remove(&call).map(|w| w.ask);
                if let Some(Ask::Retry { .. }) = ask {
                    self.follow_up(c, &job.id);
                }
            }
            Said::Run(_) | Said::Voted(_) | Said::Explained | Said::TopicSet | Said::Reported => {
                drop(self.clients[c].wishes.remove(&call))
            }
        }
        if was_unknown && !self.clients[c].wishes.contains_key(&call) {
            self.cover.unknown_calls_resolved += 1;
        }
    }

    /// What a client does with a job it has: look at once, wait, cancel, retry once it has ended.
    fn follow_up(&mut self, c: usize, id: &JobId) {
        let client = &mut self.clients[c];
        client.jobs.push(id.clone());
        let roll = client.roll.below(100);
        let wait = client.roll.skewed(1, 20_000);
        match roll {
            0..=19 => self.wish(c, 0, Ask::Get { job: id.clone() }, true, false),
            20..=34 => self.wish(c, wait, Ask::Cancel { job: id.clone() }, true, true),
            35..=44 => self.wish(c, wait, Ask::Wait { job: id.clone() }, true, false),
            45..=49 => self.wish(c, wait, Ask::Explain { job: id.clone() }, true, false),
            _ => {}
        }
    }

    /// A job whose handler makes as many jobs as it may, and tries for more.
    pub(crate) fn wish_swarm(&mut self, c: usize) {
        let body = format!("swarm {}", self.clients[c].roll.below(2));
        let mut spec = Spec::new("plain", Payload::json(body.into_bytes()));
        spec.options_mut().retry.max_attempts = Some(10);
        let wants = vec![Want { spec: Arc::new(spec), job_id: Some(JobId::Named("swarm".into())) }];
        self.wish(c, 0, Ask::Submit { request_id: None, wants }, true, true);
    }

    /// A few jobs that people are asked about.
    pub(crate) fn wish_asked(&mut self, c: usize) {
        let client = &mut self.clients[c];
        client.names += 1;
        let body = |n: u64| Payload::json(format!("work {n}").into_bytes());
        let wants = (0..client.roll.between(1, 5))
            .map(|n| Want { spec: Arc::new(Spec::new("asked", body(n))), job_id: None })
            .collect();
        let request_id = Some(Arc::from(format!("ask{c}.{}", client.names)));
        self.wish(c, 0, Ask::Submit { request_id, wants }, true, true);
    }

    /// People vote on a job: some twice, some for others, some late, some who may not, some with another input.
    pub(crate) fn ask_people(&mut self, c: usize, job: &Job) {
        let requester = job.submitter().unwrap_or_default().to_owned();
        for _ in 0..self.clients[c].roll.below(7) {
            let roll = &mut self.clients[c].roll;
            let person = |roll: &mut Rng| match roll.chance(500) {
                true => Arc::from(requester.as_str()),
                false => Arc::from(*roll.pick(&PEOPLE)),
            };
            let id = ApprovalId { round: job.approval_round(), job_id: job.id.clone() };
            let (voter, wait) = (person(roll), roll.skewed(10, 40_000));
            let ask = match roll.below(100) {
                0..=9 => Ask::Delegate { id, to: person(roll), voter },
                10..=19 => Ask::Vote { id, voter, choice: Choice::Reject, edited: None },
                20..=34 => {
                    let edited = Some(Payload::json(format!("work {}", roll.below(5)).into_bytes()));
                    Ask::Vote { id, voter, choice: Choice::Approve, edited }
                }
                _ => Ask::Vote { id, voter, choice: Choice::Approve, edited: None },
            };
            self.wish(c, wait, ask, true, false);
        }
    }

    /// Whoever comes too late for one round says it to the next, if there is one.
    fn next_round(&mut self, c: usize, call: u64) {
        let Some(wish) = self.clients[c].wishes.remove(&call) else { return };
        let Ask::Vote { id, voter, choice, edited } = wish.ask else { return };
        let wait = self.clients[c].roll.skewed(10, 10_000);
        let id = ApprovalId { round: id.round + 1, ..id };
        self.wish(c, wait, Ask::Vote { id, voter, choice, edited }, true, false);
    }

    fn wish_something(&mut self, c: usize) {
        let roll = self.clients[c].roll.below(100);
        match roll {
            0..=9 if !self.clients[c].past.is_empty() => self.say_again(c),
            10..=24 if !self.clients[c].jobs.is_empty() => {
                let client = &mut self.clients[c];
                let job = match client.roll.chance(1_000) {
                    // One it found in a list: it may be a child.
                    true => {
                        self.store.recent(client.roll.below(30)).unwrap_or_else(|| client.jobs[0].clone())
                    }
                    false => client.roll.pick(&client.jobs).clone(),
                };
                if client.roll.chance(1_000) {
                    return self.wish(c, 0, Ask::Cancel { job }, true, false);
                }
                let client = &mut self.clients[c];
                client.names += 1;
                let request_id = format!("retry{c}.{}", client.names).into();
                self.wish(c, 0, Ask::Retry { job, request_id }, true, false);
            }
            _ => self.wish_submit(c),
        }
    }

    /// The same request once more, sometimes with another body under the same key.
    fn say_again(&mut self, c: usize) {
        let client = &mut self.clients[c];
        let mut ask = client.roll.pick(&client.past).clone();
        if client.roll.chance(2_000)
            && let Ask::Submit { wants, .. } = &mut ask
        {
            for want in wants {
                let mut spec = (*want.spec).clone();
                spec.priority = (spec.priority + 1) % 10;
                want.spec = Arc::new(spec);
            }
        }
        let is_repeatable = is_repeatable(&ask);
        if is_repeatable {
            self.wish(c, 0, ask, true, true);
        }
    }

    fn wish_submit(&mut self, c: usize) {
        let wall = Time(WALL_START_MS + self.now);
        let client = &mut self.clients[c];
        let count = client.roll.skewed(1, 6);
        let how = client.roll.below(100);
        client.names += 1;
        let request = client.names;
        let mut wants = Vec::new();
        for index in 0..count {
            let mut spec = workload::spec(&mut client.roll, wall, 4);
            let mut job_id = None;
            match how {
                0..=29 => {
                    let key = workload::key(&mut client.roll, c, request * 100 + index);
                    spec.options_mut().idempotency_key = Some(key);
                }
                30..=44 => job_id = Some(JobId::Named(format!("job-{c}-{request}-{index}").into())),
                45..=54 => {
                    job_id = Some(JobId::Named(format!("both-{c}-{request}-{index}").into()));
                    spec.options_mut().idempotency_key = Some(format!("b{c}.{request}.{index}").into());
                }
                _ => {}
            }
            wants.push(Want { spec: Arc::new(spec), job_id });
        }
        let request_id = (how < 90).then(|| Arc::from(format!("req{c}.{request}")));
        let ask = Ask::Submit { request_id, wants };
        let is_repeatable = is_repeatable(&ask);
        self.wish(c, 0, ask, is_repeatable, is_repeatable);
    }

    /// Many jobs of one key at once, and many of them cancelled while they wait. True if the cancels are meant for
    /// a time without workers, when what waits is back in its queue and cannot start.
    pub(crate) fn flood(&mut self, c: usize, rated: bool) -> bool {
        let after_ttl = self.opt.session_ttl.0 + 7_000;
        let client = &mut self.clients[c];
        let mut wants = Vec::new();
        for index in 0..FLOOD {
            let topic = if rated { "rated" } else { "keyed" };
            let mut spec = Spec::new(topic, coretex_domain::Payload::json("work flood"));
            let options = spec.options_mut();
            if rated {
                options.rate_key = Some("flood".into());
            } else {
                options.concurrency_key = Some("flood".into());
            }
            wants.push(Want {
                spec: Arc::new(spec),
                job_id: Some(JobId::Named(format!("flood:{c}-{index}").into())),
            });
        }
        let in_drought = client.roll.chance(6_000);
        let cancels = client.roll.between(if in_drought { FLOOD - 20 } else { 0 }, FLOOD - 10);
        let from = if in_drought { 0 } else { client.roll.below(FLOOD - cancels) };
        let wait = if in_drought { after_ttl } else { client.roll.between(100, 20_000) };
        self.wish(c, 0, Ask::Submit { request_id: None, wants }, true, true);
        for index in from..from + cancels {
            let job = JobId::Named(format!("flood:{c}-{index}").into());
            self.wish(c, wait, Ask::Cancel { job }, true, false);
        }
        in_drought
    }

    pub(crate) fn set_topic(&mut self, topic: &str, change: TopicChange, wait: u64) {
        if self.clients.is_empty() {
            return;
        }
        self.wish(0, wait, Ask::Topic { name: topic.into(), change }, true, true);
    }
}

fn is_repeatable(ask: &Ask) -> bool {
    match ask {
        Ask::Submit { request_id, wants } => wants.iter().all(|w| {
            request_id.is_some() || w.job_id.is_some() || w.spec.options().idempotency_key.is_some()
        }),
        _ => true,
    }
}
