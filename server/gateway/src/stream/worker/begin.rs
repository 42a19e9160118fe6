//! How a stream begins: Hello for a new session, Resume for an old one.

use crate::call::Call;
use crate::gate::Gate;
use crate::wire::assign::{SessionFacts, config, resumed, verdicts};
use crate::wire::time::{duration, timestamp};
use crate::wire::{Faults, worker};
use coretex_contract::v1::{self as pb, connect_request, connect_response::Frame};
use coretex_domain::names::{check_namespace, shown};
use coretex_domain::{Namespace, Reason, Refusal, SessionId};
use coretex_engine::api::{HeldLease, Resume, Welcome};
use coretex_engine::{Attached, Outbox, SessionHandle};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Reports a worker may keep unacknowledged, and bytes of output on the way.
const UNACKED_REPORTS_MAX: u32 = 4_096;
const OUTPUT_IN_FLIGHT_MAX: u32 = 4 << 20;
/// Leases one Resume or Sync may name.
const HELD_MAX: usize = 200_000;

/// A stream that was welcomed, for the response side.
pub(super) struct Opened {
    pub(super) first: pb::ConnectResponse,
    pub(super) outbox: Outbox,
    pub(super) facts: SessionFacts,
}

/// The same, for the reader.
pub(super) struct Session {
    pub(super) handle: SessionHandle,
    /// What both sides may use.
    pub(super) features: Vec<String>,
}

impl Session {
    pub(super) fn has(&self, feature: &str) -> bool {
        self.features.iter().any(|known| known == feature)
    }
}

/// Takes the first frame.
pub(super) async fn begin(
    gate: &Gate,
    call: &Call,
    first: Option<connect_request::Frame>,
) -> Result<(Box<Opened>, Session), Refusal> {
    match first {
        Some(connect_request::Frame::Hello(hello)) => greet(gate, call, hello).await,
        Some(connect_request::Frame::Resume(resume)) => take_up(gate, call, resume).await,
        _ => Err(Refusal::new(Reason::HelloRequired, "the first frame must be Hello or Resume")),
    }
}

/// The namespace of a stream: the one of Hello, else the call's.
fn namespace_of(call: &Call, given: &str) -> Result<Namespace, Refusal> {
    if given.is_empty() || given == call.namespace.as_str() {
        return Ok(call.namespace.clone());
    }
    check_namespace(given).map_err(|message| Refusal::field("hello.namespace", message))?;
    if !call.may_use(given) {
        let message = format!("this identity may not use namespace {given}");
        return Err(Refusal::new(Reason::PermissionDenied, message));
    }
    Ok(Namespace::new(given))
}

async fn greet(gate: &Gate, call: &Call, hello: pb::Hello) -> Result<(Box<Opened>, Session), Refusal> {
    let version = worker::version(&hello)?;
    let features = worker::features(&hello);
    let namespace = namespace_of(call, &hello.namespace)?;
    let hello = worker::hello(hello, namespace.clone(), call.actor())?;
    let (welcome, attached) = gate.engine.hello(hello).await?;
    Ok(opened(gate, namespace, welcome, attached, Spoken { version, features }).await)
}

async fn take_up(gate: &Gate, call: &Call, resume: pb::Resume) -> Result<(Box<Opened>, Session), Refusal> {
    let mut faults = Faults::default();
    let session_id = match SessionId::parse(&resume.session_id) {
        Ok(id) => Some(id),
        Err(fault) => {
            faults.add("resume.session_id", format!("{}, got {}", fault.0, shown(&resume.session_id)));
            None
        }
    };
    if resume.resume_token.is_empty() {
        faults.add("resume.resume_token", "required");
    }
    let held = held(&mut faults, "resume.held", resume.held);
    faults.into_result()?;
    let Some(session_id) = session_id else { return Err(Refusal::field("resume.session_id", "required")) };
    let (spoken, namespace, hello) = match resume.hello {
        None => {
            // Who resumes spoke before: the features are those of any worker that knows Resume.
            let features = worker::FEATURES.iter().map(ToString::to_string).collect();
            (Spoken { version: worker::PROTOCOL_MAX, features }, call.namespace.clone(), None)
        }
        Some(hello) => {
            let spoken = Spoken { version: worker::version(&hello)?, features: worker::features(&hello) };
            let namespace = namespace_of(call, &hello.namespace)?;
            (spoken, namespace.clone(), Some(worker::hello(hello, namespace, call.actor())?))
        }
    };
    let resume_of = Resume {
        namespace: namespace.clone(),
        principal: call.actor(),
        session_id,
        token: resume.resume_token,
        held,
        granted: grants(resume.lanes.clone()),
        hello,
    };
    let (welcome, attached) = gate.engine.resume(resume_of).await?;
    let goes_on = welcome.resumed.is_some();
    let (opened, session) = opened(gate, namespace, welcome, attached, spoken).await;
    if goes_on {
        // Credit is of the session: a new session starts from nothing.
        session.handle.credit(grants(resume.lanes));
        if resume.drain {
            session.handle.drain(worker::drain(&mut Faults::default(), 0, None, "")).await;
        }
    }
    Ok((opened, session))
}

