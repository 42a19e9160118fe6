//! A run as it is kept: one resource, rewritten with each change, and parts that are written once.

use super::{At, Closing, Entry, Lineage, Phase, Plea, Run, RunId, Scope, Signal, Value};
use crate::id::{JobId, Namespace, ShardId};
use crate::resource::{Kind, Resource, ResourceKey};
use crate::time::Time;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Version of what is written here. Every release reads every earlier one.
const VERSION: u32 = 1;

#[derive(Deserialize)]
struct Body {
    v: u32,
    workflow: Arc<str>,
    version: u64,
    input: Value,
    #[serde(default)]
    labels: Vec<(Arc<str>, Arc<str>)>,
    #[serde(default)]
    actor: Arc<str>,
    fingerprint: String,
    #[serde(default)]
    deadline: Option<Time>,
    #[serde(default)]
    concurrency: Option<(Arc<str>, u32)>,
    #[serde(default)]
    has_config: bool,
    #[serde(default)]
    lineage: Option<Lineage>,
    phase: Phase,
    #[serde(default)]
    ending: Option<Closing>,
    scopes: Vec<Scope>,
    #[serde(default)]
    undoable: Vec<(At, Option<u32>)>,
    #[serde(default)]
    undoing: Option<(At, Option<u32>)>,
    #[serde(default)]
    signals: Vec<(u64, Signal)>,
    #[serde(default)]
    signal_ids: Vec<Arc<str>>,
    #[serde(default)]
    output: Option<Value>,
    working: u32,
    waiting: u32,
    start_time: Option<Time>,
    end_time: Option<Time>,
    history: Vec<Entry>,
}

/// The same, borrowed to be written.
#[derive(Serialize)]
struct Written<'a> {
    v: u32,
    workflow: &'a str,
    version: u64,
    input: &'a Value,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    labels: &'a [(Arc<str>, Arc<str>)],
    actor: &'a str,
    fingerprint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    concurrency: &'a Option<(Arc<str>, u32)>,
    has_config: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    lineage: &'a Option<Lineage>,
    phase: Phase,
    #[serde(skip_serializing_if = "Option::is_none")]
    ending: &'a Option<Closing>,
    scopes: &'a [Scope],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    undoable: &'a [(At, Option<u32>)],
    #[serde(skip_serializing_if = "Option::is_none")]
    undoing: Option<(At, Option<u32>)>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    signals: &'a [(u64, Signal)],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    signal_ids: &'a [Arc<str>],
    #[serde(skip_serializing_if = "Option::is_none")]
    output: &'a Option<Value>,
    working: u32,
    waiting: u32,
    start_time: Option<Time>,
    end_time: Option<Time>,
    history: &'a [Entry],
}

impl Run {
    /// The resource it is kept as.
    pub fn to_resource(&self) -> Resource {
        let plea = &self.plea;
        let body = Written {
            v: VERSION,
            workflow: &plea.workflow,
            version: plea.version,
            input: &plea.input,
            labels: &plea.labels,
            actor: &plea.actor,
            fingerprint: format!("{:032x}", plea.fingerprint),
            deadline: plea.deadline,
            concurrency: &plea.concurrency,
            has_config: plea.has_config,
            lineage: &plea.lineage,
            phase: self.phase,
            ending: &self.ending,
            scopes: &self.scopes,
            undoable: &self.undoable,
            undoing: self.undoing,
            signals: &self.signals,
            signal_ids: &self.signal_ids,
            output: &self.output,
            working: self.working,
            waiting: self.waiting,
            start_time: self.start_time,
            end_time: self.end_time,
            history: &self.history,
        };
        Resource {
            kind: Kind::Run,
            namespace: plea.namespace.clone(),
            name: plea.id.name().clone(),
            shard: self.shard,
            revision: self.revision,
            is_live: !self.is_over(),
            create_time: self.create_time,
            update_time: self.update_time,
            expire_time: self.expire_time,
            body: serde_json::to_vec(&body).unwrap_or_default().into(),
        }
    }

