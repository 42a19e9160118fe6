//! Workers: registrations from the wire, live workers to it.

use super::Faults;
use super::spec::labels;
use super::time::{duration, span, timestamp};
use coretex_contract::v1 as pb;
use coretex_domain::limits;
use coretex_domain::names::{self, shown};
use coretex_domain::session::Lane;
use coretex_domain::{Namespace, Reason, Refusal, Span};
use coretex_engine::api::{Drain, DrainMode, Hello, LaneTotals, Load, WorkerInfo};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The protocol versions this server speaks.
pub(crate) const PROTOCOL_MIN: u32 = 1;
pub(crate) const PROTOCOL_MAX: u32 = 1;
/// Features both sides may use when the worker names them.
pub(crate) const FEATURES: [&str; 8] =
    ["ask.budget", "ask.policy", "ask.secret", "ask.spawn", "batch", "output", "resume", "zstd"];

const CAPABILITIES_MAX: usize = 64;
const FACT_LEN_MAX: usize = 256;
/// A worker that needs longer to leave than its longest session is not leaving.
const DRAIN_MAX: Span = limits::SESSION_TTL_MAX;
/// Name of the lane and the pool of those who name none.
const DEFAULT: &str = "default";

/// The protocol version both sides speak.
pub(crate) fn version(hello: &pb::Hello) -> Result<u32, Refusal> {
    // Left out, the worker speaks the first version.
    let (min, max) = (hello.protocol_min.max(1), hello.protocol_max.max(hello.protocol_min).max(1));
    if min > PROTOCOL_MAX || max < PROTOCOL_MIN {
        let message = format!("protocol {PROTOCOL_MIN}..{PROTOCOL_MAX} supported, got {min}..{max}");
        return Err(Refusal::new(Reason::ProtocolVersion, message)
            .fact("protocol_min", PROTOCOL_MIN.to_string())
            .fact("protocol_max", PROTOCOL_MAX.to_string()));
    }
    Ok(max.min(PROTOCOL_MAX))
}

/// Features of this session.
pub(crate) fn features(hello: &pb::Hello) -> Vec<String> {
    FEATURES.iter().filter(|f| hello.features.iter().any(|h| h == *f)).map(ToString::to_string).collect()
}

/// Reads a registration. All that is wrong with it is said at once.
pub(crate) fn hello(given: pb::Hello, namespace: Namespace, principal: Arc<str>) -> Result<Hello, Refusal> {
    let mut faults = Faults::default();
    let worker_id = faults.name("hello.worker_id", &given.worker_id).unwrap_or_default();
    let pool = faults.name("hello.pool", &given.pool).unwrap_or_else(|| DEFAULT.into());
    let capabilities = faults.names("hello.capabilities", &given.capabilities, CAPABILITIES_MAX);
    let lanes = lanes(&mut faults, &given.topics, &given.lanes);
    let heartbeat = span(
        &mut faults,
        "hello.desired_heartbeat",
        given.desired_heartbeat,
        Span(100),
        limits::SESSION_TTL_MAX,
    );
    let ttl = span(
        &mut faults,
        "hello.session_grace",
        given.session_grace,
        limits::SESSION_TTL_MIN,
        limits::SESSION_TTL_MAX,
    );
    let sdk = sdk(&mut faults, given.sdk.unwrap_or_default());
    let host = host(&mut faults, given.host.unwrap_or_default(), given.deployment.unwrap_or_default());
    let labels = faults.labels("hello.labels", given.labels.into_iter());
    faults.into_result()?;
    Ok(Hello {
        namespace,
        principal,
        worker_id,
        pool,
        capabilities,
        labels,
        lanes,
        sdk,
        host,
        heartbeat,
        ttl,
    })
}

fn sdk(faults: &mut Faults, sdk: pb::SdkInfo) -> Arc<str> {
    for (name, value) in [
        ("name", &sdk.name),
        ("version", &sdk.version),
        ("language", &sdk.language),
        ("runtime", &sdk.runtime),
    ] {
        faults.text(&format!("hello.sdk.{name}"), value, FACT_LEN_MAX);
    }
    json!({"name": sdk.name, "version": sdk.version, "language": sdk.language, "runtime": sdk.runtime})
        .to_string()
        .into()
}

