//! How a worker joins: Hello for a new session, Resume for one whose stream dropped.

use super::handle::{Attached, Outbox, SessionHandle, shard_of};
use super::stay::{CONTROL_OUTBOX_MAX, OUTBOX_MAX, Stay, Stream};
use crate::api::{HeldLease, HeldVerdict, Hello, Resume, Resumed, ServerFrame, Welcome};
use crate::house;
use crate::mail::{Mail, ReplyTo};
use crate::shared::Shared;
use crate::tokens::LeaseClaim;
use coretex_domain::limits::{OFFER_TTL, SESSION_TTL_MAX, SESSION_TTL_MIN};
use coretex_domain::session::{Lane, Session};
use coretex_domain::{Job, Reason, Refusal, SessionId, ShardId, Span};
use coretex_kernel::input::{Held, Input, Reply};
use coretex_ports::Write;
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::{mpsc, oneshot};

/// Opens a session. Its row is committed before the worker is welcomed, so that it can be resumed after a crash.
pub(crate) async fn hello(shared: &Arc<Shared>, hello: Hello) -> Result<(Welcome, Attached), Refusal> {
    refuse_when_draining(shared)?;
    house::refuse_foreign(&hello.worker_id, &hello.lanes)?;
    replace_older(shared, &hello)?;
    let session = Arc::new(new_session(shared, &hello, false));
    let stay = open(shared, session.clone()).await?;
    shared.dispatcher().join(session.clone(), &FxHashMap::default());
    let (attached, generation) = attach(shared, &stay);
    let welcome = welcome(shared, &session, generation, hello.heartbeat);
    Ok((welcome, attached))
}

/// Commits the row of a new session and takes it in.
pub(crate) async fn open(shared: &Arc<Shared>, session: Arc<Session>) -> Result<Arc<Stay>, Refusal> {
    let _place = crate::namespaces::place_of_session(shared, &session.namespace, &session.worker_id)?;
    write_row(shared, session.clone()).await?;
    let now = shared.env.clock.now();
    let stay = Arc::new(Stay::new(session, now.mono, now.wall));
    shared.sessions.insert(stay.clone());
    Ok(stay)
}

fn refuse_when_draining(shared: &Shared) -> Result<(), Refusal> {
    match shared.is_draining.load(Ordering::Acquire) {
        true => Err(Refusal::new(Reason::ShuttingDown, "the node drains").retry_after(Span::secs(1))),
        false => Ok(()),
    }
}

pub(crate) fn new_session(shared: &Shared, hello: &Hello, is_polling: bool) -> Session {
    let now = shared.env.clock.now().wall;
    let chance = shared.env.dice.bits();
    let shard = ShardId((chance & 0xff).to_le_bytes()[0]);
    let session_id = SessionId::make(now.0, chance, shard);
    let worker_id = if hello.worker_id.is_empty() {
        Arc::from(format!("worker-{}", &session_id.to_string()[4..]))
    } else {
        hello.worker_id.clone()
    };
    let wanted = hello.ttl.unwrap_or(shared.settings.session_ttl);
    let ttl = if is_polling {
        shared.settings.poll_session_ttl
    } else {
        wanted.clamp(SESSION_TTL_MIN, SESSION_TTL_MAX)
    };
    Session {
        session_id,
        epoch: 1,
        namespace: hello.namespace.clone(),
        worker_id,
        principal: hello.principal.clone(),
        pool: hello.pool.clone(),
        capabilities: hello.capabilities.clone(),
        labels: hello.labels.clone(),
        lanes: hello.lanes.clone(),
        ttl,
        sdk: hello.sdk.clone(),
        host: hello.host.clone(),
        create_time: now,
        is_polling,
    }
}

/// A second session of one worker id: the newer is schedulable, the older is told, and its leases live on.
pub(crate) fn replace_older(shared: &Arc<Shared>, hello: &Hello) -> Result<(), Refusal> {
    let Some(older) = shared.sessions.of_worker(&hello.namespace, &hello.worker_id) else { return Ok(()) };
    let session = older.session();
    let is_live = older.inner().stream.is_some();
    if is_live && session.principal != hello.principal {
        let message = format!("worker_id: {} has a live session of another identity", hello.worker_id);
        return Err(Refusal::new(Reason::WorkerIdTaken, message));
    }
    shared.dispatcher().set_schedulable(session.session_id, false);
    older.send_control(ServerFrame::GoAway {
        reason: "REPLACED".into(),
        drain: session.ttl,
        reconnect_after: Span::ZERO,
        is_replaced: true,
    });
    Ok(())
}

pub(crate) async fn write_row(shared: &Shared, session: Arc<Session>) -> Result<(), Refusal> {
    let (answer, done) = oneshot::channel();
    shared.post_waiting(0, Mail::Rows(vec![Write::Session(session)], answer)).await?;
    done.await
        .unwrap_or_else(|_| Err(Refusal::new(Reason::OutcomeUnknown, "the shard was reloaded meanwhile")))
}

