//! The timetable of trouble: what strikes when, drawn from the seed before the run begins.

use crate::event::{Act, Do, Event};
use crate::fault::Fault;
use crate::net::{Cut, End};
use crate::rules::Figures;
use crate::wire::TopicChange;
use crate::workload::{self, TOPICS};
use crate::world::World;
use coretex_domain::Span;
use coretex_domain::policy::Policy;
use coretex_kernel::input::Input;
use std::sync::Arc;

/// A loop notices a jump of its wall clock at its next look.
const JUMP_EXCUSE_MS: u64 = 5_000;

/// Trouble to come.
#[derive(Clone, Debug)]
pub(crate) enum Plan {
    Crash {
        node: usize,
        down_for: u64,
    },
    CrashNow {
        node: usize,
        boot: u32,
        down_for: u64,
    },
    Pause {
        node: usize,
        length: u64,
    },
    Jump {
        node: usize,
        by: i64,
    },
    Cut(Cut),
    Break {
        worker: usize,
        half_open: bool,
    },
    SlowStore {
        length: u64,
    },
    FullStore {
        length: u64,
    },
    Worker {
        worker: usize,
        wait: u64,
        forgets: bool,
    },
    Silence {
        worker: usize,
        length: u64,
    },
    Policy {
        is_out: bool,
    },
    PolicyNow {
        is_out: bool,
    },
    PolicyBack,
    Topic {
        topic: usize,
        pause: bool,
    },
    Settings {
        topic: usize,
    },
    Flood {
        rated: bool,
    },
    /// The namespace says for how long it keeps what ends.
    Retention,
    /// A job that makes more jobs than it may.
    Swarm,
    /// All workers are gone for a while.
    Drought,
}

impl World {
    /// Boots the nodes, starts the actors, draws the timetable.
    pub(crate) fn begin(&mut self) {
        if self.nodes.iter().any(|node| node.offset != 0) {
            self.strikes(Fault::ClockSkew);
        }
        self.change_retention();
        for node in 0..self.nodes.len() {
            self.push(0, Event::Boot { node });
        }
        for worker in 0..self.workers.len() {
            let wait = self.roll_plan.between(50, 3_000);
            self.plan_act(worker, wait, Act::Connect);
            self.plan_act(worker, wait + 1, Act::Beat);
        }
        for client in 0..self.clients.len() {
            let wait = self.roll_plan.between(500, 5_000);
            self.push(wait, Event::Client { client, act: Do::Next });
        }
        let mut roll = self.roll_plan.clone();
        for topic in TOPICS {
            if let Some(settings) = workload::settings(topic, &mut roll) {
                self.set_topic(topic, TopicChange::Settings(Box::new(settings)), 100);
            }
        }
        self.roll_plan = roll;
        self.draw();
        self.draw_runs();
        self.push(self.opt.duration.0, Event::Calm);
    }