fn host(faults: &mut Faults, host: pb::HostInfo, deployment: pb::Deployment) -> Arc<str> {
    faults.text("hello.host.hostname", &host.hostname, FACT_LEN_MAX);
    for (name, value) in
        [("name", &deployment.name), ("build_id", &deployment.build_id), ("git_sha", &deployment.git_sha)]
    {
        faults.text(&format!("hello.deployment.{name}"), value, FACT_LEN_MAX);
    }
    let started = host.started_at.unwrap_or_default();
    json!({
        "hostname": host.hostname, "pid": host.pid, "cpus": host.cpus, "mem": host.mem_bytes,
        "started": started.seconds, "service": deployment.name, "build": deployment.build_id, "sha": deployment.git_sha,
    })
    .to_string()
    .into()
}

/// Lanes with their topics: a topic goes to the lane it names, else to the one that names it, else to the first.
pub(crate) fn lanes(
    faults: &mut Faults,
    topics: &[pb::TopicRegistration],
    given: &[pb::LaneRegistration],
) -> Vec<Lane> {
    if topics.len() > limits::SESSION_TOPICS_MAX {
        faults.add(
            "hello.topics",
            format!("must have at most {} items, got {}", limits::SESSION_TOPICS_MAX, topics.len()),
        );
        return Vec::new();
    }
    if given.len() > limits::LANES_MAX {
        faults.add(
            "hello.lanes",
            format!("must have at most {} items, got {}", limits::LANES_MAX, given.len()),
        );
        return Vec::new();
    }
    let mut lanes: Vec<Lane> =
        given.iter().enumerate().map(|(n, lane)| read_lane(faults, n, lane, &given[..n])).collect();
    if lanes.is_empty() {
        lanes.push(Lane { lane_id: DEFAULT.into(), topics: Vec::new(), slots: 1 });
    }
    for (n, topic) in topics.iter().enumerate() {
        if let Err(message) = names::check_topic(&topic.name) {
            faults.add(format!("hello.topics[{n}].name"), message);
            continue;
        }
        if topics[..n].iter().any(|t| t.name == topic.name) {
            faults.add(format!("hello.topics[{n}].name"), format!("{} comes twice", shown(&topic.name)));
            continue;
        }
        place(faults, n, topic, &mut lanes);
    }
    if lanes.iter().all(|lane| lane.topics.is_empty()) {
        faults.add("hello.topics", "at least one topic is required");
    }
    lanes
}

fn read_lane(
    faults: &mut Faults,
    n: usize,
    lane: &pb::LaneRegistration,
    before: &[pb::LaneRegistration],
) -> Lane {
    faults.check(&format!("hello.lanes[{n}].lane_id"), names::check_worker_name(&lane.lane_id));
    if before.iter().any(|l| l.lane_id == lane.lane_id) {
        faults.add(format!("hello.lanes[{n}].lane_id"), format!("{} comes twice", shown(&lane.lane_id)));
    }
    if !(1..=limits::SLOTS_MAX).contains(&lane.slots) {
        faults.add(
            format!("hello.lanes[{n}].slots"),
            format!("must be 1..={}, got {}", limits::SLOTS_MAX, lane.slots),
        );
    }
    faults.text(&format!("hello.lanes[{n}].slot_class"), &lane.slot_class, FACT_LEN_MAX);
    if lane.topics.len() > limits::SESSION_TOPICS_MAX {
        let message =
            format!("must have at most {} items, got {}", limits::SESSION_TOPICS_MAX, lane.topics.len());
        faults.add(format!("hello.lanes[{n}].topics"), message);
        return Lane { lane_id: lane.lane_id.as_str().into(), topics: Vec::new(), slots: lane.slots };
    }
    for (t, topic) in lane.topics.iter().enumerate() {
        if let Err(message) = names::check_topic(topic) {
            faults.add(format!("hello.lanes[{n}].topics[{t}]"), message);
        }
    }
    Lane {
        lane_id: lane.lane_id.as_str().into(),
        topics: lane.topics.iter().map(|t| t.as_str().into()).collect(),
        slots: lane.slots,
    }
}

