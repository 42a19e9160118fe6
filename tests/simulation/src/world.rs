//! Everything at once: the queue of events, the actors, and the loop that lets one thing happen after another.

use crate::client::Client;
use crate::cover::Cover;
use crate::event::{Due, Event};
use crate::fault::Fault;
use crate::hands::Plans;
use crate::net::{Cut, Stream};
use crate::node::{EXCUSE_MS, Node};
use crate::options::Options;
use crate::oracle::Oracle;
use crate::pipe::Underway;
use crate::planted::Shell;
use crate::rng::Rng;
use crate::rules::Figures;
use crate::store::SimStore;
use crate::worker::Worker;
use crate::workload::{HOUSE, TOPICS};
use coretex_domain::policy::Policy;
use coretex_domain::time::Now;
use coretex_domain::{Namespace, ShardId, Time};
use coretex_kernel::Retentions;
use rustc_hash::FxHashMap;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;

/// Trace lines kept for a failure.
const TRACE_KEPT: usize = 400_000;
/// Characters of a trace line.
const LINE_MAX: usize = 240;
/// The latest a timer may fire while nothing is disturbed.
const LAG_MAX_MS: u64 = 5_000;
/// Events after which a run is called endless.
const EVENTS_MAX: u64 = 2_000_000;

pub(crate) struct World {
    pub(crate) opt: Options,
    pub(crate) now: u64,
    queue: BinaryHeap<Due>,
    next_no: u64,
    pub(crate) store: SimStore,
    pub(crate) underway: BTreeMap<u64, Underway>,
    pub(crate) next_commit: u64,
    pub(crate) nodes: Vec<Node>,
    /// The node that owns the store, or is about to.
    pub(crate) owner: Option<usize>,
    pub(crate) streams: FxHashMap<u64, Stream>,
    pub(crate) next_stream: u64,
    pub(crate) cuts: Vec<Cut>,
    pub(crate) workers: Vec<Worker>,
    pub(crate) clients: Vec<Client>,
    pub(crate) namespace: Namespace,
    pub(crate) topics: Vec<Arc<str>>,
    pub(crate) policy: Arc<Policy>,
    pub(crate) figures: Figures,
    /// The workflows of this run.
    pub(crate) plans: Arc<Plans>,
    pub(crate) retentions: Arc<Retentions>,
    pub(crate) next_exec: u64,
    pub(crate) slow_until: u64,
    pub(crate) full_until: u64,
    pub(crate) is_calm: bool,
    pub(crate) is_over: bool,
    pub(crate) calm_since: u64,
    pub(crate) settled_since: Option<u64>,
    pub(crate) chance: Rng,
    pub(crate) roll_net: Rng,
    pub(crate) roll_store: Rng,
    pub(crate) roll_plan: Rng,
    pub(crate) roll_runs: Rng,
    pub(crate) oracle: Oracle,
    pub(crate) cover: Cover,
    trace: VecDeque<String>,
    hash: u64,
}

/// What a run came to.
pub struct Outcome {
    pub violation: Option<String>,
    pub hash: u64,
    pub trace: Vec<String>,
    pub cover: Cover,
}

