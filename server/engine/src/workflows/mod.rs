//! The façade for workflows: what there is, in which versions, and who serves their topics.

mod change;
pub(crate) mod definitions;
mod rows;

pub use change::{ApplyWorkflow, WorkflowApplied};
pub(crate) use definitions::Definitions;
pub use definitions::Versioned;

use crate::Engine;
use crate::namespaces::declared_topics;
use coretex_domain::resource::{Kind, Resource};
use coretex_domain::{Namespace, Reason, Refusal, Time};
use coretex_kernel::dispatcher::TopicKey;
use coretex_workflow::{Problems, Workflow};
use rows::{Facts, Head, Version, head_key, read, version_key};
use std::sync::Arc;

/// Versions read from the store at a time.
const STEP: u64 = 16;
/// Topics looked up while the dispatcher is held.
const AT_A_TIME: usize = 256;
/// Bytes of texts after which a page of versions ends.
const PAGE_BYTES: usize = 1 << 20;

/// A workflow, as one of its versions.
#[derive(Clone, Debug)]
pub struct WorkflowInfo {
    pub name: Arc<str>,
    pub version: u64,
    pub newest_version: u64,
    pub digest: Arc<str>,
    /// As it was applied, where it was asked for.
    pub text: Option<Arc<str>>,
    pub description: Arc<str>,
    pub step_count: u32,
    pub topic_count: u32,
    pub actor: Arc<str>,
    pub comment: Arc<str>,
    pub create_time: Time,
    /// Of the workflow as a whole.
    pub revision: u64,
    pub delete_time: Option<Time>,
}

/// A topic, and whether somebody serves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicServed {
    pub topic: Arc<str>,
    /// Live sessions that serve it.
    pub workers: u32,
    /// The namespace wants topics declared, and this one is not.
    pub is_unknown: bool,
}

fn not_found(name: &str, version: u64) -> Refusal {
    let what = if version == 0 { String::new() } else { format!(", version {version}") };
    Refusal::new(Reason::WorkflowNotFound, format!("workflow {name}{what} not found")).fact("workflow", name)
}

fn deleted(name: &str, newest: u64) -> Refusal {
    let message =
        format!("workflow {name} was deleted; its versions 1 to {newest} are there by their number");
    Refusal::new(Reason::WorkflowNotFound, message).fact("workflow", name)
}

/// The head of a workflow as it stands, deleted or not.
fn head_of(row: Option<&Resource>, name: &str) -> Result<(Head, u64), Refusal> {
    match row {
        Some(one) => Ok((read(one)?, one.revision)),
        None => Err(not_found(name, 0)),
    }
}

// === impl WorkflowInfo ===

impl WorkflowInfo {
    fn new(name: Arc<str>, head: &Head, revision: u64, facts: Facts, create_time: Time) -> WorkflowInfo {
        WorkflowInfo {
            name,
            version: facts.version,
            newest_version: head.newest.version,
            digest: facts.digest,
            text: None,
            description: facts.description,
            step_count: facts.step_count,
            topic_count: facts.topic_count,
            actor: facts.actor,
            comment: facts.comment,
            create_time,
            revision,
            delete_time: head.delete_time(),
        }
    }

    /// The newest version, without its text.
    fn newest(name: Arc<str>, head: &Head, revision: u64) -> WorkflowInfo {
        WorkflowInfo::new(name, head, revision, head.newest.clone(), Time(head.made))
    }
}

// === impl Engine ===

impl Engine {
    /// Reads and checks a text. Mistakes in it are an answer.
    pub async fn read_workflow(&self, text: Arc<str>) -> Result<Result<Arc<Workflow>, Problems>, Refusal> {
        self.shared.definitions.read(text).await
    }

    /// A version of a workflow as it can be run, and the text it was read from; 0 for the newest.
    pub async fn workflow_definition(
        &self,
        namespace: &Namespace,
        name: &str,
        version: u64,
    ) -> Result<Arc<Versioned>, Refusal> {
        definitions::definition(&self.shared, namespace, name, version).await
    }

