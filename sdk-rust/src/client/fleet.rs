//! Calls about workers, topics and the installation.

use super::list::{ListRequest, Page, all_pages};
use super::{Client, request_id};
use crate::error::{Error, Result};
use crate::fleet::{DrainMode, Node, ServerInfo, Shard, Topic, TopicChange, WorkerInfo};
use crate::names::View;
use crate::raw::{Raw, pb};
use crate::time::span;
use futures::Stream;
use std::time::Duration;

fn missing(what: &str) -> Error {
    Error::unexpected(format!("the reply has no {what}"))
}

// === workers ===

impl Client {
    /// A page of workers.
    pub async fn list_workers(&self, request: impl Into<ListRequest>) -> Result<Page<WorkerInfo>> {
        let ListRequest { filter, page_size, page_token, order_by, view } = request.into();
        let view = View::number(view);
        let request = pb::ListWorkersRequest { filter, page_size, page_token, order_by, view };
        let send = |raw: Raw, request| async move { raw.workers().list_workers(request).await };
        let reply = self.call(request, send).await?;
        let items = reply.workers.into_iter().map(WorkerInfo::from_pb).collect();
        Ok(Page { items, next_page_token: reply.next_page_token })
    }

    /// One worker.
    pub async fn get_worker(&self, worker_id: impl Into<String>) -> Result<WorkerInfo> {
        let request = pb::GetWorkerRequest { worker_id: worker_id.into() };
        let send = |raw: Raw, request| async move { raw.workers().get_worker(request).await };
        let worker = self.call(request, send).await?.worker.ok_or_else(|| missing("worker"))?;
        Ok(WorkerInfo::from_pb(worker))
    }

    /// Stops giving work to a worker and asks it to leave.
    pub async fn drain_worker(
        &self,
        worker_id: impl Into<String>,
        mode: DrainMode,
        deadline: Duration,
        reason: impl Into<String>,
    ) -> Result<WorkerInfo> {
        let request = pb::DrainWorkerRequest {
            worker_id: worker_id.into(),
            mode: mode.number(),
            deadline: Some(span(deadline)),
            reason: reason.into(),
            request_id: request_id(),
        };
        let send = |raw: Raw, request| async move { raw.workers().drain_worker(request).await };
        let worker = self.call(request, send).await?.worker.ok_or_else(|| missing("worker"))?;
        Ok(WorkerInfo::from_pb(worker))
    }
}

// === topics ===

impl Client {
    /// A page of topics.
    pub async fn list_topics(&self, request: impl Into<ListRequest>) -> Result<Page<Topic>> {
        let ListRequest { filter, page_size, page_token, order_by, view } = request.into();
        let view = View::number(view);
        let request = pb::ListTopicsRequest { filter, page_size, page_token, order_by, view };
        let send = |raw: Raw, request| async move { raw.topics().list_topics(request).await };
        let reply = self.call(request, send).await?;
        let items = reply.topics.into_iter().map(Topic::from_pb).collect();
        Ok(Page { items, next_page_token: reply.next_page_token })
    }

    /// All topics of a list, page after page.
    pub fn list_all_topics(
        &self,
        request: impl Into<ListRequest>,
    ) -> impl Stream<Item = Result<Topic>> + Send + 'static {
        let client = self.clone();
        all_pages(request.into(), move |request| {
            let client = client.clone();
            async move { client.list_topics(request).await }
        })
    }

    /// One topic with its counters.
    pub async fn get_topic(&self, topic: impl Into<String>) -> Result<Topic> {
        let request = pb::GetTopicRequest { topic: topic.into() };
        let reply =
            self.call(request, |raw, request| async move { raw.topics().get_topic(request).await }).await?;
        reply.topic.map(Topic::from_pb).ok_or_else(|| missing("topic"))
    }

    /// Changes the settings of a topic, and makes the topic if it is not there.
    pub async fn update_topic(&self, change: TopicChange) -> Result<Topic> {
        let mut request = change.into_pb();
        request.request_id = request_id();
        let send = |raw: Raw, request| async move { raw.topics().update_topic(request).await };
        let reply = self.call(request, send).await?;
        reply.topic.map(Topic::from_pb).ok_or_else(|| missing("topic"))
    }

    /// Stops handing out jobs of a topic.
    pub async fn pause_topic(&self, topic: impl Into<String>, reason: impl Into<String>) -> Result<Topic> {
        let request =
            pb::PauseTopicRequest { topic: topic.into(), reason: reason.into(), request_id: request_id() };
        let send = |raw: Raw, request| async move { raw.topics().pause_topic(request).await };
        let reply = self.call(request, send).await?;
        reply.topic.map(Topic::from_pb).ok_or_else(|| missing("topic"))
    }

    /// Hands out jobs of a topic again.
    pub async fn resume_topic(&self, topic: impl Into<String>) -> Result<Topic> {
        let request = pb::ResumeTopicRequest { topic: topic.into(), request_id: request_id() };
        let send = |raw: Raw, request| async move { raw.topics().resume_topic(request).await };
        let reply = self.call(request, send).await?;
        reply.topic.map(Topic::from_pb).ok_or_else(|| missing("topic"))
    }
}

// === the installation ===

impl Client {
    /// What the server is, speaks and promises.
    pub async fn server_info(&self) -> Result<ServerInfo> {
        let request = pb::GetServerInfoRequest {};
        let send = |raw: Raw, request| async move { raw.admin().get_server_info(request).await };
        let reply = self.call(request, send).await?;
        reply.server.map(ServerInfo::from_pb).ok_or_else(|| missing("server"))
    }

    /// A page of shards; by default all of them.
    pub async fn list_shards(&self, request: impl Into<ListRequest>) -> Result<Page<Shard>> {
        let ListRequest { filter, page_size, page_token, order_by, view } = request.into();
        let view = View::number(view);
        let request = pb::ListShardsRequest { filter, page_size, page_token, order_by, view };
        let send = |raw: Raw, request| async move { raw.admin().list_shards(request).await };
        let reply = self.call(request, send).await?;
        let items = reply.shards.into_iter().map(Shard::from_pb).collect();
        Ok(Page { items, next_page_token: reply.next_page_token })
    }

    /// Makes a node give its shards and workers to the others. An empty id means the node that answers.
    pub async fn drain_node(
        &self,
        node_id: impl Into<String>,
        deadline: Duration,
        reason: impl Into<String>,
    ) -> Result<Node> {
        let request = pb::DrainNodeRequest {
            node_id: node_id.into(),
            deadline: Some(span(deadline)),
            reason: reason.into(),
            request_id: request_id(),
        };
        let reply =
            self.call(request, |raw, request| async move { raw.admin().drain_node(request).await }).await?;
        reply.node.map(Node::from_pb).ok_or_else(|| missing("node"))
    }

    /// Writes a consistent copy of the store into a directory of the server's machine. Returns its size in bytes and the jobs in it.
    pub async fn backup_store(&self, directory: impl Into<String>, timeout: Duration) -> Result<(u64, u64)> {
        let request = pb::BackupStoreRequest { directory: directory.into(), request_id: request_id() };
        let send = |raw: Raw, request| async move { raw.admin().backup_store(request).await };
        let reply = self.call_within(timeout, request, send).await?;
        Ok((reply.bytes, reply.jobs))
    }
}
