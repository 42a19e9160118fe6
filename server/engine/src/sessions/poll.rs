//! Workers without a stream: long polls hand out work, unary reports settle it. Each call is a heartbeat.

use super::attach;
use super::stay::{OUTBOX_MAX, Stay, Stream};
use crate::api::{
    Assignment, Caller, ControlEntry, Hello, LeaseName, Poll, Polled, Rejection, ServerFrame, Update,
    UpdateKind,
};
use crate::house;
use crate::redact;
use crate::shared::Shared;
use crate::tokens::Tokens;
use coretex_domain::job::State;
use coretex_domain::limits::SLOTS_MAX;
use coretex_domain::session::{Lane, Session};
use coretex_domain::{JobId, Payload, Reason, Refusal, SessionId};
use coretex_kernel::input::{Input, LeaseRef, RejectCode, Reply, Update as KernelUpdate};
use rustc_hash::FxHashMap;
use std::sync::Arc;
use tokio::sync::mpsc;

/// The one lane of a polling worker.
const LANE: &str = "poll";
/// The pool of those who name none.
const POOL: &str = "default";

/// Waits for work and hands it out started: the attempt's clock runs from here, so a lost answer is found by it.
pub(crate) async fn poll(shared: &Arc<Shared>, poll: Poll) -> Result<Polled, Refusal> {
    let stay = find_or_open(shared, &poll).await?;
    let session = stay.session();
    stay.seen(shared.env.clock.now());
    join(shared, &stay).await?;
    let mut outbox = OutboxLoan::new(shared, &stay)?;
    grant(shared, &stay, poll.max_jobs);
    let until = shared.env.clock.now().mono + poll.timeout;
    let first = tokio::select! {
        frame = outbox.data.recv() => frame,
        () = shared.env.clock.sleep_until(until) => None,
    };
    shared.dispatcher().withdraw(session.session_id);
    let mut assignments = Vec::new();
    let mut frame = first.or_else(|| outbox.data.try_recv().ok());
    while let Some(ServerFrame::Assign { assignments: more, .. }) = frame {
        assignments.extend(more);
        frame = outbox.data.try_recv().ok();
    }
    stay.seen(shared.env.clock.now());
    drop(outbox);
    let started = start(shared, &stay, assignments).await?;
    Ok(Polled {
        session_id: session.session_id,
        session_ttl: session.ttl,
        assignments: started,
        cancel: stay.take_controls(),
    })
}

async fn find_or_open(shared: &Arc<Shared>, poll: &Poll) -> Result<Arc<Stay>, Refusal> {
    let lanes = vec![Lane { lane_id: LANE.into(), topics: poll.topics.clone(), slots: SLOTS_MAX }];
    house::refuse_foreign(&poll.worker_id, &lanes)?;
    if let Some(id) = poll.session_id {
        let found = shared.sessions.find(id).filter(|stay| {
            let session = stay.session();
            session.namespace == poll.namespace && session.principal == poll.principal && session.is_polling
        });
        let Some(stay) = found else {
            return Err(Refusal::new(
                Reason::SessionNotFound,
                format!("session {id} has ended; poll without session_id"),
            ));
        };
        let session = stay.session();
        let pool = poll.pool.clone().unwrap_or_else(|| session.pool.clone());
        if session.lanes != lanes || session.capabilities != poll.capabilities || session.pool != pool {
            let capabilities = poll.capabilities.clone();
            let change = |next: &mut Session| {
                (next.lanes, next.capabilities, next.pool) = (lanes, capabilities, pool);
            };
            attach::change_registration(shared, &stay, change).await?;
        }
        return Ok(stay);
    }
    let hello = Hello {
        namespace: poll.namespace.clone(),
        principal: poll.principal.clone(),
        worker_id: poll.worker_id.clone(),
        pool: poll.pool.clone().unwrap_or_else(|| POOL.into()),
        capabilities: poll.capabilities.clone(),
        labels: poll.labels.clone(),
        lanes,
        sdk: "poll".into(),
        host: "".into(),
        heartbeat: None,
        ttl: None,
    };
    // The same worker polling without its session id goes on with the session it has.
    if let Some(stay) = shared.sessions.of_worker(&poll.namespace, &poll.worker_id) {
        let session = stay.session();
        let is_same = session.lanes == hello.lanes
            && session.capabilities == hello.capabilities
            && session.pool == hello.pool;
        if session.is_polling && session.principal == poll.principal && is_same && !stay.is_draining() {
            return Ok(stay);
        }
    }
    attach::replace_older(shared, &hello)?;
    let session = Arc::new(attach::new_session(shared, &hello, true));
    attach::open(shared, session).await
}