    /// A version of a workflow; 0 for the newest, which one that was deleted has not.
    pub async fn workflow_info(
        &self,
        namespace: &Namespace,
        name: &str,
        version: u64,
        with_text: bool,
    ) -> Result<WorkflowInfo, Refusal> {
        let (head, revision) = head_of(self.resource(&head_key(namespace, name)).as_deref(), name)?;
        if version == 0 && head.deleted.is_some() {
            return Err(deleted(name, head.newest.version));
        }
        if version == 0 && !with_text {
            return Ok(WorkflowInfo::newest(name.into(), &head, revision));
        }
        let wanted = if version == 0 { head.newest.version } else { version };
        let found = self.read_resources(vec![version_key(namespace, name, wanted)]).await?;
        let one = found.first().ok_or_else(|| not_found(name, wanted))?;
        let Version { facts, text } = read(one)?;
        let info = WorkflowInfo::new(name.into(), &head, revision, facts, one.create_time);
        Ok(WorkflowInfo { text: with_text.then_some(text), ..info })
    }

    /// The workflows of a namespace by name, each as its newest version, without texts.
    pub fn workflows(&self, namespace: &Namespace, with_deleted: bool) -> Result<Vec<WorkflowInfo>, Refusal> {
        let rows = self.resources(Kind::Workflow, namespace);
        let read = |one: &Arc<Resource>| {
            let head: Head = read(one)?;
            Ok(WorkflowInfo::newest(one.name.clone(), &head, one.revision))
        };
        let all: Result<Vec<WorkflowInfo>, Refusal> = rows.iter().map(read).collect();
        let mut all = all?;
        all.retain(|one| with_deleted || one.delete_time.is_none());
        Ok(all)
    }

    /// Versions of a workflow below `before`, newest first; true if more may follow. With their texts as far as they
    /// fit a page, at least one.
    pub async fn workflow_versions(
        &self,
        namespace: &Namespace,
        name: &str,
        before: Option<u64>,
        limit: usize,
        with_text: bool,
    ) -> Result<(Vec<WorkflowInfo>, bool), Refusal> {
        let (head, revision) = head_of(self.resource(&head_key(namespace, name)).as_deref(), name)?;
        let newest = head.newest.version;
        let mut next = before.map_or(newest, |before| before.saturating_sub(1).min(newest));
        let mut page: Vec<WorkflowInfo> = Vec::new();
        let mut bytes = 0;
        while next > 0 && page.len() < limit {
            let left = u64::try_from(limit - page.len()).unwrap_or(STEP).min(STEP);
            let keys =
                (1..=next).rev().take(left as usize).map(|n| version_key(namespace, name, n)).collect();
            for one in self.read_resources(keys).await? {
                let Version { facts, text } = read(&one)?;
                bytes += if with_text { text.len() } else { 0 };
                if bytes > PAGE_BYTES && !page.is_empty() {
                    return Ok((page, true));
                }
                let info = WorkflowInfo::new(name.into(), &head, revision, facts, one.create_time);
                page.push(WorkflowInfo { text: with_text.then_some(text), ..info });
            }
            next = next.saturating_sub(left);
        }
        Ok((page, next > 0))
    }

    /// Who serves the topics of a workflow now.
    pub fn served_topics(&self, namespace: &Namespace, topics: &[Arc<str>]) -> Vec<TopicServed> {
        let declared = declared_topics(&self.shared, namespace);
        let key = |topic: &Arc<str>| TopicKey { namespace: namespace.clone(), topic: topic.clone() };
        let keys: Vec<TopicKey> = topics.iter().map(key).collect();
        let mut served = Vec::with_capacity(keys.len());
        // Loops wait for the dispatcher: it is held for a few at a time.
        for some in keys.chunks(AT_A_TIME) {
            let dispatcher = self.shared.dispatcher();
            served.extend(some.iter().map(|key| TopicServed {
                topic: key.topic.clone(),
                workers: dispatcher.workers_of(key),
                is_unknown: declared.as_ref().is_some_and(|known| !known.contains(&key.topic)),
            }));
        }
        served
    }
}
