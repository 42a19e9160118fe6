//! Frames of the worker protocol, made by hand.

use crate::api::proto_duration;
use coretex_contract::v1::connect_request::Frame as Out;
use coretex_contract::v1::{self as pb, JobUpdateKind};
use std::collections::BTreeMap;
use std::time::Duration;

/// Name of the one lane most tests use.
pub const LANE: &str = "main";

/// Heartbeats often and a session short enough for a test that waits for its end.
pub const SHORT_TTL: Duration = Duration::from_secs(1);
pub const HEARTBEAT: Duration = Duration::from_millis(250);

/// Says who the worker is: one lane, some slots, a session that outlives `ttl` of silence.
pub fn hello(worker_id: &str, topics: &[&str], slots: u32, ttl: Duration) -> pb::Hello {
    let registration = |name: &&str| pb::TopicRegistration {
        name: (*name).to_owned(),
        lane: LANE.to_owned(),
        ..Default::default()
    };
    pb::Hello {
        worker_id: worker_id.to_owned(),
        namespace: "default".to_owned(),
        protocol_min: 1,
        protocol_max: 1,
        features: vec!["resume".into(), "batch".into(), "output".into()],
        sdk: Some(pb::SdkInfo { name: "coretex-e2e".into(), version: "1".into(), ..Default::default() }),
        topics: topics.iter().map(registration).collect(),
        lanes: vec![pb::LaneRegistration {
            lane_id: LANE.to_owned(),
            topics: topics.iter().map(|&name| name.to_owned()).collect(),
            slots,
            prefetch_max: slots,
            ..Default::default()
        }],
        labels: BTreeMap::new().into_iter().collect(),
        desired_heartbeat: Some(proto_duration(HEARTBEAT)),
        session_grace: Some(proto_duration(ttl)),
        ..Default::default()
    }
}

pub fn credit(lane: &str, granted_total: u64) -> Out {
    let grant = pb::CreditGrant { lane_id: lane.to_owned(), granted_total, slots_free: 0 };
    Out::Credit(pb::Credit { grants: vec![grant] })
}

pub fn accept(leases: &[u64]) -> Out {
    Out::AssignAck(pb::AssignAck { accepted: leases.to_vec(), ..Default::default() })
}

pub fn refuse(leases: &[u64], reason: pb::LeaseRefusal) -> Out {
    let rejected =
        leases.iter().map(|&lease_id| pb::RefusedLease { lease_id, reason: reason.into() }).collect();
    Out::AssignAck(pb::AssignAck { rejected, ..Default::default() })
}

/// One thing that happened under a lease.
pub fn update(lease_id: u64, kind: JobUpdateKind) -> pb::JobUpdate {
    pb::JobUpdate { lease_id, kind: kind.into(), ..Default::default() }
}

pub fn started(lease_id: u64) -> pb::JobUpdate {
    update(lease_id, JobUpdateKind::Started)
}

pub fn succeeded(lease_id: u64) -> pb::JobUpdate {
    update(lease_id, JobUpdateKind::Succeeded)
}

pub fn succeeded_with(lease_id: u64, result: &[u8]) -> pb::JobUpdate {
    let result = Some(pb::Payload::data("application/octet-stream", result.to_vec()));
    pb::JobUpdate { result, ..succeeded(lease_id) }
}

pub fn failed(lease_id: u64, kind: &str) -> pb::JobUpdate {
    let failure = pb::Failure { r#type: kind.to_owned(), message: "it failed".into(), ..Default::default() };
    pb::JobUpdate { failure: Some(failure), ..update(lease_id, JobUpdateKind::Failed) }
}

/// The same update, named by its token instead of by its short id.
pub fn by_token(update: pb::JobUpdate, token: &[u8]) -> pb::JobUpdate {
    pb::JobUpdate { lease_id: 0, lease_token: token.to_vec().into(), ..update }
}

/// The hash whose exclusive or over all held leases a heartbeat carries.
pub fn lease_hash(lease_id: u64) -> u64 {
    xxhash_rust::xxh3::xxh3_64(&lease_id.to_le_bytes())
}
