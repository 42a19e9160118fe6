//! Handlers that ask: what they ask is a function of their job, so that every attempt asks the same.

use crate::event::Act;
use crate::rng::Rng;
use crate::wire::{Brood, Question, Up, Word};
use crate::worker::Stage;
use crate::world::World;
use coretex_domain::job::Spec;
use coretex_domain::receipt::Told;
use coretex_domain::{Job, Payload, Reason, Span};
use serde_json::{Value as Json, json};
use std::collections::VecDeque;
use std::sync::Arc;

/// Where children of a swarm stand in time: they end with their parent long before.
const FAR: Span = Span::hours(3);
/// One of so many families is a chain: each job makes the next one, as deep as jobs may go.
const CHAIN_EVERY: u64 = 50;
/// More than one job may make, in questions and in children.
const SWARM_SPAWNS: usize = 258;
const SWARM_WIDE: usize = 17;
/// Longer than what is kept at hand of a result.
const PAD: usize = 4_500;
const SWARM_CHILDREN: usize = 256;

/// What a handler still has to ask.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    left: VecDeque<Question>,
    /// Number of the question at the front.
    ask_id: u64,
    /// It is after the limits, and does not give up on the way.
    is_patient: bool,
}

// === impl Script ===

impl Script {
    /// The body says it: `family N` asks and spawns, `swarm N` spawns more than it may.
    pub(crate) fn of(job: &Job) -> Script {
        let body = body_of(job);
        let mut words = body.split(' ');
        let kind = words.next().unwrap_or_default();
        let number: u64 = words.next().and_then(|n| n.parse().ok()).unwrap_or(0);
        let left = match kind {
            "family" if number.is_multiple_of(CHAIN_EVERY) => chain(job, number),
            "family" => family(number, job.depth()),
            "swarm" => swarm(job, number),
            _ => return Script::default(),
        };
        let is_patient = kind == "swarm" || number.is_multiple_of(CHAIN_EVERY);
        Script { left, ask_id: 1, is_patient }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.left.is_empty()
    }
}

/// What a job is to do, in words. Steps of runs say it in JSON.
pub(crate) fn body_of(job: &Job) -> String {
    let text = String::from_utf8_lossy(&job.spec.payload.data).into_owned();
    if job.of_run().is_none() {
        return text;
    }
    let words = |value: &Json| value.as_str().map(str::to_owned);
    let said = serde_json::from_str::<Json>(&text).unwrap_or_default();
    let keys = ["do", "message", "data"];
    words(&said).or_else(|| keys.iter().find_map(|key| words(&said[*key]))).unwrap_or_default()
}

/// What a step of a run gives: the same in every attempt, and by whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gift(u64);

impl Gift {
    pub(crate) fn of(job: &Job) -> Option<Gift> {
        job.of_run()?;
        Some(Gift(crate::rng::mix(job.key().0 as u64)))
    }

    /// Sometimes more than a run keeps at hand.
    pub(crate) fn given(self, by: &str) -> String {
        let n = self.0 % 9;
        let list: Vec<u64> = (0..self.0 / 9 % 5).collect();
        let pad = "x".repeat(if (self.0 / 45).is_multiple_of(8) { PAD } else { 0 });
        json!({ "by": by, "n": n, "list": list, "pad": pad }).to_string()
    }
}

/// A few questions: how much may be used, and children with and without budgets.
fn family(number: u64, depth: u32) -> VecDeque<Question> {
    let mut roll = Rng::new(number, 300 + u64::from(depth));
    let question = |nth: u64| {
        if roll.chance(3_000) {
            return Question::Tokens(roll.between(1, 80));
        }
        let specs = (0..roll.between(1, 3)).map(|_| child(&mut roll)).collect();
        // Two questions of one job may have one name: the second is then another one, and refused.
        let name = if roll.chance(1_500) { "again".into() } else { format!("s{nth}").into() };
        Question::Spawn(Arc::new(Brood { name, specs, close_with_parent: roll.chance(6_000) }))
    };
    let count = Rng::new(number, 299).between(1, 3);
    (0..count).map(question).collect()
}

fn child(roll: &mut Rng) -> Arc<Spec> {
    let topic = match roll.below(20) {
        0..=12 => "plain",
        13 | 14 => "metered",
        15..=17 => "deep",
        18 => "asked",
        _ => "sys.destroy.all",
    };
    let body = match roll.below(10) {
        // One that is no chain.
        0 | 1 => format!("family {}", roll.below(1_000) * CHAIN_EVERY + 1),
        2 => "fail 1".into(),
        _ => "work 1".into(),
    };
    let mut spec = Spec::new(topic, Payload::json(body.into_bytes()));
    if roll.chance(8_500) {
        spec.options_mut().budget.max_tokens = Some(roll.between(1, 60));
    }
    Arc::new(spec)
}