    fn draw(&mut self) {
        let end = self.opt.duration.0.max(6_000);
        let (nodes, workers) = (self.nodes.len() as u64, self.workers.len() as u64);
        let mut plans: Vec<(u64, Plan)> = Vec::new();
        let mut roll = self.roll_plan.clone();
        let opt = &self.opt;
        for _ in 0..opt.crashes {
            let plan = Plan::Crash { node: roll.below(nodes) as usize, down_for: roll.skewed(200, 30_000) };
            plans.push((roll.between(3_000, end), plan));
        }
        for _ in 0..opt.pauses {
            let length = roll.skewed(1_000, 200_000).min(end / 3);
            plans.push((roll.between(3_000, end), Plan::Pause { node: roll.below(nodes) as usize, length }));
        }
        for _ in 0..opt.jumps {
            let by = roll.skewed(1_000, 3_600_000) as i64 * if roll.chance(5_000) { 1 } else { -1 };
            plans.push((roll.between(3_000, end), Plan::Jump { node: roll.below(nodes) as usize, by }));
        }
        for _ in 0..opt.breaks {
            let (at, node) = (roll.between(3_000, end), roll.below(nodes) as usize);
            if workers > 0 {
                let worker = roll.below(workers) as usize;
                plans.push((at, Plan::Break { worker, half_open: roll.chance(4_000) }));
            }
            let target = roll.below(workers + 4) as usize;
            let cut_end =
                if target < workers as usize { End::Worker(target) } else { End::Client(target % 4) };
            let (is_up, until) = (roll.chance(5_000), at + roll.skewed(500, 30_000));
            plans.push((at, Plan::Cut(Cut { end: cut_end, node, is_up, until })));
        }
        for _ in 0..roll.below(3) {
            plans.push((roll.between(3_000, end), Plan::SlowStore { length: roll.skewed(1_000, 60_000) }));
            plans.push((roll.between(3_000, end), Plan::FullStore { length: roll.skewed(1_000, 30_000) }));
        }
        for _ in 0..roll.below(if workers > 0 { 5 } else { 1 }) {
            let worker = roll.below(workers) as usize;
            let (wait, forgets) = (roll.skewed(200, 40_000), roll.chance(4_000));
            plans.push((roll.between(3_000, end), Plan::Worker { worker, wait, forgets }));
            let (worker, length) = (roll.below(workers) as usize, roll.skewed(3_000, 60_000));
            plans.push((roll.between(3_000, end), Plan::Silence { worker, length }));
        }
        for _ in 0..roll.below(4) {
            plans.push((roll.between(1_000, end), Plan::Policy { is_out: roll.chance(5_000) }));
            let topic = roll.index(TOPICS.len());
            plans.push((roll.between(1_000, end), Plan::Topic { topic, pause: true }));
            plans.push((roll.between(3_000, end), Plan::Settings { topic: roll.index(TOPICS.len()) }));
        }
        if opt.flood {
            plans.push((roll.between(2_000, end), Plan::Flood { rated: roll.chance(5_000) }));
        }
        for _ in 0..roll.below(3) {
            plans.push((roll.between(1_000, end), Plan::Retention));
        }
        if opt.swarm {
            plans.push((roll.between(2_000, end / 2), Plan::Swarm));
        }
        self.roll_plan = roll;
        for (at, plan) in plans {
            self.push(at, Event::Plan(plan));
        }
    }

    pub(crate) fn on_plan(&mut self, plan: Plan) {
        if self.is_calm {
            return;
        }
        match plan {
            Plan::Crash { node, down_for } => {
                // Half of the crashes wait for the worst moment: a group has just been sent.
                match self.roll_plan.chance(5_000) {
                    true => self.nodes[node].doomed = Some(down_for),
                    false => self.crash(node, down_for),
                }
            }
            Plan::CrashNow { node, boot, down_for } => {
                if self.nodes[node].boot == boot {
                    self.crash(node, down_for);
                }
            }
            Plan::Pause { node, length } => self.pause(node, length),
            Plan::Jump { node, by } => {
                let fault = if by > 0 { Fault::ClockForward } else { Fault::ClockBack };
                if self.strikes(fault) {
                    self.nodes[node].offset += by;
                    let now = self.now;
                    self.nodes[node].excuse(now + JUMP_EXCUSE_MS);
                }
            }
            Plan::Cut(cut) => {
                if self.strikes(Fault::Partition) {
                    let now = self.now;
                    self.cuts.retain(|c| c.until > now);
                    self.cuts.push(cut);
                }
            }
            Plan::Break { worker, half_open } => self.break_stream(worker, half_open),
            Plan::SlowStore { length } => {
                if self.strikes(Fault::StoreSlow) {
                    self.slow_until = self.now + length;
                }
            }
            Plan::FullStore { length } => {
                if self.strikes(Fault::StoreFull) {
                    self.full_until = self.now + length;
                }
            }
            Plan::Worker { worker, wait, forgets } => {
                let fault = if forgets { Fault::WorkerForgets } else { Fault::WorkerCrash };
                if self.strikes(fault) {
                    self.restart_worker(worker, wait, forgets);
                }
            }
            Plan::Silence { worker, length } => {
                if self.strikes(Fault::HeartbeatLost) {
                    self.workers[worker].silent_until = self.now + length;
                }
            }
            Plan::Policy { .. }
            | Plan::PolicyNow { .. }
            | Plan::PolicyBack
            | Plan::Topic { .. }
            | Plan::Settings { .. }
            | Plan::Flood { .. }
            | Plan::Swarm
            | Plan::Retention
            | Plan::Drought => self.on_operator_plan(plan),
        }
    }

