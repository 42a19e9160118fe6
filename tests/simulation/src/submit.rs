//! Submit as the engine does it: ids chosen, keys claimed, repeats looked up, jobs sent to their loops.

use crate::calls::{Call, Flow};
use crate::node::{Got, Mail, Node, ReplyTo};
use crate::planted::Shell;
use crate::sessions::{kind_of, usage_of};
use crate::wire::{Caller, Refused, Said, Token, Want, Why, Word};
use crate::world::World;
use coretex_domain::{Job, JobId, Namespace, SessionId, ShardId};
use coretex_kernel::input::{Input, LeaseRef, NewJob, Origin, Reply, Submit, Update};
use std::collections::VecDeque;
use std::sync::Arc;

/// Look-ups before a submit that keeps meeting departing jobs is refused.
const LOOKS_MAX: u32 = 4;

type One = Result<(Arc<Job>, bool), Refused>;

/// A submit under way: first the keys, then part by part.
pub(crate) struct SubmitFlow {
    claims: VecDeque<(usize, NewJob)>,
    /// The key row found for the claim at the front.
    claiming: Option<Option<(JobId, u128)>>,
    parts: Vec<(Vec<NewJob>, Vec<usize>)>,
    who: usize,
    /// The part on its way, looked up and not yet posted.
    ready: Option<Submit>,
    looks: u32,
    answers: Vec<Option<One>>,
    has_committed: bool,
}

/// The id that (namespace, request id, index) always gives.
pub(crate) fn derived_id(namespace: &Namespace, request_id: &str, index: usize, shard: ShardId) -> JobId {
    let text = format!("{}\0{request_id}\0{index}", namespace.as_str());
    let mut bits: u128 = 0;
    for (n, byte) in text.bytes().enumerate() {
        bits = bits.rotate_left(7) ^ u128::from(crate::rng::mix(u64::from(byte) + ((n as u64) << 8)));
    }
    let chance = (bits & ((1 << 62) - 1)) | ((index as u128 & 0xfff) << 62);
    JobId::make(0, chance, shard)
}

impl World {
    pub(crate) fn submit(
        &mut self,
        n: usize,
        from: Caller,
        exec: u64,
        request: Option<Arc<str>>,
        wants: Vec<Want>,
    ) {
        if self.now < self.full_until {
            return self.say(n, from, exec, Said::Refused(Refused::Definite(Why::StoreFull)));
        }
        let any_shard = ShardId((self.chance.bits() & 0xff) as u8);
        let mut flow = SubmitFlow {
            claims: VecDeque::new(),
            claiming: None,
            parts: (0..self.opt.loops).map(|_| Default::default()).collect(),
            who: 0,
            ready: None,
            looks: 0,
            answers: vec![None; wants.len()],
            has_committed: false,
        };
        for (index, want) in wants.into_iter().enumerate() {
            let new = self.name(n, want, request.as_deref(), index, any_shard);
            if new.origin == Origin::Chosen && new.spec.options().idempotency_key.is_some() {
                flow.claims.push_back((index, new));
            } else {
                self.file(&mut flow, index, new);
            }
        }
        let call = self.nodes[n].add_call(from, exec, Flow::Submit(Box::new(flow)));
        self.submit_next(n, call);
    }

    fn file(&self, flow: &mut SubmitFlow, index: usize, new: NewJob) {
        let part = &mut flow.parts[self.loop_of(new.id.shard(&self.namespace))];
        part.0.push(new);
        part.1.push(index);
    }

    fn name(&mut self, n: usize, want: Want, request: Option<&str>, index: usize, any: ShardId) -> NewJob {
        let now = self.clock_of(n).wall.0;
        let chance = self.chance.wide();
        let namespace = &self.namespace;
        let Want { spec, job_id } = want;
        let made = |shard| JobId::make(now, chance, shard);
        let options = spec.options();
        let (id, origin) = if let Some(id) = job_id {
            (id, Origin::Chosen)
        } else if let Some(key) = &options.idempotency_key {
            (made(ShardId::of(&[namespace.as_str(), key])), Origin::Keyed)
        } else {
            let by_key = options.concurrency_key.as_ref().map(|key| ShardId::of(&[namespace.as_str(), key]));
            match request {
                Some(request) => {
                    let shard = by_key.unwrap_or_else(|| ShardId::of(&[namespace.as_str(), request]));
                    (derived_id(namespace, request, index, shard), Origin::Derived)
                }
                None => (made(by_key.unwrap_or(any)), Origin::Fresh),
            }
        };
        NewJob { id, spec, origin, known: None, retry_of: None, config: None, family: None, of_run: None }
    }