fn place(faults: &mut Faults, n: usize, topic: &pb::TopicRegistration, lanes: &mut [Lane]) {
    let names_it = |lane: &Lane| lane.topics.iter().any(|t| **t == *topic.name);
    let at = if topic.lane.is_empty() {
        Some(lanes.iter().position(names_it).unwrap_or(0))
    } else {
        lanes.iter().position(|lane| *lane.lane_id == *topic.lane)
    };
    let Some(lane) = at.and_then(|at| lanes.get_mut(at)) else {
        faults.add(format!("hello.topics[{n}].lane"), format!("no lane is called {}", shown(&topic.lane)));
        return;
    };
    if !names_it(lane) {
        lane.topics.push(topic.name.as_str().into());
    }
}

type Labels = Vec<(Arc<str>, Arc<str>)>;

/// Lanes and labels after an UpdateRegistration.
pub(crate) fn updated(
    mut lanes: Vec<Lane>,
    mut labels: Labels,
    update: pb::UpdateRegistration,
) -> Result<(Vec<Lane>, Labels), Refusal> {
    let mut faults = Faults::default();
    for (n, given) in update.lanes.iter().enumerate() {
        let next = read_lane(&mut faults, n, given, &update.lanes[..n]);
        match lanes.iter_mut().find(|lane| lane.lane_id == next.lane_id) {
            None => lanes.push(next),
            Some(lane) => {
                lane.slots = next.slots;
                lane.topics.extend(next.topics);
                lane.topics.sort();
                lane.topics.dedup();
            }
        }
    }
    let goes = |topic: &Arc<str>| {
        update.remove_topics.iter().any(|t| **t == **topic)
            || update.add_topics.iter().any(|t| *t.name == **topic)
    };
    for lane in &mut lanes {
        lane.topics.retain(|topic| !goes(topic));
    }
    for (n, topic) in update.add_topics.iter().enumerate() {
        faults.check(&format!("add_topics[{n}].name"), names::check_topic(&topic.name));
        place(&mut faults, n, topic, &mut lanes);
    }
    labels.retain(|(key, _)| !update.remove_labels.iter().any(|k| **k == **key));
    for (key, value) in faults.labels("set_labels", update.set_labels.into_iter()) {
        labels.retain(|(k, _)| *k != key);
        labels.push((key, value));
    }
    let topics: usize = lanes.iter().map(|lane| lane.topics.len()).sum();
    for (what, count, most) in [
        ("topics", topics, limits::SESSION_TOPICS_MAX),
        ("lanes", lanes.len(), limits::LANES_MAX),
        ("labels", labels.len(), limits::LABELS_MAX),
    ] {
        if count > most {
            faults.add(what, format!("must be at most {most} in all, got {count}"));
        }
    }
    faults.into_result()?;
    Ok((lanes, labels))
}

/// How a worker leaves, from a `Drain` frame or a call.
pub(crate) fn drain(
    faults: &mut Faults,
    mode: i32,
    deadline: Option<coretex_contract::Duration>,
    reason: &str,
) -> Drain {
    let mode = match pb::DrainMode::try_from(mode) {
        Ok(pb::DrainMode::Unspecified | pb::DrainMode::Finish) => DrainMode::Finish,
        Ok(pb::DrainMode::ReleaseUnstarted) => DrainMode::ReleaseUnstarted,
        Ok(pb::DrainMode::Handover) => DrainMode::Handover,
        Err(_) => {
            faults.add("mode", format!("unknown, got {mode}"));
            DrainMode::Finish
        }
    };
    faults.text("reason", reason, limits::REASON_LEN_MAX);
    let deadline = span(faults, "deadline", deadline, Span::ZERO, DRAIN_MAX);
    Drain { mode, deadline, reason: reason.into(), request_id: "".into() }
}

pub(crate) fn drain_mode_to_wire(mode: DrainMode) -> pb::DrainMode {
    match mode {
        DrainMode::Finish => pb::DrainMode::Finish,
        DrainMode::ReleaseUnstarted => pb::DrainMode::ReleaseUnstarted,
        DrainMode::Handover => pb::DrainMode::Handover,
    }
}

/// How busy a worker says it is. Figures that are none are left out, for nothing depends on them.
pub(crate) fn load(given: &pb::WorkerLoad) -> Load {
    let mut unread = Faults::default();
    let lag = span(&mut unread, "event_loop_lag", given.event_loop_lag, Span::ZERO, limits::HORIZON);
    let cpu = if given.cpu.is_finite() { given.cpu.clamp(0.0, 1.0) } else { 0.0 };
    Load { cpu, mem: given.mem, queue_depth: given.queue_depth, event_loop_lag: lag }
}