impl World {
    pub(crate) fn new(opt: Options) -> World {
        let seed = opt.seed;
        let mut plan = Rng::new(seed, 2);
        let skews = opt.faults.has(Fault::ClockSkew);
        let mut offset = || if skews { plan.between(0, 600_000) as i64 - 300_000 } else { 0 };
        let nodes = (0..opt.nodes).map(|_| Node::new(offset())).collect();
        let workers = (0..opt.workers).map(|w| Worker::new(w, Rng::new(seed, 100 + w as u64))).collect();
        let clients = (0..opt.clients).map(|c| Client::new(Rng::new(seed, 200 + c as u64))).collect();
        let figures = Figures::draw(&mut Rng::new(seed, 8));
        let mut store = SimStore::new();
        store.takes_old_epochs = opt.has(Shell::EpochNotChecked);
        World {
            now: 0,
            queue: BinaryHeap::new(),
            next_no: 0,
            store,
            underway: BTreeMap::new(),
            next_commit: 0,
            nodes,
            owner: Some(0),
            streams: FxHashMap::default(),
            next_stream: 0,
            cuts: Vec::new(),
            workers,
            clients,
            namespace: Namespace::new("sim"),
            topics: TOPICS.iter().chain(&HOUSE).map(|t| Arc::from(*t)).collect(),
            policy: Arc::new(figures.policy(1)),
            figures,
            plans: Arc::default(),
            retentions: Arc::default(),
            next_exec: 0,
            slow_until: 0,
            full_until: 0,
            is_calm: false,
            is_over: false,
            calm_since: 0,
            settled_since: None,
            chance: Rng::new(seed, 3),
            roll_net: Rng::new(seed, 4),
            roll_store: Rng::new(seed, 5),
            roll_plan: plan,
            roll_runs: Rng::new(seed, 9),
            oracle: Oracle::new(&opt),
            cover: Cover::default(),
            trace: VecDeque::new(),
            hash: seed,
            opt,
        }
    }

    /// Runs to the end, or to the first broken promise.
    pub(crate) fn run(mut self) -> Outcome {
        self.begin();
        while let Some(Due { at, event, .. }) = self.queue.pop() {
            if let Some(until) = self.postponed(&event, at) {
                self.push(until, event);
                continue;
            }
            self.now = at;
            self.cover.events += 1;
            self.hash_in(at ^ event.mark().rotate_left(24));
            if self.opt.trace {
                let line: String = format!("{event:?}").chars().take(LINE_MAX).collect();
                self.trace(|| line);
            }
            self.happen(event);
            if self.cover.events > EVENTS_MAX {
                self.oracle.violate("I-22", || "the run does not end: something loops".into());
            }
            if self.oracle.violation.is_some() || self.is_over {
                break;
            }
        }
        self.cover.sim_ms = self.now;
        self.cover.acked = self.oracle.acked_count();
        Outcome {
            violation: self.oracle.violation.take(),
            hash: self.hash,
            trace: self.trace.into_iter().collect(),
            cover: self.cover,
        }
    }