pub(super) fn grants(grants: Vec<pb::CreditGrant>) -> Vec<(Arc<str>, u64)> {
    grants.into_iter().map(|grant| (grant.lane_id.into(), grant.granted_total)).collect()
}

/// Leases a worker says it holds.
pub(super) fn held(faults: &mut Faults, field: &str, given: Vec<pb::HeldLease>) -> Vec<HeldLease> {
    if given.len() > HELD_MAX {
        faults.add(field, format!("must have at most {HELD_MAX} items, got {}", given.len()));
        return Vec::new();
    }
    let one = |(n, lease): (usize, pb::HeldLease)| {
        let state = lease.state();
        if state == pb::HeldLeaseState::Unspecified {
            faults.add(format!("{field}[{n}].state"), "required");
        }
        HeldLease {
            lease_id: lease.lease_id,
            token: lease.lease_token,
            is_started: state == pb::HeldLeaseState::Running,
            is_finished: state == pb::HeldLeaseState::FinishedUnacked,
        }
    };
    given.into_iter().enumerate().map(one).collect()
}

/// What both sides agreed on.
struct Spoken {
    version: u32,
    features: Vec<String>,
}

async fn opened(
    gate: &Gate,
    namespace: Namespace,
    welcome: Welcome,
    attached: Attached,
    spoken: Spoken,
) -> (Box<Opened>, Session) {
    gate.learn_paused(&namespace).await;
    let lanes = attached.handle.lanes();
    let topics = lanes.iter().flat_map(|lane| lane.topics.iter());
    let paused: BTreeSet<String> =
        topics.filter(|t| gate.paused_warning(&namespace, t).is_some()).map(ToString::to_string).collect();
    let facts = SessionFacts {
        epoch: welcome.epoch.into(),
        heartbeat_interval: welcome.heartbeat_interval,
        session_ttl: welcome.session_ttl,
        paused,
    };
    let features = spoken.features.clone();
    let frame = first_frame(gate, welcome, &facts, spoken);
    let first = pb::ConnectResponse { seq: 0, frame: Some(frame) };
    let session = Session { handle: attached.handle, features };
    (Box::new(Opened { first, outbox: attached.outbox, facts }), session)
}

fn first_frame(gate: &Gate, welcome: Welcome, facts: &SessionFacts, spoken: Spoken) -> Frame {
    let now = gate.now();
    if let Some(settled) = welcome.resumed {
        return Frame::Resumed(resumed(settled, facts, welcome.resume_token.to_vec(), now));
    }
    let bytes = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    Frame::Welcome(pb::Welcome {
        session_id: welcome.session_id.to_string(),
        protocol_version: spoken.version,
        features: spoken.features,
        epoch: facts.epoch,
        resume_token: welcome.resume_token,
        heartbeat_interval: Some(duration(facts.heartbeat_interval)),
        session_ttl: Some(duration(facts.session_ttl)),
        offer_ttl: Some(duration(welcome.offer_ttl)),
        limits: Some(pb::StreamLimits {
            max_frame_bytes: bytes(gate.settings.message_max),
            payload_max_bytes: bytes(gate.settings.payload_max),
            max_unacked_reports: UNACKED_REPORTS_MAX,
            max_output_inflight_bytes: OUTPUT_IN_FLIGHT_MAX,
        }),
        endpoints: Vec::new(),
        server_time: Some(timestamp(now)),
        config: Some(config(facts)),
        worker_id: welcome.worker_id.to_string(),
        refused_topics: Vec::new(),
        verdicts: verdicts(&welcome.verdicts),
    })
}