    fn flow_of(node: &mut Node, id: u64) -> Option<&mut SubmitFlow> {
        match node.calls.get_mut(&id) {
            Some(Call { flow: Flow::Submit(flow), .. }) => Some(flow),
            _ => None,
        }
    }

    /// Reads what the next step needs; the step itself comes when the read has taken its time.
    fn submit_next(&mut self, n: usize, id: u64) {
        let departed: Vec<u64> = self.nodes[n].loops.iter().map(|l| l.departed).collect();
        let actor = self.nodes[n].calls.get(&id).map(|c| format!("e{}", c.exec).into_boxed_str());
        let namespace = self.namespace.clone();
        let Some(flow) = Self::flow_of(&mut self.nodes[n], id) else { return };
        if let Some((_, new)) = flow.claims.front() {
            let key = new.spec.options().idempotency_key.clone().unwrap_or_default();
            flow.claiming = Some(self.store.keys.get(&key).map(|row| (row.job_id.clone(), row.fingerprint)));
            return self.step_later(n, id);
        }
        while flow.who < flow.parts.len() && flow.parts[flow.who].0.is_empty() {
            flow.who += 1;
        }
        if flow.who >= flow.parts.len() {
            let unknown = || Err(Refused::Unknown);
            let answers = flow.answers.iter_mut().map(|a| a.take().unwrap_or_else(unknown)).collect();
            return self.submit_done(n, id, Said::Submitted(answers));
        }
        let items = std::mem::take(&mut flow.parts[flow.who].0);
        let looked_at = departed.get(flow.who).copied().unwrap_or(0);
        let mut submit = Submit { namespace, actor, items, looked_at };
        look_up(&self.store, &mut submit);
        flow.ready = Some(submit);
        self.step_later(n, id);
    }

    pub(crate) fn submit_step(&mut self, n: usize, id: u64) {
        let namespace = self.namespace.clone();
        let Some(flow) = Self::flow_of(&mut self.nodes[n], id) else { return };
        if let (Some(known), Some((_, new))) = (flow.claiming.take(), flow.claims.front()) {
            let key = new.spec.options().idempotency_key.clone().unwrap_or_default();
            let (job_id, fingerprint) = (new.id.clone(), new.spec.fingerprint());
            let home = usize::from(ShardId::of(&[namespace.as_str(), &key]).0) % self.opt.loops;
            let input = Input::ClaimKey { namespace, key, job_id, fingerprint, known };
            return self.post(n, home, Mail::Decide(input, ReplyTo::Call(id)));
        }
        if let Some(submit) = flow.ready.take() {
            let who = flow.who;
            self.post(n, who, Mail::Decide(Input::Submit(submit), ReplyTo::Call(id)));
        }
    }

    pub(crate) fn submit_got(&mut self, n: usize, id: u64, got: Got) {
        let Some(flow) = Self::flow_of(&mut self.nodes[n], id) else { return };
        match got {
            Got::Reply(Reply::KeyNames(first, fingerprint)) => {
                let Some((index, new)) = flow.claims.pop_front() else { return };
                if fingerprint != new.spec.fingerprint() {
                    flow.answers[index] = Some(Err(Refused::Definite(Why::Conflict)));
                } else if first != new.id {
                    let found = self.store.find(&self.namespace, &first).cloned();
                    flow.answers[index] = Some(found.map(|job| (job, true)).ok_or(Refused::Unknown));
                } else {
                    let part = &mut flow.parts[usize::from(new.id.shard(&self.namespace).0) % self.opt.loops];
                    part.0.push(new);
                    part.1.push(index);
                }
            }
            Got::Submitted(answers) => {
                let indexes = std::mem::take(&mut flow.parts[flow.who].1);
                for (index, answer) in indexes.into_iter().zip(answers) {
                    flow.answers[index] = Some(answer);
                }
                flow.has_committed = true;
                flow.who += 1;
                flow.looks = 0;
            }
            Got::LookAgain(submit) => {
                self.cover.looked_again += 1;
                flow.looks += 1;
                flow.parts[flow.who].0 = submit.items;
                if flow.looks >= LOOKS_MAX {
                    return self.part_refused(n, id, Refused::Definite(Why::Overloaded));
                }
            }
            Got::Failed(refused) => return self.part_refused(n, id, refused),
            Got::Reply(_) | Got::Rows | Got::Ended(_) => return,
        }
        self.submit_next(n, id);
    }

