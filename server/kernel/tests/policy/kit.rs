//! One loop with a store of its own: turns commit at once, and what closed leases held is free right after.

use coretex_domain::approval::{Approval, ApprovalId};
use coretex_domain::job::{Failure, Spec, State, StateKind, Usage};
use coretex_domain::policy::{Constraints, Decision, Facts, Policy, Rules, Terms, Throttle, Verdict};
use coretex_domain::receipt::{Receipt, Told};
use coretex_domain::session::{Lane, Session};
use coretex_domain::time::Now;
use coretex_domain::{
    Job, JobId, JobKey, Namespace, Payload, Refusal, Resource, SessionId, ShardId, Span, Time,
};
use coretex_kernel::input::{
    Directive, LeaseRef, NewJob, Origin, Rejected, Stop, Submit, Update, UpdateKind,
};
use coretex_kernel::path::recover::recover;
use coretex_kernel::{Dispatcher, Effect, Input, Reply, Turn, View, Write, decide, dispatch};
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) const START: u64 = 1_700_000_000_000;
const SESSION: SessionId = SessionId(1);

pub(crate) struct Kit {
    pub(crate) view: View,
    pub(crate) dispatcher: Dispatcher,
    pub(crate) now: u64,
    pub(crate) stored: BTreeMap<JobKey, Arc<Job>>,
    /// By job and round.
    pub(crate) approvals: BTreeMap<(JobKey, u32), Arc<Approval>>,
    /// Leases handed out and not closed: job and lease.
    pub(crate) offers: BTreeMap<u64, JobKey>,
    pub(crate) stops: Vec<(u64, Stop)>,
    /// When each job was let in, in order.
    pub(crate) let_in: Vec<(u64, JobKey)>,
    /// What workers were told when they asked.
    pub(crate) receipts: Vec<Arc<Resource>>,
    free: Vec<Input>,
    made: u64,
}

