//! Questions of handlers on their node, as the engine takes them: looked up first, decided by the owner of the job,
//! and answered once the answer is committed.

use crate::calls::{Call, Flow};
use crate::node::{Got, Mail, Node, ReplyTo};
use crate::sessions::{shard_of, worker_number};
use crate::wire::{Brood, Caller, Down, Question};
use crate::world::World;
use coretex_domain::job::{Family, Spec};
use coretex_domain::receipt::{Dimension, Grant, Receipt, Spawned, Told};
use coretex_domain::{Job, Reason, SessionId};
use coretex_kernel::input::{Ask, Child, Input, Reply, Spawn};
use std::sync::Arc;

/// Look-ups before a question that keeps meeting reloads is refused.
const LOOKS_MAX: u32 = 4;

/// A question under way.
pub(crate) struct Asking {
    session: SessionId,
    lease: u64,
    ask_id: u64,
    question: Question,
    looks: u32,
    looked_at: u64,
    /// The job of the lease, once that is known.
    job: Option<Arc<Job>>,
    /// Looked up, not yet posted.
    ready: Option<Input>,
}

impl World {
    /// A question comes in. Its answer goes to whatever stream the session has by then.
    pub(crate) fn asked(
        &mut self,
        n: usize,
        session: SessionId,
        lease: u64,
        ask_id: u64,
        question: Question,
    ) {
        let is_same = |call: &Call| matches!(&call.flow, Flow::Ask(a) if (a.session, a.lease, a.ask_id) == (session, lease, ask_id));
        if self.nodes[n].calls.values().any(is_same) {
            return;
        }
        let Some(stay) = self.nodes[n].stays.get(&session) else { return };
        if !stay.leases.contains_key(&lease) {
            self.cover.asks_stale += 1;
            return self.send_down(
                n,
                session,
                Down::Answer { lease, ask_id, answer: Err(Reason::StaleLease) },
            );
        }
        let worker = worker_number(&stay.session.worker_id);
        let asking =
            Asking { session, lease, ask_id, question, looks: 0, looked_at: 0, job: None, ready: None };
        let call = self.nodes[n].add_call(Caller::Worker { worker }, 0, Flow::Ask(Box::new(asking)));
        self.look_for_job(n, call);
    }

    fn asking(node: &mut Node, call: u64) -> Option<&mut Asking> {
        match &mut node.calls.get_mut(&call)?.flow {
            Flow::Ask(asking) => Some(asking),
            _ => None,
        }
    }

    fn look_for_job(&mut self, n: usize, call: u64) {
        let departed: Vec<u64> = self.nodes[n].loops.iter().map(|l| l.departed).collect();
        let loops = self.opt.loops;
        let Some(asking) = Self::asking(&mut self.nodes[n], call) else { return };
        let (session, lease_id) = (asking.session, asking.lease);
        let who = usize::from(shard_of(lease_id).0) % loops;
        asking.looked_at = departed.get(who).copied().unwrap_or(0);
        self.post(n, who, Mail::Decide(Input::JobOfLease { session, lease_id }, ReplyTo::Call(call)));
    }

    /// A loop answered, or a read is done.
    pub(crate) fn ask_got(&mut self, n: usize, call: u64, got: Got) {
        let answer = match got {
            Got::Reply(Reply::Job(Ok(job))) => return self.look_for_receipt(n, call, job),
            Got::Reply(Reply::Told(Some(answer))) => answer.map_err(|refusal| refusal.reason),
            Got::Reply(Reply::Told(None)) => {
                self.cover.looked_again += 1;
                let Some(asking) = Self::asking(&mut self.nodes[n], call) else { return };
                asking.looks += 1;
                if asking.looks < LOOKS_MAX {
                    return self.look_for_job(n, call);
                }
                Err(Reason::Overloaded)
            }
            Got::Reply(_) => Err(Reason::StaleLease),
            Got::Failed(_) => Err(Reason::Overloaded),
            Got::Submitted(_) | Got::LookAgain(_) | Got::Rows | Got::Ended(_) => return,
        };
        self.tell(n, call, answer);
    }

