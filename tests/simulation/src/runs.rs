//! Calls about runs, as the engine answers them: looked up first, brought back where they wait in the store.

use crate::calls::{Call, Flow};
use crate::hands::whole;
use crate::node::{Got, Mail, Node, ReplyTo};
use crate::wire::{Caller, Refused, Said, Why};
use crate::world::World;
use coretex_domain::run::{Plea, RunState, Signal, Value};
use coretex_domain::{Run, RunId, Span};
use coretex_kernel::TAKEN;
use coretex_kernel::input::{Configs, Input, Reply, StartRun};
use coretex_workflow::{Piece, Pieces};
use serde_json::Value as Json;
use std::sync::Arc;

/// Look-ups, or attempts to bring a run back, before a call is refused.
const TRIES_MAX: u32 = 8;
/// Input longer than this is a part of its own.
const INLINE_MAX: usize = coretex_domain::limits::RUN_INLINE_MAX;

/// What is wanted of a run.
#[derive(Clone, Debug)]
pub(crate) enum RunWish {
    Start(Arc<Starting>),
    Cancel { run_id: RunId, is_for_newer: bool },
    Signal { run_id: RunId, signal: Signal },
    Get { run_id: RunId },
    Explain { run_id: RunId },
}

/// A run to be started. The client knows its name: it follows from its key.
#[derive(Clone, Debug)]
pub(crate) struct Starting {
    pub(crate) run_id: RunId,
    pub(crate) workflow: Arc<str>,
    pub(crate) input: Json,
    pub(crate) signal: Option<Signal>,
}

/// A call about a run under way.
pub(crate) struct RunFlow {
    pub(crate) wish: RunWish,
    tries: u32,
    stage: Stage,
}

enum Stage {
    /// Looked up; sent to its loop next.
    Ready(Option<Box<StartRun>>),
    Asked,
    /// Read from the store, given to its loop next.
    Bringing(Option<Arc<Run>>),
    Loading,
}

// === impl RunWish ===

impl RunWish {
    pub(crate) fn run_id(&self) -> &RunId {
        match self {
            RunWish::Start(starting) => &starting.run_id,
            RunWish::Cancel { run_id, .. }
            | RunWish::Signal { run_id, .. }
            | RunWish::Get { run_id }
            | RunWish::Explain { run_id } => run_id,
        }
    }
}

// === impl Starting ===

impl Starting {
    /// Names the request.
    pub(crate) fn fingerprint(&self) -> u128 {
        let text = format!("{}\0{}", self.workflow, self.input);
        text.bytes().fold(1, |sum, byte| {
            let mixed = crate::rng::mix(u64::from(byte) ^ (sum as u64));
            sum.rotate_left(11) ^ u128::from(mixed) ^ u128::from(byte) << 64
        })
    }
}

// === impl RunFlow ===

impl RunFlow {
    pub(crate) fn new(wish: RunWish) -> RunFlow {
        RunFlow { wish, tries: 0, stage: Stage::Asked }
    }

    fn of(node: &mut Node, call: u64) -> Option<&mut RunFlow> {
        match &mut node.calls.get_mut(&call)?.flow {
            Flow::Run(flow) => Some(flow),
            _ => None,
        }
    }
}

// === impl World ===

impl World {
    /// Begins a call, or begins it anew after something changed under it.
    pub(crate) fn run_begin(&mut self, n: usize, call: u64) {
        let exec = self.nodes[n].calls.get(&call).map_or(0, |c| c.exec);
        let Some(flow) = RunFlow::of(&mut self.nodes[n], call) else { return };
        flow.tries += 1;
        if flow.tries > TRIES_MAX {
            return self.run_done(n, call, Said::Refused(Refused::Definite(Why::Overloaded)));
        }
        let wish = flow.wish.clone();
        let RunWish::Start(starting) = &wish else {
            flow.stage = Stage::Ready(None);
            return self.run_step(n, call);
        };
        let who = self.loop_of(starting.run_id.shard(&self.namespace));
        let looked_at = self.nodes[n].loops.get(who).map_or(0, |l| l.departed);
        let stored = self.store.run(&self.namespace, &starting.run_id).cloned();
        if let Some(run) = stored {
            return self.run_met(n, call, starting, run);
        }
        let Some(start) = self.start_of(n, starting, format!("e{exec}").into(), looked_at) else {
            return self.run_done(n, call, Said::Refused(Refused::Definite(Why::NotFound)));
        };
        if let Some(flow) = RunFlow::of(&mut self.nodes[n], call) {
            flow.stage = Stage::Ready(Some(Box::new(start)));
        }
        self.step_later(n, call);
    }