    /// Reads what [`Run::to_resource`] gave.
    pub fn of_resource(one: &Resource) -> Result<Run, String> {
        let damaged = |what: String| format!("{} {}: {what}", one.kind, one.name);
        let body: Body = serde_json::from_slice(&one.body).map_err(|error| damaged(error.to_string()))?;
        if body.v > VERSION {
            return Err(damaged(format!("written by a later release, version {}", body.v)));
        }
        let id = RunId::parse(&one.name).map_err(|error| damaged(error.0))?;
        let fingerprint = u128::from_str_radix(&body.fingerprint, 16).map_err(|e| damaged(e.to_string()))?;
        let plea = Plea {
            id,
            namespace: one.namespace.clone(),
            workflow: body.workflow,
            version: body.version,
            input: body.input,
            labels: body.labels,
            actor: body.actor,
            fingerprint,
            deadline: body.deadline,
            concurrency: body.concurrency,
            has_config: body.has_config,
            lineage: body.lineage,
        };
        Ok(Run {
            shard: one.shard,
            plea: Arc::new(plea),
            phase: body.phase,
            ending: body.ending,
            scopes: body.scopes,
            undoable: body.undoable,
            undoing: body.undoing,
            signals: body.signals,
            signal_ids: body.signal_ids,
            output: body.output,
            working: body.working,
            waiting: body.waiting,
            revision: one.revision,
            create_time: one.create_time,
            update_time: one.update_time,
            start_time: body.start_time,
            end_time: body.end_time,
            expire_time: one.expire_time,
            history: body.history,
        })
    }
}

/// A part of a run that is kept apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    Input,
    Output,
    Config,
    /// The items of a step.
    Items(At),
    /// The output of a step that is no job.
    Step(At),
    /// Older history: piece `n` holds the entries after `n` times [`RUN_PIECE`](crate::limits::RUN_PIECE).
    History(u64),
}

impl Part {
    /// Its name, which begins with that of its run.
    pub fn name(&self, run: &RunId) -> Arc<str> {
        match self {
            Part::Input => format!("{run}/input"),
            Part::Output => format!("{run}/output"),
            Part::Config => format!("{run}/config"),
            Part::Items(at) => format!("{run}/items/{}.{}", at.scope, at.place),
            Part::Step(at) => format!("{run}/output/{}.{}", at.scope, at.place),
            Part::History(piece) => format!("{run}/history/{piece:012}"),
        }
        .into()
    }

    pub fn key(&self, run: &RunId, namespace: &Namespace) -> ResourceKey {
        ResourceKey::new(Kind::RunPart, namespace.clone(), self.name(run))
    }

    pub fn to_resource(
        &self,
        run: &RunId,
        namespace: &Namespace,
        shard: ShardId,
        now: Time,
        body: Bytes,
    ) -> Resource {
        Resource {
            kind: Kind::RunPart,
            namespace: namespace.clone(),
            name: self.name(run),
            shard,
            revision: 1,
            is_live: false,
            create_time: now,
            update_time: now,
            // It goes with its run.
            expire_time: None,
            body,
        }
    }
}

/// The open run whose step a job is would be this resource: while it is live, the job is not cleaned.
pub fn run_of_job(job: &JobId, namespace: &Namespace) -> Option<ResourceKey> {
    RunId::of_job(job).map(|run| ResourceKey::new(Kind::Run, namespace.clone(), run.name().clone()))
}

/// The names of all parts of a run lie between these two.
pub fn parts_of(run: &str) -> (String, String) {
    // `0` follows `/`.
    (format!("{run}/"), format!("{run}0"))
}

/// A piece of a history, as it is kept apart.
pub fn history_to_body(entries: &[Entry]) -> Bytes {
    serde_json::to_vec(entries).unwrap_or_default().into()
}

pub fn history_of_body(body: &[u8]) -> Result<Vec<Entry>, String> {
    serde_json::from_slice(body).map_err(|error| format!("history of a run: {error}"))
}