    fn look_for_receipt(&mut self, n: usize, call: u64, job: Arc<Job>) {
        let is_full = self.now < self.full_until;
        let Some(asking) = Self::asking(&mut self.nodes[n], call) else { return };
        let Some(serial) = job.state.lease().map(|lease| lease.serial) else {
            return self.tell(n, call, Err(Reason::StaleLease));
        };
        asking.job = Some(job.clone());
        let (asked, ask_id) = (fingerprint(&asking.question), asking.ask_id);
        let row = self.store.receipts.get(&Receipt::name(&job.id, serial, ask_id));
        if let Some(receipt) = row.and_then(|row| Receipt::of(row)) {
            self.cover.asks_repeated += 1;
            let is_same = receipt.asked == asked;
            return self.tell(
                n,
                call,
                if is_same { Ok(receipt.told) } else { Err(Reason::IdempotencyConflict) },
            );
        }
        if is_full {
            return self.tell(n, call, Err(Reason::Overloaded));
        }
        if let Some(Asking { question: Question::Spawn(brood), .. }) = Self::asking(&mut self.nodes[n], call)
        {
            let is_known = |family: &Family| family.spawns.iter().any(|spawn| spawn.name == brood.name);
            self.cover.spawned_before += u64::from(job.family().is_some_and(is_known));
        }
        let Some(asking) = Self::asking(&mut self.nodes[n], call) else { return };
        asking.ready = Some(input(asking, &job, serial, asked));
        self.step_later(n, call);
    }

    pub(crate) fn ask_step(&mut self, n: usize, call: u64) {
        let loops = self.opt.loops;
        let Some(asking) = Self::asking(&mut self.nodes[n], call) else { return };
        let who = usize::from(shard_of(asking.lease).0) % loops;
        let Some(input) = asking.ready.take() else { return };
        self.post(n, who, Mail::Decide(input, ReplyTo::Call(call)));
    }

    /// What a node answers binds, whether it arrives or not.
    fn tell(&mut self, n: usize, call: u64, answer: Result<Told, Reason>) {
        let Some(Call { flow: Flow::Ask(asking), .. }) = self.nodes[n].calls.remove(&call) else { return };
        let Asking { session, lease, ask_id, question, job, .. } = *asking;
        self.cover.answered(&answer);
        if let Some(job) = &job {
            self.oracle.on_told(job, ask_id, &question, &answer, &self.store);
        }
        self.trace(|| format!("node {n}: ask {ask_id} of lease {lease}: {answer:?}"));
        self.send_down(n, session, Down::Answer { lease, ask_id, answer });
    }
}

fn input(asking: &Asking, job: &Job, serial: u32, asked: u128) -> Input {
    let ask = |told: Told| Ask {
        session: asking.session,
        lease_id: asking.lease,
        job: job.key(),
        looked_at: asking.looked_at,
        receipt: Receipt { serial, ask_id: asking.ask_id, asked, told },
    };
    match &asking.question {
        Question::Tokens(amount) => Input::Ask(Box::new(ask(Told::Grant(Grant {
            dimension: Dimension::Tokens,
            asked: *amount,
            granted: 0,
            remaining: None,
            model: "".into(),
        })))),
        Question::Spawn(brood) => Input::Spawn(Box::new(Spawn {
            ask: ask(Told::Spawned(Spawned { name: brood.name.clone(), jobs: Vec::new() })),
            name: brood.name.clone(),
            children: children(job, brood),
            close_with_parent: brood.close_with_parent,
        })),
    }
}

/// Each names its parent. Alike children are made alike once.
fn children(job: &Job, brood: &Brood) -> Vec<Child> {
    let parent: Arc<str> = job.id.to_string().into();
    let mut last: Option<(&Arc<Spec>, Arc<Spec>)> = None;
    let mut born = |spec| match &last {
        Some((same, born)) if Arc::ptr_eq(same, spec) => born.clone(),
        Some(_) | None => {
            let mut own = Spec::clone(spec);
            own.options_mut().parent_job_id = Some(parent.clone());
            last.insert((spec, Arc::new(own))).1.clone()
        }
    };
    brood.specs.iter().map(|spec| Child { spec: born(spec), config: None }).collect()
}

fn fingerprint(question: &Question) -> u128 {
    match question {
        Question::Tokens(amount) => u128::from(*amount),
        Question::Spawn(brood) => {
            let ends = u128::from(brood.close_with_parent) + 2;
            brood.specs.iter().fold(ends, |sum, spec| sum.rotate_left(9) ^ spec.fingerprint())
        }
    }
}
