//! What runs ask to be done beside their loop, as the engine does it: values read and worked out, runs brought back,
//! a run ended for a newer one. Each lives as long as its process, and tries until it has been done.

use crate::calls::Flow;
use crate::event::Event;
use crate::node::{Mail, ReplyTo};
use crate::runs::{RunFlow, RunWish};
use crate::store::SimStore;
use crate::wire::Caller;
use crate::world::World;
use bytes::Bytes;
use coretex_domain::run::{At, Part, Value};
use coretex_domain::{Job, Namespace, Run, RunId, Time};
use coretex_kernel::input::{Configs, Evaluate, Evaluated, Input, LoadRun};
use coretex_kernel::value_of;
use coretex_workflow::{Bound, Piece, Pieces, Plan};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A read in so many of ten thousand fails and is made again.
const READ_FAILS: u32 = 300;

/// Plans by the name of their workflow.
pub(crate) type Plans = BTreeMap<Arc<str>, Arc<Plan>>;

/// Something under way in a process.
#[derive(Debug)]
pub(crate) enum Task {
    Evaluate(Box<Evaluate>),
    Load {
        namespace: Namespace,
        run_id: RunId,
    },
    /// It was read; its loop is told.
    Bring(Arc<Run>),
}

impl World {
    /// Does it after a read that takes its time.
    pub(crate) fn begin_task(&mut self, n: usize, task: Task) {
        let at = self.now + self.store_wait();
        let node = &mut self.nodes[n];
        node.next_task += 1;
        let (task_no, boot) = (node.next_task, node.boot);
        node.tasks.insert(task_no, task);
        self.push(at, Event::Task { node: n, boot, task: task_no });
    }

    pub(crate) fn on_task(&mut self, n: usize, task: u64) {
        let Some(task) = self.nodes[n].tasks.remove(&task) else { return };
        if !self.is_calm && self.roll_runs.chance(READ_FAILS) {
            self.cover.run_reads_failed += 1;
            return self.begin_task(n, task);
        }
        match task {
            Task::Evaluate(asked) => {
                let who = self.loop_of(asked.run.shard);
                let wall = self.clock_of(n).wall;
                let found = work_out(&self.store, &asked, wall);
                self.cover.evaluated += 1;
                self.post(n, who, Mail::Decide(Input::Evaluated(Box::new(found)), ReplyTo::Nobody));
            }
            Task::Load { namespace, run_id } => {
                let found = self.store.run(&namespace, &run_id).filter(|run| !run.is_over()).cloned();
                if let Some(run) = found {
                    self.begin_task(n, Task::Bring(run));
                }
            }
            Task::Bring(run) => {
                let who = self.loop_of(run.shard);
                if let Some(rest) = whole(&self.plans, run) {
                    self.cover.runs_loaded += 1;
                    self.post(n, who, Mail::Decide(Input::LoadRun(Box::new(rest)), ReplyTo::Nobody));
                }
            }
        }
    }

    /// A run ends for a newer one. Nobody waits for the answer.
    pub(crate) fn take_place(&mut self, n: usize, run_id: RunId) {
        let flow = RunFlow::new(RunWish::Cancel { run_id, is_for_newer: true });
        let call = self.nodes[n].add_call(Caller::Nobody, 0, Flow::Run(Box::new(flow)));
        self.run_begin(n, call);
    }
}

/// A run with what it needs. Workflows do not change here.
pub(crate) fn whole(plans: &Plans, run: Arc<Run>) -> Option<LoadRun> {
    let plan = plans.get(&run.plea.workflow)?.clone();
    Some(LoadRun { run, plan, configs: Configs::default() })
}

fn work_out(store: &SimStore, asked: &Evaluate, now: Time) -> Evaluated {
    let wanted = asked.plan.pieces(&asked.run, &asked.site);
    let mut pieces = Pieces::default();
    for piece in wanted {
        let known = asked.at_hand.iter().find(|(known, _)| *known == piece);
        let value = match known {
            Some((_, data)) => value_of(data),
            None => read(store, &asked.plan, &asked.run, piece),
        };
        pieces.insert(piece, Arc::new(value));
    }
    let items = pieces.iter().find_map(|(piece, value)| match piece {
        Piece::Items(at) if value.is_array() => Some((*at, value.clone())),
        _ => None,
    });
    let decided = asked.plan.decide(&asked.run, &asked.site, &pieces, (now, Bound::Beside));
    Evaluated { run: asked.run.key(), site: asked.site, decided, items }
}

/// Where what is not in the record of a run is found.
pub(crate) trait Apart {
    fn part(&self, run: &Run, part: &Part) -> Option<Bytes>;
    fn job(&self, run: &Run, path: &str) -> Option<Arc<Job>>;
}

impl Apart for SimStore {
    fn part(&self, run: &Run, part: &Part) -> Option<Bytes> {
        SimStore::part(self, run, part)
    }

    fn job(&self, run: &Run, path: &str) -> Option<Arc<Job>> {
        self.find(&run.plea.namespace, &run.id().job(path)).cloned()
    }
}

/// A piece of a run as the store has it.
pub(crate) fn read(store: &impl Apart, plan: &Plan, run: &Run, piece: Piece) -> Json {
    let apart = |part: Part| store.part(run, &part).map_or(Json::Null, |body| value_of(&body));
    let kept = |value: &Value, part: Part| match value {
        Value::Here(text) => value_of(text.as_bytes()),
        Value::Apart(_) => apart(part),
    };
    match piece {
        Piece::Config => Json::Null,
        Piece::Input => kept(&run.plea.input, Part::Input),
        Piece::Items(at) => apart(Part::Items(at)),
        Piece::Step(at) => output_of(run, at).map_or(Json::Null, |value| kept(value, Part::Step(at))),
        Piece::Result(at, index) => {
            let job = store.job(run, &plan.job_path(run, at, index, false));
            let result = job.as_ref().and_then(|job| job.result.as_ref());
            result.map_or(Json::Null, |result| value_of(&result.data))
        }
    }
}

fn output_of(run: &Run, at: At) -> Option<&Value> {
    run.step(at)?.more.as_ref()?.output.as_ref()
}