/// A session that was just opened, or that the store had when the node started or was loaded again, is not among those
/// that get work yet; nor is one whose first call was dropped half-way.
/// What it was handed before and has not started never reached it: it goes to whoever asks next.
async fn join(shared: &Arc<Shared>, stay: &Stay) -> Result<(), Refusal> {
    let session = stay.session();
    let id = session.session_id;
    if shared.dispatcher().has_joined(id) {
        return Ok(());
    }
    for who in 0..shared.mailboxes.len() {
        crate::tell(shared, who, Input::ReturnLeases { session: id, with_started: false }).await?;
    }
    let mut dispatcher = shared.dispatcher();
    if !dispatcher.has_joined(id) {
        dispatcher.join(session, &FxHashMap::default());
    }
    Ok(())
}

/// The receiving end of a polling session waits in the session between calls; one call at a time has it. A call
/// that is dropped half-way puts it back and takes back its credit.
struct OutboxLoan {
    shared: Arc<Shared>,
    stay: Arc<Stay>,
    data: mpsc::Receiver<ServerFrame>,
}

impl OutboxLoan {
    fn new(shared: &Arc<Shared>, stay: &Arc<Stay>) -> Result<OutboxLoan, Refusal> {
        let mut inner = stay.inner();
        let data = if inner.stream.is_none() {
            let (sender, receiver) = mpsc::channel(OUTBOX_MAX);
            let (control, _) = mpsc::channel(1);
            inner.stream = Some(Stream { generation: 1, control, data: sender });
            receiver
        } else {
            let message = "another poll of this session is waiting; one at a time, or use another worker_id";
            inner.parked_outbox.take().ok_or_else(|| Refusal::new(Reason::TooMany, message))?
        };
        drop(inner);
        Ok(OutboxLoan { shared: shared.clone(), stay: stay.clone(), data })
    }
}

impl Drop for OutboxLoan {
    fn drop(&mut self) {
        self.shared.dispatcher().withdraw(self.stay.session().session_id);
        let (_, empty) = mpsc::channel(1);
        self.stay.inner().parked_outbox = Some(std::mem::replace(&mut self.data, empty));
    }
}

fn grant(shared: &Arc<Shared>, stay: &Stay, max_jobs: u32) {
    let session = stay.session().session_id;
    let wakes = {
        let mut dispatcher = shared.dispatcher();
        // Who was told to leave polls in vain.
        dispatcher.set_schedulable(session, !stay.is_draining());
        let total = dispatcher.assigned_total(session, LANE) + u64::from(max_jobs);
        dispatcher.grant(session, LANE, total).unwrap_or_default()
    };
    shared.wake(wakes);
}

/// Commits the start of what was handed out; leases that ended meanwhile are left out.
async fn start(
    shared: &Arc<Shared>,
    stay: &Arc<Stay>,
    assignments: Vec<Assignment>,
) -> Result<Vec<Assignment>, Refusal> {
    if assignments.is_empty() {
        return Ok(assignments);
    }
    let caller = Caller { namespace: stay.namespace(), actor: "".into() };
    let updates = assignments
        .iter()
        .map(|a| Update::new(LeaseName::Token(a.token.clone()), UpdateKind::Started))
        .collect();
    let rejected = settle(shared, &caller, stay.session().session_id, updates).await?;
    let is_stale =
        |n: usize| rejected.iter().any(|r| r.index as usize == n && matches!(r.code, RejectCode::StaleLease));
    let started: Vec<Assignment> =
        assignments.into_iter().enumerate().filter(|(n, _)| !is_stale(*n)).map(|(_, a)| a).collect();
    stay.started(started.iter().map(|a| a.lease_id));
    Ok(started)
}