    /// A run that is there already hears the signal that came with the start.
    fn run_met(&mut self, n: usize, call: u64, starting: &Starting, run: Arc<Run>) {
        if run.plea.fingerprint != starting.fingerprint() {
            return self.run_done(n, call, Said::Refused(Refused::Definite(Why::Conflict)));
        }
        match starting.signal.clone().filter(|_| !run.is_over()) {
            Some(signal) => {
                let run_id = starting.run_id.clone();
                if let Some(flow) = RunFlow::of(&mut self.nodes[n], call) {
                    flow.wish = RunWish::Signal { run_id, signal };
                }
                self.run_begin(n, call);
            }
            None => self.run_done(n, call, Said::Run(run)),
        }
    }

    fn start_of(
        &mut self,
        n: usize,
        starting: &Starting,
        actor: Arc<str>,
        looked_at: u64,
    ) -> Option<StartRun> {
        let now = self.clock_of(n).wall;
        let plan = self.plans.get(&starting.workflow)?.clone();
        let text: Arc<str> = starting.input.to_string().into();
        let input = match text.len() {
            n if n > INLINE_MAX => Value::Apart(n as u32),
            _ => Value::Here(text.clone()),
        };
        let mut plea = Plea {
            id: starting.run_id.clone(),
            namespace: self.namespace.clone(),
            workflow: plan.workflow.clone(),
            version: plan.version,
            input,
            labels: Vec::new(),
            actor,
            fingerprint: starting.fingerprint(),
            deadline: plan.definition.timeout.map(|span: Span| now + span),
            concurrency: None,
            has_config: false,
            lineage: None,
        };
        if let Some(concurrency) = &plan.definition.concurrency {
            let mut pieces = Pieces::default();
            pieces.insert(Piece::Input, Arc::new(starting.input.clone()));
            let run = Run::made(Arc::new(plea.clone()), now);
            let key = plan.concurrency_key(&run, &pieces).ok().flatten()?;
            plea.concurrency = Some((key.into(), concurrency.limit));
        }
        let on_conflict = plan.definition.concurrency.as_ref().map(|one| one.on_conflict).unwrap_or_default();
        Some(StartRun {
            plea,
            plan,
            configs: Configs::default(),
            input: text.as_bytes().to_vec().into(),
            on_conflict,
            signal: starting.signal.clone(),
            kept: Vec::new(),
            looked_at,
        })
    }

    /// Sends the call on to the loop of its run.
    pub(crate) fn run_step(&mut self, n: usize, call: u64) {
        let namespace = self.namespace.clone();
        let exec = self.nodes[n].calls.get(&call).map_or(0, |c| c.exec);
        let Some(flow) = RunFlow::of(&mut self.nodes[n], call) else { return };
        let run_id = flow.wish.run_id().clone();
        let shard = run_id.shard(&namespace);
        let input = match std::mem::replace(&mut flow.stage, Stage::Asked) {
            Stage::Ready(Some(start)) => Input::StartRun(start),
            Stage::Ready(None) => match &flow.wish {
                RunWish::Start(_) => return,
                RunWish::Cancel { is_for_newer, .. } => {
                    let (reason, actor) = match is_for_newer {
                        true => (TAKEN, "system:run".into()),
                        false => ("sim", format!("e{exec}").into()),
                    };
                    Input::CancelRun { namespace, run_id, reason: reason.into(), actor }
                }
                RunWish::Signal { signal, .. } => {
                    let signal = Signal { actor: format!("e{exec}").into(), ..signal.clone() };
                    Input::SignalRun { namespace, run_id, signal }
                }
                RunWish::Get { .. } => Input::GetRun { namespace, run_id },
                RunWish::Explain { .. } => Input::ExplainRun { namespace, run_id },
            },
            Stage::Bringing(found) => {
                flow.stage = Stage::Loading;
                match found.and_then(|run| whole(&self.plans, run)) {
                    Some(rest) => Input::LoadRun(Box::new(rest)),
                    None => return self.run_begin(n, call),
                }
            }
            Stage::Asked | Stage::Loading => return,
        };
        let who = self.loop_of(shard);
        self.post(n, who, Mail::Decide(input, ReplyTo::Call(call)));
    }