fn chain(job: &Job, number: u64) -> VecDeque<Question> {
    let mut spec = Spec::new("plain", job.spec.payload.clone());
    spec.options_mut().retry.max_attempts = Some(20);
    let close_with_parent = (number / CHAIN_EVERY).is_multiple_of(2);
    let brood = Brood { name: "next".into(), specs: vec![Arc::new(spec)], close_with_parent };
    [Question::Spawn(Arc::new(brood))].into()
}

/// More spawns than a job may have, or more children than may end with one.
fn swarm(job: &Job, number: u64) -> VecDeque<Question> {
    let (spawns, count) =
        if number.is_multiple_of(2) { (SWARM_SPAWNS, 1) } else { (SWARM_WIDE, SWARM_CHILDREN) };
    let mut spec = Spec::new("plain", Payload::json("work 1"));
    spec.options_mut().schedule_time = Some(job.create_time + FAR);
    let spec = Arc::new(spec);
    let brood = |n: usize| Brood {
        name: format!("s{n}").into(),
        specs: vec![spec.clone(); count],
        close_with_parent: true,
    };
    (0..spawns).map(|n| Question::Spawn(Arc::new(brood(n)))).collect()
}

// === impl World: handlers at work ===

impl World {
    pub(crate) fn begin_to_ask(&mut self, w: usize, lease: u64) {
        // A question implies the start.
        if self.workers[w].roll.chance(5_000) {
            self.say_of(w, lease, Word::Started);
        }
        self.ask_again(w, lease);
        // Some do not wait for their answers: the lease may be closed when the question is decided.
        let worker = &mut self.workers[w];
        let is_patient = worker.leases.get(&lease).is_none_or(|h| h.script.is_patient);
        if !is_patient && worker.roll.chance(2_500) {
            let wait = self.workers[w].roll.skewed(1, 100);
            self.plan_act(w, wait, Act::Work(lease));
        }
    }

    /// Sends the question that is open, for the first time or again.
    pub(crate) fn ask_again(&mut self, w: usize, lease: u64) {
        let worker = &self.workers[w];
        let Some(stream) = worker.stream.filter(|_| worker.is_welcome) else { return };
        let Some(holding) = worker.leases.get(&lease).filter(|h| h.stage == Stage::Running) else { return };
        let Some(question) = holding.script.left.front().cloned() else { return };
        let ask_id = holding.script.ask_id;
        self.send_up(stream, Up::Ask { lease, ask_id, question });
    }

    pub(crate) fn answered(&mut self, w: usize, lease: u64, ask_id: u64, answer: Result<Told, Reason>) {
        let worker = &mut self.workers[w];
        let is_open = |h: &&mut crate::worker::Holding| {
            h.stage == Stage::Running && h.script.ask_id == ask_id && !h.script.is_done()
        };
        let Some(holding) = worker.leases.get_mut(&lease).filter(is_open) else { return };
        if matches!(answer, Err(Reason::Overloaded)) {
            let wait = worker.roll.between(200, 1_000);
            return self.plan_act(w, wait, Act::AskAgain(lease));
        }
        if worker.roll.chance(1_000) {
            // It did not hear that.
            return self.ask_again(w, lease);
        }
        holding.script.left.pop_front();
        holding.script.ask_id += 1;
        if matches!(answer, Err(Reason::StaleLease)) {
            // Not its job any more, or one that is being cancelled: whatever it would ask now is refused as well.
            holding.script.left.clear();
        }
        match holding.script.is_done() {
            true => {
                let wait = worker.roll.skewed(1, 5_000);
                self.plan_act(w, wait, Act::Work(lease));
            }
            false => self.ask_again(w, lease),
        }
    }

    /// Asks under a lease it had once.
    pub(crate) fn ask_late(&mut self, w: usize) {
        let worker = &mut self.workers[w];
        let Some(stream) = worker.stream.filter(|_| worker.is_welcome) else { return };
        let (lease, _) = *worker.roll.pick(&worker.old);
        let question = Question::Tokens(5);
        self.send_up(stream, Up::Ask { lease, ask_id: 1_000, question });
    }
}