pub(super) fn attach(shared: &Arc<Shared>, stay: &Arc<Stay>) -> (Attached, u32) {
    let (control_in, control) = mpsc::channel(CONTROL_OUTBOX_MAX);
    let (data_in, data) = mpsc::channel(OUTBOX_MAX);
    let generation = stay.session().epoch;
    let mut inner = stay.inner();
    inner.assign_no = 0;
    inner.stream = Some(Stream { generation, control: control_in, data: data_in });
    drop(inner);
    let handle = SessionHandle { shared: shared.clone(), stay: stay.clone(), generation };
    (Attached { outbox: Outbox { control, data }, handle }, generation)
}

fn welcome(shared: &Shared, session: &Session, epoch: u32, heartbeat: Option<Span>) -> Welcome {
    let most = Span((session.ttl.0 / 3).max(100));
    Welcome {
        session_id: session.session_id,
        worker_id: session.worker_id.clone(),
        epoch,
        resume_token: shared.tokens().resume(&session.namespace, session.session_id, &session.worker_id),
        heartbeat_interval: heartbeat.unwrap_or(shared.settings.heartbeat).min(most).max(Span(100)),
        session_ttl: session.ttl,
        offer_ttl: OFFER_TTL,
        server_time: shared.env.clock.now().wall,
        resumed: None,
        verdicts: Vec::new(),
    }
}

/// Takes a session up again on a new stream, or opens a new one when it is gone.
pub(crate) async fn resume(shared: &Arc<Shared>, resume: Resume) -> Result<(Welcome, Attached), Refusal> {
    refuse_when_draining(shared)?;
    // A session of another namespace is none: nobody learns that it is there.
    let found = shared.sessions.find(resume.session_id).filter(|s| s.namespace() == resume.namespace);
    let Some(stay) = found else { return resume_gone(shared, resume).await };
    check_resume(shared, &stay.session(), &resume)?;
    let session_id = resume.session_id;
    let accounts = {
        let mut dispatcher = shared.dispatcher();
        dispatcher.set_schedulable(session_id, false);
        dispatcher.accounts(session_id)
    };
    let mut next = (*stay.session()).clone();
    next.epoch += 1;
    let next = Arc::new(next);
    // Until the new stream is there nothing is delivered: what is committed meanwhile counts as never arrived.
    stay.inner().stream = None;
    stay.set_session(next.clone());
    stay.seen(shared.env.clock.now());
    write_row(shared, next.clone()).await?;
    let (mut resumed, outstanding) = settle_held(shared, &stay, resume.held).await?;
    let assigned = assigned_after(&accounts, &outstanding, resume.granted);
    {
        let mut dispatcher = shared.dispatcher();
        dispatcher.rejoin(next.clone(), &outstanding, &assigned);
        // Who was told to leave gets nothing on its next stream either.
        dispatcher.set_schedulable(session_id, !stay.is_draining());
    }
    let used = |lane: &Lane| (lane.lane_id.clone(), assigned.get(&lane.lane_id).copied().unwrap_or(0));
    resumed.assigned = next.lanes.iter().map(used).collect();
    let (attached, generation) = attach(shared, &stay);
    stay.rewind_reports();
    stay.inner().resend_controls();
    let mut welcome = welcome(shared, &next, generation, None);
    welcome.resumed = Some(resumed);
    Ok((welcome, attached))
}

/// A live session is taken up by its own worker only: same identity, and the token of its last welcome.
fn check_resume(shared: &Shared, session: &Session, resume: &Resume) -> Result<(), Refusal> {
    let opens = shared.tokens().opens_session(
        &session.namespace,
        session.session_id,
        &session.worker_id,
        &resume.token,
    );
    if opens && session.principal == resume.principal {
        return Ok(());
    }
    let message = format!("resume_token: not the one of session {}", session.session_id);
    Err(Refusal::new(Reason::ResumeRefused, message))
}

/// Credit used per lane: what was assigned, less the leases that never arrived. Without an account (this process is
/// younger than the session) all that was granted counts as used.
fn assigned_after(
    accounts: &[(Arc<str>, u64, u32)],
    kept: &FxHashMap<Arc<str>, u32>,
    granted: Vec<(Arc<str>, u64)>,
) -> FxHashMap<Arc<str>, u64> {
    if accounts.is_empty() {
        return granted.into_iter().collect();
    }
    let after = |(lane, assigned, open): &(Arc<str>, u64, u32)| {
        let refunded = open.saturating_sub(kept.get(lane).copied().unwrap_or(0));
        (lane.clone(), assigned.saturating_sub(u64::from(refunded)))
    };
    accounts.iter().map(after).collect()
}

/// The session is gone: its leases were closed with it.
async fn resume_gone(shared: &Arc<Shared>, resume: Resume) -> Result<(Welcome, Attached), Refusal> {
    let Some(again) = resume.hello else {
        return Err(Refusal::new(
            Reason::SessionNotFound,
            format!("session {} has ended", resume.session_id),
        ));
    };
    let (mut welcome, attached) = hello(shared, again).await?;
    welcome.verdicts = resume.held.iter().map(|held| (held.lease_id, HeldVerdict::Lost)).collect();
    Ok((welcome, attached))
}

