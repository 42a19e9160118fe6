//! What clients want of runs: started, some twice; signals, some before anybody waits for them; an end, some of them.

use crate::client::Client;
use crate::runs::{RunWish, Starting};
use crate::wire::Ask;
use crate::workflows::{self, SIGNALS};
use crate::world::World;
use coretex_domain::job::{EventKind, StateKind};
use coretex_domain::run::{Run, Signal, Work};
use coretex_domain::{Job, RunId, ShardId};
use coretex_ports::{Group, Write};
use coretex_workflow::model::Kind;
use serde_json::json;
use std::sync::Arc;

const WORKFLOWS_MAX: u64 = 2;
const RUNS_MAX: u64 = 8;
/// Input longer than what is kept in the record of a run.
const PAD: usize = 5_000;
/// In calm times, a run that goes on waiting is told so often what it may wait for, then cancelled.
const TELL_EVERY_MS: u64 = 20_000;
const TOLD_MAX: u64 = 3;

/// Jobs of runs about which people are asked in this group.
pub(crate) fn asked_of_runs(group: &Group) -> Vec<Arc<Job>> {
    let is_asked = |job: &Job, fresh: usize| {
        let fresh = job.history.iter().rev().take(fresh);
        job.of_run().is_some()
            && job.state.kind() == StateKind::AwaitingApproval
            && fresh.into_iter().any(|entry| entry.event.kind() == EventKind::ApprovalRequested)
    };
    let of_run = |write: &Write| match write {
        Write::Job { job, fresh } if is_asked(job, *fresh as usize) => Some(job.clone()),
        _ => None,
    };
    group.writes.iter().filter_map(of_run).collect()
}

fn signal(roll: &mut crate::rng::Rng, name: &str, no: u64) -> Signal {
    Signal {
        id: if roll.chance(8_000) { format!("signal-{no}").into() } else { "".into() },
        name: name.into(),
        data: json!({ "n": roll.below(12) }).to_string().into(),
        actor: "".into(),
    }
}

impl World {
    /// Workflows of this seed, and when runs of them are started, told and cancelled.
    pub(crate) fn draw_runs(&mut self) {
        if self.clients.is_empty() {
            return;
        }
        let mut roll = self.roll_runs.clone();
        let names = (0..roll.between(1, WORKFLOWS_MAX)).map(|n| Arc::<str>::from(format!("flow{n}")));
        let plans: Vec<_> = names.map(|name| (name.clone(), workflows::draw(&mut roll, &name))).collect();
        let end = self.opt.duration.0.max(6_000);
        // In half of the seeds they come close together.
        let (from, within) = match roll.chance(5_000) {
            true => (roll.between(1_000, end / 2), end / 20),
            false => (1_000, end * 3 / 4),
        };
        for no in 0..roll.between(1, RUNS_MAX) {
            let (workflow, _) = roll.pick(&plans).clone();
            let starting = starting(&mut roll, workflow, no);
            let at = from + roll.below(within);
            self.want_run(&mut roll, starting, no, at);
        }
        self.plans = Arc::new(plans.into_iter().collect());
        self.oracle.plans = self.plans.clone();
        self.roll_runs = roll;
    }

    fn want_run(&mut self, roll: &mut crate::rng::Rng, starting: Starting, no: u64, at: u64) {
        let c = roll.index(self.clients.len());
        let run_id = starting.run_id.clone();
        let mut want = |at: u64, wish: RunWish, is_repeatable: bool, is_owed: bool| {
            self.wish(c, at, Ask::Run(wish), is_repeatable, is_owed);
        };
        if roll.chance(4_000) {
            // The same again; or another under the same name.
            let mut again = starting.clone();
            if roll.chance(2_000) {
                again.input["n"] = 100.into();
            }
            want(at + roll.skewed(1, 60_000), RunWish::Start(Arc::new(again)), true, true);
        }
        want(at, RunWish::Start(Arc::new(starting)), true, true);
        for n in 0..roll.below(7) {
            let name = *roll.pick(&SIGNALS);
            let signal = signal(roll, name, no * 100 + n);
            let at = at + roll.skewed(1, 120_000);
            let is_repeatable = !signal.id.is_empty();
            if is_repeatable && roll.chance(3_000) {
                let wish = RunWish::Signal { run_id: run_id.clone(), signal: signal.clone() };
                want(at + roll.skewed(1, 20_000), wish, true, false);
            }
            // Another right behind it: one may be looked at while the other comes.
            if roll.chance(3_000) {
                let signal = self::signal(roll, name, no * 100 + n + 50);
                let wish = RunWish::Signal { run_id: run_id.clone(), signal };
                want(at + roll.below(30), wish, false, false);
            }
            want(at, RunWish::Signal { run_id: run_id.clone(), signal }, is_repeatable, is_repeatable);
        }
        if roll.chance(2_000) {
            let wish = RunWish::Cancel { run_id: run_id.clone(), is_for_newer: false };
            want(at + roll.skewed(1, 120_000), wish, true, true);
        }
        if roll.chance(3_000) {
            want(at + roll.skewed(1, 60_000), RunWish::Get { run_id: run_id.clone() }, true, false);
            want(at + roll.skewed(1, 60_000), RunWish::Explain { run_id }, true, false);
        }
    }