    /// A paused process does nothing; what reaches it waits.
    fn postponed(&self, event: &Event, at: u64) -> Option<u64> {
        let node = match event {
            Event::Loop { node, .. }
            | Event::Answered { node, .. }
            | Event::Claim { node, .. }
            | Event::Beat { node, .. }
            | Event::Sessions { node, .. }
            | Event::Step { node, .. }
            | Event::Hang { node, .. }
            | Event::Task { node, .. }
            | Event::Call { node, .. } => *node,
            Event::Up { stream, .. } | Event::NodeLost { stream } => self.streams.get(stream)?.node,
            Event::Arrive { .. }
            | Event::Said { .. }
            | Event::Down { .. }
            | Event::WorkerLost { .. }
            | Event::Worker { .. }
            | Event::Client { .. }
            | Event::Boot { .. }
            | Event::Plan(_)
            | Event::Calm
            | Event::CalmCheck => return None,
        };
        Some(self.nodes[node].paused_until).filter(|until| *until > at)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Loop { node, boot, who } if self.is(node, boot) => self.on_loop(node, who),
            Event::Answered { node, boot, life, who, no, outcome } if self.is(node, boot) => {
                self.on_answered(node, life, who, no, outcome);
            }
            Event::Claim { node, boot } if self.is(node, boot) => self.on_claim(node),
            Event::Beat { node, boot, epoch } if self.is(node, boot) => self.on_beat(node, epoch),
            Event::Sessions { node, boot } if self.is(node, boot) => self.on_sessions(node),
            Event::Step { node, boot, call } if self.is(node, boot) => self.on_step(node, call),
            Event::Hang { node, boot, call } if self.is(node, boot) => self.on_hang(node, call),
            Event::Task { node, boot, task } if self.is(node, boot) => self.on_task(node, task),
            Event::Loop { .. }
            | Event::Task { .. }
            | Event::Answered { .. }
            | Event::Claim { .. }
            | Event::Beat { .. }
            | Event::Sessions { .. }
            | Event::Step { .. }
            | Event::Hang { .. } => {}
            Event::Arrive { commit } => self.on_arrive(commit),
            Event::Call { node, from, ask } => {
                if self.nodes[node].is_alive() {
                    self.on_call(node, from, *ask);
                } else {
                    self.hang_up(node, from);
                }
            }
            Event::Said { to, node, said } => self.on_said(to, node, said.map(|s| *s)),
            Event::Up { stream, frame } => {
                let is_open = |s: &&Stream| {
                    s.is_open_at_node
                        && !s.eats_up
                        && self.is(s.node, s.boot)
                        && self.nodes[s.node].is_alive()
                };
                if self.streams.get(&stream).filter(is_open).is_some() {
                    self.on_up(stream, *frame);
                }
            }
            Event::Down { stream, frame } => {
                let open = self.streams.get(&stream).filter(|s| s.is_open_at_worker && !s.eats_down);
                if let Some(worker) = open.map(|s| s.worker)
                    && self.workers[worker].stream == Some(stream)
                {
                    self.on_down(worker, *frame);
                }
            }
            Event::NodeLost { stream } => self.on_node_lost(stream),
            Event::WorkerLost { stream } => self.on_worker_lost(stream),
            Event::Worker { worker, process, act } => {
                if self.workers[worker].process == process {
                    self.on_act(worker, act);
                }
            }
            Event::Client { client, act } => self.on_client(client, act),
            Event::Boot { node } => self.on_boot(node),
            Event::Plan(plan) => self.on_plan(plan),
            Event::Calm => self.calm(),
            Event::CalmCheck => self.calm_check(),
        }
    }

    fn is(&self, node: usize, boot: u32) -> bool {
        self.nodes[node].boot == boot
    }

    pub(crate) fn push(&mut self, at: u64, event: Event) {
        self.next_no += 1;
        self.queue.push(Due { at: at.max(self.now), no: self.next_no, event });
    }

    /// Whether a fault of this kind happens here; counts it if so.
    pub(crate) fn strikes(&mut self, fault: Fault) -> bool {
        let strikes = !self.is_calm && self.opt.faults.has(fault);
        if strikes {
            self.cover.strike(fault);
        }
        strikes
    }

    pub(crate) fn clock_of(&mut self, node: usize) -> Now {
        let (now, node) = (self.now, &mut self.nodes[node]);
        node.clock.now(now, node.offset)
    }

    pub(crate) fn loop_of(&self, shard: ShardId) -> usize {
        usize::from(shard.0) % self.opt.loops
    }

    pub(crate) fn hash_in(&mut self, value: u64) {
        self.hash = crate::rng::mix(self.hash.rotate_left(5) ^ value);
    }

    pub(crate) fn trace(&mut self, line: impl FnOnce() -> String) {
        if self.opt.trace {
            let line = format!("{:>9} {}", self.now, line());
            if self.trace.len() == TRACE_KEPT {
                self.trace.pop_front();
            }
            self.trace.push_back(line);
        }
    }

    /// How late the earliest timer of a loop is, if nothing excuses it.
    pub(crate) fn note_lag(&mut self, n: usize, who: usize, wall: Time) {
        let is_quiet = self.now >= self.nodes[n].excused_until && self.now >= self.slow_until + EXCUSE_MS;
        if let (true, Some(due)) = (is_quiet, self.nodes[n].loops[who].view.next_due()) {
            let lag = wall.since(due).0;
            self.cover.timer_lag_max = self.cover.timer_lag_max.max(lag);
            if lag > LAG_MAX_MS {
                self.oracle.violate("I-21", || format!("a timer of node {n} loop {who} fires {lag} ms late"));
            }
        }
    }
}