    /// What operators and clients do to the whole.
    fn on_operator_plan(&mut self, plan: Plan) {
        match plan {
            Plan::Policy { is_out } => {
                // So that people are asked when it changes.
                if !self.clients.is_empty() {
                    self.wish_asked(0);
                }
                let at = self.now + self.roll_plan.between(100, 4_000);
                self.push(at, Event::Plan(Plan::PolicyNow { is_out }));
            }
            Plan::PolicyNow { is_out } => {
                let fault = if is_out { Fault::PolicyOutage } else { Fault::PolicyFlip };
                if self.strikes(fault) {
                    self.flip_policy(is_out);
                }
            }
            Plan::PolicyBack => self.flip_policy(false),
            Plan::Topic { topic, pause } => self.plan_topic(TOPICS[topic], pause),
            Plan::Settings { topic } => self.plan_settings(TOPICS[topic]),
            Plan::Flood { rated } => {
                if !self.clients.is_empty() {
                    let drought = self.flood(0, rated);
                    if drought {
                        self.push(self.now + 3_000, Event::Plan(Plan::Drought));
                    }
                }
            }
            Plan::Retention => self.change_retention(),
            Plan::Swarm => {
                if !self.clients.is_empty() {
                    self.wish_swarm(0);
                }
            }
            Plan::Drought => {
                for worker in 0..self.workers.len() {
                    let wait = self.roll_plan.between(28_000, 35_000);
                    self.restart_worker(worker, wait, false);
                }
            }
            Plan::Crash { .. }
            | Plan::CrashNow { .. }
            | Plan::Pause { .. }
            | Plan::Jump { .. }
            | Plan::Cut(_)
            | Plan::Break { .. }
            | Plan::SlowStore { .. }
            | Plan::FullStore { .. }
            | Plan::Worker { .. }
            | Plan::Silence { .. } => {}
        }
    }

    /// A new version of the policy is in force from here on, or nobody can be asked for a while.
    pub(crate) fn flip_policy(&mut self, is_out: bool) {
        let version = self.policy.version + 1;
        let retry = Span(self.roll_plan.skewed(500, 5_000));
        self.policy = Arc::new(match is_out {
            true => Policy::unreachable(version, retry, "the kernel does not answer"),
            false => {
                if self.roll_plan.chance(5_000) {
                    self.figures = Figures::draw(&mut self.roll_plan);
                }
                self.figures.policy(version)
            }
        });
        self.oracle.on_policy(version, is_out);
        for node in 0..self.nodes.len() {
            for who in 0..self.nodes[node].loops.len() {
                self.nodes[node].loops[who].nudges.push(Input::SetPolicy(self.policy.clone()));
                self.wake(node, who);
            }
        }
        if is_out {
            let at = self.now + self.roll_plan.skewed(2_000, 60_000);
            self.push(at, Event::Plan(Plan::PolicyBack));
        }
    }

    fn change_retention(&mut self) {
        let retention = workload::retention(&mut self.roll_plan);
        self.retentions = Arc::new([(self.namespace.clone(), retention)].into_iter().collect());
        self.oracle.on_retention(retention);
        for node in 0..self.nodes.len() {
            for who in 0..self.nodes[node].loops.len() {
                self.nodes[node].loops[who].nudges.push(Input::SetRetentions(self.retentions.clone()));
                self.wake(node, who);
            }
        }
    }

    fn plan_topic(&mut self, topic: &'static str, pause: bool) {
        if !self.strikes(Fault::TopicPause) {
            return;
        }
        self.set_topic(topic, TopicChange::Pause(pause), 0);
        if pause {
            let wait = self.roll_plan.skewed(1_000, 60_000);
            self.set_topic(topic, TopicChange::Pause(false), wait);
        }
    }

    fn plan_settings(&mut self, topic: &'static str) {
        if self.opt.steady || !self.strikes(Fault::SettingsChange) {
            return;
        }
        let old = self.store.topics.get(topic).map(|t| t.settings.clone()).unwrap_or_default();
        let next = workload::changed(topic, &old, &mut self.roll_plan);
        self.set_topic(topic, TopicChange::Settings(Box::new(next)), 0);
    }
}