    /// People vote on what a run asks.
    pub(crate) fn ask_people_of_run(&mut self, job: &Job) {
        if !self.clients.is_empty() {
            let c = self.roll_runs.index(self.clients.len());
            self.ask_people(c, job);
        }
    }

    /// Faults are over: runs that wait for what nobody will send are told it, and ended if that does not help. True
    /// if no run is open. One that does not wait for anybody is left alone: it has to end by itself.
    pub(crate) fn settle_runs(&mut self, spent: u64) -> bool {
        let open: Vec<Arc<Run>> = self.store.open_runs().cloned().collect();
        if spent.is_multiple_of(TELL_EVERY_MS) && !self.clients.iter().any(Client::owes) {
            let is_stuck = |run: &&Arc<Run>| self.oracle.waits_for_others(run, &self.store);
            let waiting: Vec<_> = open.iter().filter(is_stuck).collect();
            for run in waiting {
                let run_id = run.id().clone();
                if spent / TELL_EVERY_MS > TOLD_MAX {
                    let wish = RunWish::Cancel { run_id, is_for_newer: false };
                    self.wish(0, 0, Ask::Run(wish), true, true);
                    continue;
                }
                for name in names_waited_for(run, &self.plans) {
                    let id = format!("calm-{spent}-{name}").into();
                    let data = json!({ "n": 11 }).to_string().into();
                    let signal = Signal { id, name, data, actor: "".into() };
                    let wish = RunWish::Signal { run_id: run_id.clone(), signal };
                    self.wish(0, 0, Ask::Run(wish), true, true);
                }
            }
        }
        open.is_empty()
    }
}

fn names_waited_for(run: &Run, plans: &crate::hands::Plans) -> Vec<Arc<str>> {
    let Some(plan) = plans.get(&run.plea.workflow) else { return Vec::new() };
    let waits = run.open_steps().filter(|(_, step)| matches!(step.work, Some(Work::Signal { .. })));
    let name = |at| match &plan.step(run, at)?.step.kind {
        Kind::WaitEvent(wait) => Some(wait.name.clone()),
        _ => None,
    };
    let mut names: Vec<_> = waits.filter_map(|(at, _)| name(at)).collect();
    names.sort();
    names.dedup();
    names
}

fn starting(roll: &mut crate::rng::Rng, workflow: Arc<str>, no: u64) -> Starting {
    let run_id = match roll.chance(5_000) {
        true => RunId::make(0, roll.wide(), ShardId((roll.bits() & 0xff) as u8)),
        false => RunId::parse(&format!("run_chosen-{no}"))
            .unwrap_or_else(|_| RunId::make(0, u128::from(no), ShardId(0))),
    };
    let list: Vec<u64> = (0..roll.below(4)).collect();
    let pad = if roll.chance(4_000) { "x".repeat(PAD) } else { String::new() };
    let key = if roll.chance(7_000) { "a" } else { "b" };
    let input = json!({ "n": roll.below(9), "list": list, "key": key, "pad": pad });
    let name = *roll.pick(&SIGNALS);
    let signal = roll.chance(2_000).then(|| signal(roll, name, 90_000 + no));
    Starting { run_id, workflow, input, signal }
}