/// Unary reports: by token, so they need no stream and work from anywhere.
pub(crate) async fn report_by_token(
    shared: &Arc<Shared>,
    caller: &Caller,
    session: Option<SessionId>,
    mut updates: Vec<Update>,
) -> Result<(Vec<Rejection>, Vec<ControlEntry>), Refusal> {
    redact::updates(&mut updates);
    let stay = session.and_then(|id| shared.sessions.find(id)).filter(|s| s.namespace() == caller.namespace);
    if let Some(stay) = &stay {
        stay.seen(shared.env.clock.now());
    } else if let Some(id) = session {
        return Err(Refusal::new(Reason::SessionNotFound, format!("session {id} has ended")));
    }
    let rejected = settle(shared, caller, session.unwrap_or(SessionId(0)), updates).await?;
    let controls = stay.map(|s| if s.session().is_polling { s.take_controls() } else { s.open_controls() });
    Ok((rejected, controls.unwrap_or_default()))
}

async fn settle(
    shared: &Arc<Shared>,
    caller: &Caller,
    session: SessionId,
    updates: Vec<Update>,
) -> Result<Vec<Rejection>, Refusal> {
    let tokens = shared.tokens();
    let mut rejected = Vec::new();
    let mut parts: Vec<(Vec<KernelUpdate>, Vec<u32>)> =
        (0..shared.mailboxes.len()).map(|_| Default::default()).collect();
    let mut said = Vec::new();
    for (index, update) in (0u32..).zip(updates) {
        let LeaseName::Token(token) = update.lease else {
            return Err(Refusal::field(format!("updates[{index}].lease_token"), "required here"));
        };
        match tokens.open_lease(&caller.namespace, &token) {
            Some(claim) => {
                said.extend(Said::of(index, claim.serial, &token, &update.kind));
                let part = &mut parts[shared.loop_of(claim.shard)];
                part.0.push(KernelUpdate {
                    lease: LeaseRef::Token { job: claim.job, serial: claim.serial },
                    kind: update.kind,
                    usage: update.usage,
                });
                part.1.push(index);
            }
            None => rejected.push(Rejection {
                seq: 0,
                index,
                code: RejectCode::StaleLease,
                message: "the lease token is not one of this namespace".into(),
            }),
        }
    }
    for (who, (updates, indexes)) in parts.into_iter().enumerate().filter(|(_, part)| !part.0.is_empty()) {
        let Reply::Reported(list) = crate::tell(shared, who, Input::Report { session, updates }).await?
        else {
            continue;
        };
        for one in list {
            let index = indexes.get(one.index).copied().unwrap_or(u32::MAX);
            let last_word = said.iter().find(|said| said.index == index);
            if !is_repeat(shared, caller, last_word).await {
                rejected.push(Rejection { seq: 0, index, code: one.code, message: one.message });
            }
        }
    }
    rejected.sort_by_key(|r| r.index);
    Ok(rejected)
}

/// The last word of a worker on a lease, kept to tell a repeat from a late result.
struct Said {
    index: u32,
    serial: u32,
    job_id: JobId,
    word: Word,
}

enum Word {
    Succeeded(Payload),
    Failed { kind: Arc<str>, message: Arc<str> },
}

impl Said {
    fn of(index: u32, serial: u32, token: &[u8], kind: &UpdateKind) -> Option<Said> {
        let word = match kind {
            UpdateKind::Succeeded(result) => Word::Succeeded(result.clone()),
            UpdateKind::Failed { failure, .. } => {
                Word::Failed { kind: failure.kind.clone(), message: failure.message.clone() }
            }
            UpdateKind::Started
            | UpdateKind::Progress { .. }
            | UpdateKind::Checkpoint(_)
            | UpdateKind::Cancelled
            | UpdateKind::Released { .. } => return None,
        };
        Some(Said { index, serial, job_id: Tokens::job_in(token)?, word })
    }
}

/// True if the same was said on the same lease before and accepted: then it is accepted again and changes nothing.
async fn is_repeat(shared: &Shared, caller: &Caller, said: Option<&Said>) -> bool {
    let Some(said) = said else { return false };
    let found = shared.store.read(caller.namespace.clone(), vec![said.job_id.clone()]).await;
    let Some(job) = found.ok().and_then(|jobs| jobs.into_iter().flatten().next()) else { return false };
    if job.counters.lease_serial != said.serial {
        return false;
    }
    match &said.word {
        Word::Succeeded(result) => {
            let mut result = result.clone();
            job.redact_strictly(&mut result);
            job.state == State::Succeeded && job.result.as_ref().unwrap_or(&Payload::empty()) == &result
        }
        Word::Failed { kind, message } => {
            matches!(job.state, State::Failed | State::Retrying { .. })
                && job.failure().is_some_and(|f| f.kind == *kind && f.message == *message)
        }
    }
}