// === to the wire ===

/// A live worker.
pub(crate) fn write(info: &WorkerInfo, node_id: &str) -> pb::Worker {
    let session = &info.session;
    let sdk = facts(&session.sdk);
    let host = facts(&session.host);
    let text = |facts: &BTreeMap<String, serde_json::Value>, name: &str| {
        facts.get(name).and_then(|v| v.as_str()).unwrap_or_default().to_owned()
    };
    let number = |name: &str| host.get(name).and_then(serde_json::Value::as_u64).unwrap_or_default();
    let small = |name: &str| u32::try_from(number(name)).unwrap_or(u32::MAX);
    let started = i64::try_from(number("started")).unwrap_or_default();
    pb::Worker {
        worker_id: session.worker_id.to_string(),
        namespace: session.namespace.to_string(),
        state: state(info).into(),
        session_id: session.session_id.to_string(),
        epoch: session.epoch.into(),
        pool: session.pool.to_string(),
        capabilities: session.capabilities.iter().map(ToString::to_string).collect(),
        labels: labels(&session.labels),
        topics: session.lanes.iter().flat_map(topics_of).collect(),
        lanes: session.lanes.iter().map(|l| lane(l, &info.lanes)).collect(),
        sdk: Some(pb::SdkInfo {
            name: text(&sdk, "name"),
            version: text(&sdk, "version"),
            language: text(&sdk, "language"),
            runtime: text(&sdk, "runtime"),
        }),
        deployment: Some(pb::Deployment {
            name: text(&host, "service"),
            build_id: text(&host, "build"),
            git_sha: text(&host, "sha"),
        }),
        host: Some(pb::HostInfo {
            hostname: text(&host, "hostname"),
            pid: small("pid"),
            cpus: small("cpus"),
            mem_bytes: number("mem"),
            started_at: (started > 0).then_some(coretex_contract::Timestamp { seconds: started, nanos: 0 }),
        }),
        load: info.load.map(write_load),
        connect_time: Some(timestamp(session.create_time)),
        heartbeat_time: Some(timestamp(info.last_seen)),
        node_id: if info.is_connected { node_id.to_owned() } else { String::new() },
        held: info.held,
        running: info.running,
        protocol_version: PROTOCOL_MAX,
        principal: session.principal.to_string(),
        session_ttl: Some(duration(session.ttl)),
    }
}

/// `worker_id` and `state` only.
pub(crate) fn reference(info: &WorkerInfo) -> pb::Worker {
    pb::Worker {
        worker_id: info.session.worker_id.to_string(),
        state: state(info).into(),
        ..pb::Worker::default()
    }
}

pub(crate) fn state(info: &WorkerInfo) -> pb::WorkerState {
    match (info.is_draining, info.is_connected || info.session.is_polling) {
        (true, _) => pb::WorkerState::Draining,
        (false, true) => pb::WorkerState::Connected,
        (false, false) => pb::WorkerState::Disconnected,
    }
}

fn topics_of(lane: &Lane) -> Vec<pb::TopicRegistration> {
    let registration = |topic: &Arc<str>| pb::TopicRegistration {
        name: topic.to_string(),
        lane: lane.lane_id.to_string(),
        ..pb::TopicRegistration::default()
    };
    lane.topics.iter().map(registration).collect()
}

fn lane(lane: &Lane, totals: &[LaneTotals]) -> pb::WorkerLane {
    let totals = totals.iter().find(|totals| totals.lane_id == lane.lane_id);
    pb::WorkerLane {
        lane_id: lane.lane_id.to_string(),
        topics: lane.topics.iter().map(ToString::to_string).collect(),
        slots: lane.slots,
        granted_total: totals.map_or(0, |totals| totals.granted),
        assigned_total: totals.map_or(0, |totals| totals.assigned),
        ..pb::WorkerLane::default()
    }
}

fn write_load(load: Load) -> pb::WorkerLoad {
    pb::WorkerLoad {
        cpu: load.cpu,
        mem: load.mem,
        queue_depth: load.queue_depth,
        event_loop_lag: load.event_loop_lag.map(duration),
    }
}

fn facts(text: &str) -> BTreeMap<String, serde_json::Value> {
    serde_json::from_str(text).unwrap_or_default()
}

#[cfg(test)]
mod tests;