    /// What the loop of a run answered.
    pub(crate) fn run_got(&mut self, n: usize, call: u64, got: Got) {
        let namespace = self.namespace.clone();
        let Some(flow) = RunFlow::of(&mut self.nodes[n], call) else { return };
        let run_id = flow.wish.run_id().clone();
        let said = match got {
            Got::Failed(refused) => Said::Refused(refused),
            Got::Reply(Reply::None) if matches!(flow.stage, Stage::Loading) => {
                return self.run_begin(n, call);
            }
            Got::Reply(Reply::RunAway) => {
                let found = self.store.run(&namespace, &run_id).filter(|run| !run.is_over()).cloned();
                self.cover.runs_brought += 1;
                if let Some(flow) = RunFlow::of(&mut self.nodes[n], call) {
                    flow.stage = Stage::Bringing(found);
                }
                return self.step_later(n, call);
            }
            Got::Reply(Reply::StartAgain(_)) => {
                self.cover.looked_again += 1;
                return self.run_begin(n, call);
            }
            Got::Reply(Reply::Started(Ok((run, _))) | Reply::Run(Ok(run))) => Said::Run(run),
            Got::Reply(Reply::Started(Err(refusal)) | Reply::Run(Err(refusal))) => {
                self.cover.run_refused(&refusal);
                Said::Refused(Refused::Definite(Why::Conflict))
            }
            Got::Reply(Reply::Explained(_)) => Said::Explained,
            Got::Reply(Reply::NotOpen) => self.run_not_open(n, call),
            Got::Reply(_) | Got::Submitted(_) | Got::LookAgain(_) | Got::Rows | Got::Ended(_) => {
                Said::Refused(Refused::Unknown)
            }
        };
        self.run_done(n, call, said);
    }

    /// The loop does not have it: the store tells how it ended, if there was such a run.
    fn run_not_open(&mut self, n: usize, call: u64) -> Said {
        let Some(flow) = RunFlow::of(&mut self.nodes[n], call) else {
            return Said::Refused(Refused::Unknown);
        };
        let wish = flow.wish.clone();
        let Some(run) = self.store.run(&self.namespace, wish.run_id()).cloned() else {
            return Said::Refused(Refused::Definite(Why::NotFound));
        };
        let is_as_wanted = match &wish {
            RunWish::Start(_) => false,
            RunWish::Cancel { .. } => run.state() == RunState::Cancelled,
            RunWish::Signal { signal, .. } => !signal.id.is_empty() && run.signal_ids.contains(&signal.id),
            RunWish::Get { .. } | RunWish::Explain { .. } => true,
        };
        match is_as_wanted {
            true => Said::Run(run),
            // It was made after the loop was asked.
            false if !run.is_over() => Said::Refused(Refused::Unknown),
            false => Said::Refused(Refused::Definite(Why::Terminal)),
        }
    }

    fn run_done(&mut self, n: usize, call: u64, said: Said) {
        let Some(Call { from, exec, flow }) = self.nodes[n].calls.remove(&call) else { return };
        if let (Said::Run(run), Flow::Run(flow)) = (&said, &flow) {
            self.oracle.on_run_told(&flow.wish, run, &self.store);
        }
        if from != Caller::Nobody {
            self.say(n, from, exec, said);
        }
    }
}
