//! `AdminService`: what this server is, its shards, leaving, backups.

use super::jobs::check_request_id;
use super::list::{Named, bound, filter, order, page_size, view};
use crate::call::{Answer, Call};
use crate::gate::Gate;
use crate::wire::Faults;
use crate::wire::job::ack_level;
use crate::wire::time::{duration, positive, timestamp};
use crate::wire::worker::{FEATURES, PROTOCOL_MAX, PROTOCOL_MIN};
use coretex_contract::v1 as pb;
use coretex_domain::filter::{Field, Found, Kind, Row, Schema, optional};
use coretex_domain::limits;
use coretex_domain::names::shown;
use coretex_domain::{Reason, Refusal};
use coretex_engine::api::ShardInfo;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use tonic::Request;

const SHARD_FIELDS: Schema = &[
    Field { name: "shard", kind: Kind::Number },
    Field { name: "state", kind: Kind::Word(&["SERVING", "RECOVERING", "UNOWNED", "STOPPED"]) },
    Field { name: "node_id", kind: Kind::Text },
];
const SHARD_ORDERS: [&str; 2] = ["shard asc", "shard desc"];

#[derive(Clone)]
pub(crate) struct Admin(pub(crate) Arc<Gate>);

struct ShardRow<'a> {
    info: &'a ShardInfo,
    node_id: &'a str,
}

impl Row for ShardRow<'_> {
    fn field(&self, name: &'static str, _key: &str) -> Found<'_> {
        match name {
            "shard" => Found::Number(self.info.shard.into()),
            "state" => optional(Some("SERVING")),
            "node_id" => optional(Some(self.node_id)),
            _ => Found::Unset,
        }
    }
}

impl Admin {
    fn server(&self) -> pb::ServerInfo {
        let gate = &self.0;
        let settings = &gate.settings;
        let info = gate.engine.info();
        pb::ServerInfo {
            version: settings.version.clone(),
            commit: settings.commit.clone(),
            node_id: info.node_id,
            cluster_id: settings.cluster_id.clone(),
            protocol_min: PROTOCOL_MIN,
            protocol_max: PROTOCOL_MAX,
            features: FEATURES.iter().map(ToString::to_string).collect(),
            limits: Some(pb::ServerLimits {
                payload_max_bytes: settings.payload_max as u64,
                message_max_bytes: settings.message_max as u64,
                submit_batch_max: u32::try_from(limits::SUBMIT_BATCH_MAX).unwrap_or(u32::MAX),
                page_size_max: u32::try_from(limits::PAGE_MAX).unwrap_or(u32::MAX),
                wait_max: Some(duration(limits::WAIT_MAX)),
                horizon: Some(duration(limits::HORIZON)),
                store_max_bytes: settings.store_max_bytes,
            }),
            store: Some(self.store()),
            start_time: Some(timestamp(info.start_time)),
            server_time: Some(timestamp(gate.now())),
            profile: settings.profile.clone(),
            ready: gate.engine.is_ready(),
            listen: settings.listen.clone(),
        }
    }

    fn store(&self) -> pb::StoreGuarantees {
        let promises = self.0.engine.guarantees();
        pb::StoreGuarantees {
            kind: promises.name.to_owned(),
            ack_level: ack_level(promises.ack).into(),
            survives_process_crash: promises.survives_process_crash,
            survives_power_loss: promises.survives_power_loss,
            shared: promises.is_shared,
            largest_value_bytes: promises.value_max as u64,
            used_bytes: self.0.engine.stats().bytes,
        }
    }

    async fn shards(
        &self,
        call: &Call,
        request: pb::ListShardsRequest,
    ) -> Result<pb::ListShardsResponse, Refusal> {
        let filter = filter(SHARD_FIELDS, &request.filter)?;
        let page_size = page_size(request.page_size, limits::SHARDS)?;
        let order = order(&request.order_by, &SHARD_ORDERS)?;
        let view = view(request.view, pb::View::Basic)?;
        let node_id = self.0.engine.info().node_id;
        let sequences = self.0.engine.sequences();
        let found = self.0.engine.shards().await?;
        let rows = found
            .into_iter()
            .filter(|info| filter.matches_row(&ShardRow { info, node_id: &node_id }))
            .map(|info| (format!("{:03}", info.shard), info))
            .collect();
        let named = Named {
            rows,
            bound: bound("ListShards", call, &filter, order),
            tokens: &self.0.tokens,
            descending: order.ends_with("desc"),
            page_size,
            page_token: &request.page_token,
        };
        let (page, next_page_token) = named.page()?;
        let write = |info: ShardInfo| {
            let short = pb::Shard {
                shard: info.shard.into(),
                state: pb::ShardState::Serving.into(),
                node_id: node_id.clone(),
                ..pb::Shard::default()
            };
            match view {
                pb::View::Ref => short,
                pb::View::Basic | pb::View::Full | pb::View::Unspecified => pb::Shard {
                    epoch: info.epoch,
                    sequence: sequences.get(usize::from(info.shard)).copied().unwrap_or_default(),
                    open_jobs: info.open_jobs,
                    ..short
                },
            }
        };
        Ok(pb::ListShardsResponse { shards: page.into_iter().map(write).collect(), next_page_token })
    }