/// Judges by topic: what stands there, or plain allow.
#[derive(Debug)]
pub(crate) struct ByTopic {
    pub(crate) version: u64,
    pub(crate) rules: Vec<(&'static str, Verdict, Terms)>,
}

impl Rules for ByTopic {
    fn judge(&self, facts: Facts<'_>) -> Arc<Decision> {
        let found = self.rules.iter().find(|(topic, ..)| *topic == &*facts.spec.topic);
        let (rule, verdict, terms) = match found {
            Some((topic, verdict, terms)) => (*topic, *verdict, Some(Arc::new(terms.clone()))),
            None => ("default", Verdict::Allow, None),
        };
        Arc::new(Decision {
            verdict,
            rule_id: rule.into(),
            reason: format!("{} asks", facts.actor()).into(),
            remediations: Vec::new(),
            policy: "test".into(),
            policy_version: self.version,
            terms,
        })
    }
}

pub(crate) fn policy(version: u64, rules: Vec<(&'static str, Verdict, Terms)>) -> Arc<Policy> {
    Arc::new(Policy::of(version, Arc::new(ByTopic { version, rules })))
}

pub(crate) fn throttled(limit: u32, per: Span) -> (Verdict, Terms) {
    let throttle = Some(Throttle { limit, per, key: "".into() });
    (Verdict::Throttle, Terms { throttle, ..Terms::default() })
}

pub(crate) fn constrained(limit: impl FnOnce(&mut Constraints)) -> (Verdict, Terms) {
    let mut constraints = Constraints::default();
    limit(&mut constraints);
    (Verdict::AllowWithConstraints, Terms { constraints: Some(constraints), ..Terms::default() })
}

impl Kit {
    pub(crate) fn new(policy: Arc<Policy>) -> Kit {
        let view = View::new(0, policy, Box::new([0; 256]), Time(START));
        Kit {
            view,
            dispatcher: Dispatcher::default(),
            now: START,
            stored: BTreeMap::new(),
            approvals: BTreeMap::new(),
            offers: BTreeMap::new(),
            stops: Vec::new(),
            let_in: Vec::new(),
            receipts: Vec::new(),
            free: Vec::new(),
            made: 0,
        }
    }

    /// A worker with so many slots.
    pub(crate) fn join(&mut self, topics: &[&str], slots: u32) {
        let lane = Lane { lane_id: "l".into(), topics: topics.iter().map(|t| (*t).into()).collect(), slots };
        let session = Arc::new(Session {
            session_id: SESSION,
            epoch: 1,
            namespace: Namespace::new("default"),
            worker_id: "w".into(),
            principal: "".into(),
            pool: "default".into(),
            capabilities: Vec::new(),
            labels: Vec::new(),
            lanes: vec![lane],
            ttl: Span::secs(15),
            sdk: "".into(),
            host: "".into(),
            create_time: Time(START),
            is_polling: false,
        });
        self.dispatcher.join(session, &FxHashMap::default());
        let wakes = self.dispatcher.grant(SESSION, "l", u64::from(slots) * 1_000_000).unwrap();
        self.free.extend(wakes.into_iter().map(|wake| Input::Work(vec![wake.topic])));
        self.turn(Vec::new());
    }

    pub(crate) fn turn(&mut self, inputs: Vec<Input>) -> Vec<Reply> {
        let now = Now { wall: Time(self.now), mono: Time(self.now - START) };
        let mut turn = Turn::new(now, self.now);
        self.view.begin(now.wall);
        let mut replies = Vec::new();
        let first = std::mem::take(&mut self.free);
        for input in std::iter::once(Input::Tick).chain(first).chain(inputs) {
            replies.push(decide(&mut self.view, &mut self.dispatcher, input, &mut turn));
        }
        while dispatch(&mut self.view, &mut self.dispatcher, &mut turn) {}
        let finished = turn.finish(&mut self.view);
        assert!(finished.illegal.is_empty(), "{:?}", finished.illegal);
        let mut touched = Vec::new();
        for write in finished.writes {
            if let Write::Approval(approval) = &write {
                let old = self.approvals.insert((approval.key(), approval.round), approval.clone());
                assert!(old.as_ref().is_none_or(|old| old.is_pending()), "changed after its end: {old:?}");
                assert!(old.is_none_or(|old| old.revision < approval.revision), "{approval:?}");
            }
            if let Write::Resource(row) = &write {
                self.receipts.push(row.clone());
            }
            if let Write::Job { job, fresh } = write {
                let known = job.history.len() - fresh as usize;
                for entry in &job.history[known..] {
                    if entry.event.kind() == coretex_domain::job::EventKind::Admitted {
                        self.let_in.push((entry.time.0 - START, job.key()));
                    }
                }
                assert!(job.is_fold_of_history());
                touched.push(job.key());
                self.stored.insert(job.key(), job);
            }
        }
        touched.iter().for_each(|key| self.check_approvals(*key));
        for effect in finished.effects {
            self.perform(effect);
        }
        replies
    }

    /// A question is open if and only if its job waits for it, and it is the newest of its job.
    fn check_approvals(&self, key: JobKey) {
        let job = &self.stored[&key];
        let rounds = job.approval_round();
        for round in 1..=rounds {
            let approval = &self.approvals[&(key, round)];
            let is_open = round == rounds && job.state == State::AwaitingApproval;
            assert_eq!(approval.is_pending(), is_open, "{approval:?} of {:?}", job.state);
        }
    }

    /// The newest question about a job.
    pub(crate) fn asked(&self, key: JobKey) -> &Arc<Approval> {
        &self.approvals[&(key, self.stored[&key].approval_round())]
    }

    pub(crate) fn approval_id(&self, key: JobKey) -> ApprovalId {
        self.asked(key).id()
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Deliver { lease_id, job, .. } => drop(self.offers.insert(lease_id, job.key())),
            Effect::Stop { lease_id, why, .. } => self.stops.push((lease_id, why)),
            Effect::Closed(closed) => {
                self.offers.remove(&closed.lease_id);
                let wake = self.dispatcher.closed(&closed.topic, closed.session, &closed.lane_id, 1);
                self.free.extend(wake.map(|wake| Input::Work(vec![wake.topic])));
                for (key, holder) in closed.slots() {
                    let told = self.dispatcher.free_slot(key, *holder);
                    self.free.extend(told.into_iter().map(|_| Input::SlotFree(key.clone())));
                }
            }
            Effect::Ended(_)
            | Effect::Judge(_)
            | Effect::Evaluate(_)
            | Effect::LoadRun { .. }
            | Effect::CancelRun { .. }
            | Effect::FreeSlot(..) => {}
        }
    }

    /// Turns until nothing is left to be told.
    pub(crate) fn settle(&mut self) {
        self.turn(Vec::new());
        while !self.free.is_empty() {
            self.turn(Vec::new());
        }
    }

    pub(crate) fn pass(&mut self, span: Span) {
        self.now += span.0;
        self.settle();
    }

    pub(crate) fn submit(&mut self, spec: Spec) -> JobKey {
        self.submit_by(None, spec)
    }

    pub(crate) fn submit_by(&mut self, actor: Option<&str>, spec: Spec) -> JobKey {
        self.made += 1;
        let id = JobId::make(self.now, u128::from(self.made) << 8, ShardId(7));
        let item = NewJob {
            id: id.clone(),
            spec: Arc::new(spec),
            origin: Origin::Fresh,
            known: None,
            retry_of: None,
            config: None,
            family: None,
            of_run: None,
        };
        let namespace = Namespace::new("default");
        let key = id.key(&namespace);
        self.turn(vec![Input::Submit(Submit {
            namespace,
            actor: actor.map(Into::into),
            items: vec![item],
            looked_at: 0,
        })]);
        key
    }

    pub(crate) fn report(&mut self, lease: u64, kind: UpdateKind, usage: Option<Usage>) -> Vec<Rejected> {
        let update = Update { lease: LeaseRef::Id(lease), kind, usage: usage.map(Box::new) };
        let reply = self.turn(vec![Input::Report { session: SESSION, updates: vec![update] }]).pop();
        let Some(Reply::Reported(rejected)) = reply else { panic!("no report: {reply:?}") };
        self.settle();
        rejected
    }

    pub(crate) fn fail(&mut self, lease: u64, usage: Option<Usage>) -> Vec<Rejected> {
        let failure = Failure {
            kind: "Oops".into(),
            message: "no".into(),
            retryable: true,
            details: Payload::empty(),
            stack: "".into(),
        };
        let retry = Directive::After(Span(10));
        self.report(lease, UpdateKind::Failed { failure: Box::new(failure), retry }, usage)
    }

    /// The worker of a job asks something.
    pub(crate) fn ask(&mut self, key: JobKey, ask_id: u64, told: Told) -> Result<Told, Refusal> {
        let (lease, serial) = self.stored[&key].state.lease().map(|lease| (lease.id, lease.serial)).unwrap();
        self.ask_as(key, lease, serial, ask_id, told)
    }

    pub(crate) fn ask_as(
        &mut self,
        job: JobKey,
        lease_id: u64,
        serial: u32,
        ask_id: u64,
        told: Told,
    ) -> Result<Told, Refusal> {
        let looked_at = self.view.departed();
        let receipt = Receipt { serial, ask_id, asked: 0, told };
        self.ask_after(looked_at, job, lease_id, receipt).unwrap()
    }

    pub(crate) fn ask_after(
        &mut self,
        looked_at: u64,
        job: JobKey,
        lease_id: u64,
        receipt: Receipt,
    ) -> Option<Result<Told, Refusal>> {
        let asked = coretex_kernel::input::Ask { session: SESSION, lease_id, job, looked_at, receipt };
        match self.turn(vec![Input::Ask(Box::new(asked))]).pop() {
            Some(Reply::Told(told)) => told,
            other => panic!("no answer: {other:?}"),
        }
    }

    pub(crate) fn cancel(&mut self, key: JobKey) {
        let (namespace, job_id) = (Namespace::new("default"), self.stored[&key].id.clone());
        self.turn(vec![Input::Cancel { namespace, job_id, reason: "".into(), actor: "".into() }]);
        self.settle();
    }

    /// The causes a caller is told.
    pub(crate) fn why(&mut self, key: JobKey) -> Vec<coretex_kernel::input::Cause> {
        let (namespace, job_id) = (Namespace::new("default"), self.stored[&key].id.clone());
        let reply = self.turn(vec![Input::Explain { namespace, job_id }]).pop();
        let Some(Reply::Explained(told)) = reply else { panic!("no explanation: {reply:?}") };
        told.causes
    }

    pub(crate) fn state(&self, key: JobKey) -> StateKind {
        self.stored[&key].state.kind()
    }

    pub(crate) fn lease_of(&self, key: JobKey) -> u64 {
        self.stored[&key].state.lease().unwrap().id
    }

    /// All is forgotten and read back from the store.
    pub(crate) fn restart(&mut self) {
        self.restart_with(self.view.policy().clone());
    }

    pub(crate) fn restart_with(&mut self, policy: Arc<Policy>) {
        // No process starts in the millisecond in which the one before it leased: lease ids count from there.
        self.now += 1;
        self.dispatcher = Dispatcher::default();
        self.view = View::new(0, policy, Box::new([0; 256]), Time(self.now));
        self.free.clear();
        let open = self.stored.values().filter(|job| !matches!(job.state.kind(), k if k.is_terminal()));
        let open: Vec<Arc<Job>> = open.cloned().collect();
        self.offers = open.iter().filter_map(|job| Some((job.state.lease()?.id, job.key()))).collect();
        for approval in self.approvals.values().filter(|approval| approval.is_pending()) {
            self.view.load_approval(approval.clone());
        }
        recover(&mut self.view, &mut self.dispatcher, open, &[], Time(self.now));
    }

    pub(crate) fn not_before(&self, key: JobKey) -> Option<u64> {
        match &self.stored[&key].state {
            State::Pending(Some(why)) => Some(why.0.0 - START),
            _ => None,
        }
    }
}