/// Reconciles without a new stream, for a `Sync`.
pub(crate) async fn reconcile(
    shared: &Arc<Shared>,
    stay: &Arc<Stay>,
    held: Vec<HeldLease>,
) -> Result<Resumed, Refusal> {
    let (mut resumed, _) = settle_held(shared, stay, held).await?;
    let accounts = shared.dispatcher().accounts(stay.session().session_id);
    resumed.assigned = accounts.into_iter().map(|(lane, assigned, _)| (lane, assigned)).collect();
    Ok(resumed)
}

async fn settle_held(
    shared: &Arc<Shared>,
    stay: &Arc<Stay>,
    held: Vec<HeldLease>,
) -> Result<(Resumed, FxHashMap<Arc<str>, u32>), Refusal> {
    let session = stay.session();
    let tokens = shared.tokens();
    let mut resumed = Resumed { last_report_seq: stay.durable_up_to(), ..Resumed::default() };
    let mut parts: Vec<Vec<Held>> = vec![Vec::new(); shared.mailboxes.len()];
    let mut started = FxHashSet::default();
    for lease in held {
        if lease.is_started {
            started.insert(lease.lease_id);
        }
        match tokens.open_lease(&session.namespace, &lease.token) {
            Some(LeaseClaim { job, serial, shard }) if shard == shard_of(lease.lease_id) => {
                let one = Held { lease_id: lease.lease_id, job, serial, is_finished: lease.is_finished };
                parts[shared.loop_of(shard)].push(one);
            }
            Some(_) | None => resumed.verdicts.push((lease.lease_id, HeldVerdict::Lost)),
        }
    }
    let mut outstanding: FxHashMap<Arc<str>, u32> = FxHashMap::default();
    let mut kept = Vec::new();
    for (who, held) in parts.into_iter().enumerate() {
        let (answer, done) = oneshot::channel();
        let input = Input::Reconcile { session: session.session_id, held };
        shared.post_waiting(who, Mail::Decide(input, ReplyTo::One(answer))).await?;
        let reply = done
            .await
            .unwrap_or_else(|_| Err(Refusal::new(Reason::OutcomeUnknown, "the shard was reloaded")))?;
        let Reply::Reconciled(part) = reply else { continue };
        resumed.verdicts.extend(part.verdicts);
        resumed.unknown_to_worker.extend(part.unknown_to_worker);
        for (lease, lane) in part.kept {
            kept.push((lease, started.contains(&lease)));
            *outstanding.entry(lane).or_default() += 1;
        }
    }
    let has_ended =
        |(lease, verdict): &(u64, HeldVerdict)| (*verdict == HeldVerdict::AlreadyTerminal).then_some(*lease);
    stay.set_ended_before(resumed.verdicts.iter().filter_map(has_ended));
    stay.set_held(kept.into_iter());
    Ok((resumed, outstanding))
}

/// Changes what a session serves. Leases it holds are not touched, and its credit stays.
pub(crate) async fn change_registration(
    shared: &Arc<Shared>,
    stay: &Arc<Stay>,
    change: impl FnOnce(&mut Session),
) -> Result<(), Refusal> {
    let mut next = (*stay.session()).clone();
    change(&mut next);
    house::refuse_topics(&next.lanes)?;
    let next = Arc::new(next);
    write_row(shared, next.clone()).await?;
    stay.set_session(next.clone());
    let wakes = shared.dispatcher().re_register(next);
    shared.wake(wakes);
    Ok(())
}

/// The open job of a lease that the session holds.
pub(crate) async fn job_of_lease(shared: &Shared, session: SessionId, lease_id: u64) -> Option<Arc<Job>> {
    let (answer, done) = oneshot::channel();
    let mail = Mail::Decide(Input::JobOfLease { session, lease_id }, ReplyTo::One(answer));
    shared.post_waiting(shared.loop_of(shard_of(lease_id)), mail).await.ok()?;
    match done.await.ok()?.ok()? {
        Reply::Job(found) => found.ok(),
        _ => None,
    }
}

/// Sessions that were stored before this process began: they may come back until their TTL.
pub(crate) fn restore(shared: &Arc<Shared>, sessions: Vec<Arc<Session>>) {
    let now = shared.env.clock.now();
    for session in sessions {
        if shared.sessions.find(session.session_id).is_some() {
            continue;
        }
        let stay = Arc::new(Stay::new(session, now.mono, now.wall));
        shared.sessions.insert(stay);
    }
}

/// Ends leases whose session has no row any more: a crash between the row's end and its leases' end.
pub(crate) async fn end_orphans(shared: &Arc<Shared>, sessions: Vec<SessionId>) {
    for session in sessions {
        if shared.sessions.find(session).is_none() {
            for who in 0..shared.mailboxes.len() {
                let mail = Mail::Decide(Input::SessionEnd { session }, ReplyTo::Nobody);
                let _ = shared.post_waiting(who, mail).await;
            }
        }
    }
}