    async fn drain(&self, request: pb::DrainNodeRequest) -> Result<pb::DrainNodeResponse, Refusal> {
        check_request_id(&request.request_id)?;
        let mut faults = Faults::default();
        faults.text("reason", &request.reason, limits::REASON_LEN_MAX);
        positive(&mut faults, "deadline", request.deadline);
        faults.into_result()?;
        let info = self.0.engine.info();
        if !request.node_id.is_empty() && request.node_id != info.node_id {
            let message = format!("there is no node {}", shown(&request.node_id));
            return Err(Refusal::new(Reason::NodeNotFound, message).fact("node_id", info.node_id));
        }
        tracing::info!(reason = %request.reason, "the node drains");
        self.0.engine.drain().await;
        let node = pb::Node {
            node_id: info.node_id,
            address: self.0.settings.listen.clone(),
            state: pb::NodeState::Draining.into(),
            shards: u32::try_from(limits::SHARDS).unwrap_or(u32::MAX),
            sessions: u32::try_from(info.sessions).unwrap_or(u32::MAX),
            version: self.0.settings.version.clone(),
            heartbeat_time: Some(timestamp(self.0.now())),
        };
        Ok(pb::DrainNodeResponse { node: Some(node) })
    }

    async fn backup(&self, request: pb::BackupStoreRequest) -> Result<pb::BackupStoreResponse, Refusal> {
        check_request_id(&request.request_id)?;
        let directory = backup_target(&request.directory, self.0.settings.backup_root.as_deref())?;
        let report = self.0.engine.backup(directory).await.map_err(|refusal| match refusal.reason {
            Reason::UnsupportedByStore => Refusal { reason: Reason::BackupUnsupported, ..refusal },
            Reason::StoreUnavailable if refusal.message.contains("not empty") => {
                Refusal { reason: Reason::BackupTargetNotEmpty, ..refusal }
            }
            Reason::StoreUnavailable => Refusal { reason: Reason::BackupFailed, ..refusal },
            _ => refusal,
        })?;
        Ok(pb::BackupStoreResponse { directory: request.directory, bytes: report.bytes, jobs: report.jobs })
    }
}

/// An absolute path without detours, below the root if there is one. The target itself must be empty or absent.
fn backup_target(given: &str, root: Option<&Path>) -> Result<PathBuf, Refusal> {
    let refuse = |message: String| Err(Refusal::field("directory", message));
    let path = Path::new(given);
    if given.is_empty() {
        return refuse("required".into());
    }
    let plain = path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
    if !path.is_absolute() || !plain || given.contains('\0') {
        return refuse(format!("must be an absolute path without `..`, got {}", shown(given)));
    }
    if let Some(root) = root
        && !path.starts_with(root)
    {
        return refuse(format!("must be below the backup root {}, got {}", root.display(), shown(given)));
    }
    let is_occupied = std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
    if is_occupied || path.is_file() {
        let message = format!("directory: {} is not an empty directory", shown(given));
        return Err(Refusal::new(Reason::BackupTargetNotEmpty, message).fact("directory", given));
    }
    Ok(path.to_owned())
}

#[tonic::async_trait]
impl pb::admin_service_server::AdminService for Admin {
    async fn get_server_info(
        &self,
        _request: Request<pb::GetServerInfoRequest>,
    ) -> Answer<pb::GetServerInfoResponse> {
        Ok(tonic::Response::new(pb::GetServerInfoResponse { server: Some(self.server()) }))
    }

    async fn list_shards(&self, request: Request<pb::ListShardsRequest>) -> Answer<pb::ListShardsResponse> {
        let call = Call::of(&request);
        call.answer(self.shards(&call, request.into_inner()).await)
    }

    async fn drain_node(&self, request: Request<pb::DrainNodeRequest>) -> Answer<pb::DrainNodeResponse> {
        let call = Call::of(&request);
        call.subject(&request.get_ref().node_id);
        call.answer(self.drain(request.into_inner()).await)
    }

    async fn backup_store(
        &self,
        request: Request<pb::BackupStoreRequest>,
    ) -> Answer<pb::BackupStoreResponse> {
        let call = Call::of(&request);
        call.subject(&request.get_ref().directory);
        call.answer(self.backup(request.into_inner()).await)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backups_stay_where_they_belong() {
        let root = Path::new("/var/backups");
        for bad in ["", "relative", "/var/backups/../x", "/etc", "/var/backups2/x", "/var/backups/\0"] {
            assert!(backup_target(bad, Some(root)).is_err(), "{bad:?}");
        }
        assert!(backup_target("/var/backups/2026", Some(root)).is_ok());
        assert!(backup_target("/", None).is_err_and(|r| r.reason == Reason::BackupTargetNotEmpty));
    }
}