    /// A part failed. Parts before it are committed, so the answer is given job by job.
    fn part_refused(&mut self, n: usize, id: u64, refused: Refused) {
        let says_all = self.opt.has(Shell::BatchHalfRefused);
        let Some(flow) = Self::flow_of(&mut self.nodes[n], id) else { return };
        if says_all || !flow.has_committed {
            return self.submit_done(n, id, Said::Refused(refused));
        }
        for (_, indexes) in &flow.parts[flow.who..] {
            for index in indexes {
                flow.answers[*index] = Some(Err(refused));
            }
        }
        flow.who = flow.parts.len();
        self.submit_next(n, id);
    }

    fn submit_done(&mut self, n: usize, id: u64, said: Said) {
        let Some(call) = self.nodes[n].calls.get(&id) else { return };
        let (from, exec) = (call.from, call.exec);
        self.finish(n, id, from, exec, said);
    }

    /// Results without a stream: by token, from anywhere.
    pub(crate) fn report_by_token(&mut self, n: usize, from: Caller, exec: u64, said: Vec<(Token, Word)>) {
        let loops = self.opt.loops;
        let mut parts: Vec<Vec<Update>> = (0..loops).map(|_| Vec::new()).collect();
        for (token, word) in said {
            let lease = LeaseRef::Token { job: token.job, serial: token.serial };
            let usage = usage_of(&word);
            parts[usize::from(token.shard) % loops].push(Update { lease, kind: kind_of(word), usage });
        }
        let left = parts.iter().filter(|p| !p.is_empty()).count();
        let flow = Flow::Report { left, rejected: Vec::new() };
        let call = self.nodes[n].add_call(from, exec, flow);
        for (who, updates) in parts.into_iter().enumerate().filter(|(_, p)| !p.is_empty()) {
            let input = Input::Report { session: SessionId(0), updates };
            self.post(n, who, Mail::Decide(input, ReplyTo::Call(call)));
        }
    }

    pub(crate) fn token_report_got(&mut self, n: usize, id: u64, got: Got) {
        let Some(Call { flow: Flow::Report { left, rejected }, from, exec }) =
            self.nodes[n].calls.get_mut(&id)
        else {
            return;
        };
        let (from, exec) = (*from, *exec);
        match got {
            Got::Reply(Reply::Reported(part)) => {
                *left -= 1;
                rejected.extend(part.iter().map(|r| (r.index, r.code)));
                part.iter().for_each(|r| self.cover.rejected(r.code));
                if *left > 0 {
                    return;
                }
                self.finish(n, id, from, exec, Said::Reported);
            }
            Got::Failed(refused) => self.finish(n, id, from, exec, Said::Refused(refused)),
            _ => {}
        }
    }
}

/// Asks the store for jobs that earlier requests made. Jobs of one request were made in one group, so if the
/// first derived id is unknown, so are the others.
fn look_up(store: &crate::store::SimStore, submit: &mut Submit) {
    let mut first_derived = None;
    for item in &mut submit.items {
        let read = |id: &JobId| store.find(&submit.namespace, id).map(|job| (job.clone(), job.fingerprint()));
        item.known = match item.origin {
            Origin::Fresh => None,
            Origin::Chosen => read(&item.id),
            Origin::Derived => {
                if first_derived == Some(false) {
                    None
                } else {
                    let found = read(&item.id);
                    first_derived.get_or_insert(found.is_some());
                    found
                }
            }
            Origin::Keyed => {
                let key = item.spec.options().idempotency_key.clone().unwrap_or_default();
                let row = store.keys.get(&key);
                row.and_then(|row| {
                    let job = store.find(&submit.namespace, &row.job_id)?;
                    Some((job.clone(), row.fingerprint))
                })
            }
        };
    }
}
