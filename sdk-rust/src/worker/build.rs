//! Building a worker: everything that cannot work is refused here, not while it runs.

use super::executor::Bound;
use super::host::{host, hostname, sdk};
use super::lanes::LanePlan;
use super::{Command, Worker};
use crate::Ctx;
use crate::client::{Client, ClientBuilder};
use crate::error::{Error, Result};
use crate::handler::{Bind, Binding, Handler, LaneOptions};
use crate::payload::{FromPayload, IntoPayload};
use crate::raw::pb;
use crate::time::span;
use crate::verdict::HandlerError;
use rustc_hash::FxHashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// Lane of handlers that name none.
const LANE: &str = "default";
/// Most slots of a lane, and most lanes and topics of a worker.
const SLOTS_MAX: u32 = 100_000;
const LANES_MAX: usize = 64;
const TOPICS_MAX: usize = 1_024;

/// Where a worker's server is.
#[derive(Clone, Debug)]
pub struct Server(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Client(Client),
    Options(Box<ClientBuilder>),
}

/// Options of a [`Worker`].
#[derive(Debug)]
#[must_use = "a builder does nothing until it builds"]
pub struct WorkerBuilder {
    server: Server,
    hello: pb::Hello,
    slots: u32,
    prefetch: Option<u32>,
    drain_grace: Duration,
    bindings: Vec<Binding>,
}

impl WorkerBuilder {
    pub(super) fn new(server: Server) -> Self {
        let features = ["resume", "batch", "output", "ask.policy", "ask.budget", "ask.secret", "ask.spawn"];
        let features = features.map(str::to_owned).to_vec();
        let hello = pb::Hello {
            protocol_min: 1,
            protocol_max: 1,
            features,
            sdk: Some(sdk()),
            host: Some(host()),
            pool: "default".into(),
            ..Default::default()
        };
        let drain_grace = Duration::from_secs(30);
        Self { server, hello, slots: 64, prefetch: None, drain_grace, bindings: Vec::new() }
    }

    /// Named group it belongs to. Default `default`.
    pub fn pool(mut self, pool: impl Into<String>) -> Self {
        self.hello.pool = pool.into();
        self
    }

    /// Stable name of the process. Default: host name and a random part.
    pub fn worker_id(mut self, worker_id: impl Into<String>) -> Self {
        self.hello.worker_id = worker_id.into();
        self
    }

    /// Jobs it runs at a time in its common lane. Default 64.
    pub fn slots(mut self, slots: u32) -> Self {
        self.slots = slots;
        self
    }

    /// Jobs a lane holds beyond those it runs. Default: as many as it has slots while jobs are short, none otherwise.
    pub fn prefetch(mut self, jobs: u32) -> Self {
        self.prefetch = Some(jobs);
        self
    }

    /// What it has, for example `gpu`.
    pub fn capability(mut self, capability: impl Into<String>) -> Self {
        self.hello.capabilities.push(capability.into());
        self
    }

    /// A name for people and preferences.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.hello.labels.insert(key.into(), value.into());
        self
    }

    /// Build it runs: name of the service, and the build within it.
    pub fn deployment(mut self, name: impl Into<String>, build_id: impl Into<String>) -> Self {
        let (name, build_id) = (name.into(), build_id.into());
        self.hello.deployment = Some(pb::Deployment { name, build_id, ..Default::default() });
        self
    }

    /// How long its session should outlive silence, for example long for boxes that are hard to replace. The server may clamp it.
    pub fn session_grace(mut self, grace: Duration) -> Self {
        self.hello.session_grace = Some(span(grace));
        self
    }

    /// How often it should be heard. The server clamps it.
    pub fn heartbeat(mut self, interval: Duration) -> Self {
        self.hello.desired_heartbeat = Some(span(interval));
        self
    }

    /// How long it may take to finish what it holds when it is told to leave. Default 30 s.
    pub fn drain_grace(mut self, grace: Duration) -> Self {
        self.drain_grace = grace;
        self
    }

    /// Serves what this has: a `#[job]`, a value with `#[jobs]`, or a [`Binding`].
    pub fn bind(mut self, handlers: impl Bind) -> Self {
        self.bindings.extend(handlers.bindings());
        self
    }

    /// Serves a topic with an async function.
    pub fn bind_fn<I, H>(self, topic: impl Into<String>, handler: H) -> Self
    where
        H: Handler<I> + 'static,
        I: FromPayload + Send + 'static,
    {
        self.bind(Binding::new(topic, handler))
    }

    /// Serves a topic with a function that blocks or computes: each job runs on a thread of its own.
    pub fn bind_blocking<I, O, F>(self, topic: impl Into<String>, handler: F) -> Self
    where
        F: Fn(Ctx, I) -> Result<O, HandlerError> + Send + Sync + 'static,
        I: FromPayload + Send + 'static,
        O: IntoPayload,
    {
        self.bind(Binding::blocking(topic, handler))
    }

    /// Checks the options. The connection is made when the worker runs. Must be called within a tokio runtime.
    pub fn build(self) -> Result<Worker> {
        let Self { server, mut hello, slots, prefetch, drain_grace, bindings } = self;
        let client = match server.0 {
            Kind::Client(client) => client,
            Kind::Options(options) => options.connect_lazy()?,
        };
        hello.namespace = client.namespace().to_owned();
        if hello.worker_id.is_empty() {
            let id = uuid::Uuid::now_v7().simple().to_string();
            hello.worker_id = format!("{}-{}", hostname_for_id(), &id[20..]);
        }
        check_topics(&bindings)?;
        let mut lanes: Vec<LanePlan> = Vec::new();
        let mut bound = FxHashMap::default();
        for binding in bindings {
            let lane = lane_of(&mut lanes, &binding, slots, prefetch)?;
            let plan = &lanes[lane];
            hello.topics.push(pb::TopicRegistration {
                name: binding.topic.clone(),
                lane: plan.name.clone(),
                idempotent: binding.idempotent,
                ..Default::default()
            });
            let Binding { topic, is_blocking, invoke, .. } = binding;
            bound.insert(topic, Arc::new(Bound::new(is_blocking, invoke)));
        }
        if lanes.len() > LANES_MAX {
            return Err(Error::option(format!(
                "a worker has at most {LANES_MAX} lanes, this one {}",
                lanes.len()
            )));
        }
        hello.lanes = lanes.iter().map(|lane| registration(lane, &hello.topics)).collect();
        let (commands, finished) = (mpsc::unbounded_channel::<Command>(), watch::channel(false).0);
        Ok(Worker { client, hello, bound, lanes, drain_grace, commands, finished })
    }
}

fn registration(lane: &LanePlan, topics: &[pb::TopicRegistration]) -> pb::LaneRegistration {
    let own = topics.iter().filter(|topic| topic.lane == lane.name);
    pb::LaneRegistration {
        lane_id: lane.name.clone(),
        topics: own.map(|topic| topic.name.clone()).collect(),
        slot_class: lane.slot_class.into(),
        slots: lane.slots,
        prefetch_max: lane.prefetch_max,
    }
}

/// The lane a binding asks for, made when it is the first to do so.
fn lane_of(lanes: &mut Vec<LanePlan>, binding: &Binding, slots: u32, prefetch: Option<u32>) -> Result<usize> {
    let LaneOptions { name, slots: own } =
        binding.lane.clone().unwrap_or(LaneOptions { name: LANE.into(), slots: None });
    let wanted = own.unwrap_or(slots);
    if !(1..=SLOTS_MAX).contains(&wanted) {
        return Err(Error::option(format!(
            "lane `{name}` has {wanted} slots; it must have 1 to {SLOTS_MAX}"
        )));
    }
    if let Some(at) = lanes.iter().position(|lane| lane.name == name) {
        match own {
            Some(own) if own != lanes[at].slots => {
                let message =
                    format!("lane `{name}` is given {own} slots, and {} by another handler", lanes[at].slots);
                return Err(Error::option(message));
            }
            _ => return Ok(at),
        }
    }
    let slot_class = if binding.is_blocking { "thread" } else { "async" };
    let prefetch_max = prefetch.unwrap_or(wanted).min(SLOTS_MAX);
    lanes.push(LanePlan {
        name,
        slots: wanted,
        prefetch_max,
        is_prefetch_auto: prefetch.is_none(),
        slot_class,
    });
    Ok(lanes.len() - 1)
}

fn check_topics(bindings: &[Binding]) -> Result<()> {
    if bindings.is_empty() {
        return Err(Error::option("the worker serves nothing: bind a handler first"));
    }
    if bindings.len() > TOPICS_MAX {
        return Err(Error::option(format!("a worker serves at most {TOPICS_MAX} topics")));
    }
    let mut seen = std::collections::BTreeSet::new();
    for Binding { topic, .. } in bindings {
        if !is_topic(topic) {
            return Err(Error::option(format!("`{topic}` is not a topic: [a-z0-9][a-z0-9._-]{{0,127}}")));
        }
        if !seen.insert(topic) {
            return Err(Error::option(format!("two handlers are bound to the topic `{topic}`")));
        }
    }
    Ok(())
}

fn is_topic(name: &str) -> bool {
    let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = name.as_bytes();
    let starts_well = bytes.first().is_some_and(plain);
    starts_well && bytes.len() <= 128 && bytes.iter().all(|byte| plain(byte) || b"._-".contains(byte))
}

/// A host name as far as worker ids allow it.
fn hostname_for_id() -> String {
    let name: String =
        hostname().chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-' || *c == '.').collect();
    let name: String = name.trim_start_matches(['-', '.']).chars().take(64).collect();
    if name.is_empty() { "worker".into() } else { name }
}

// === impl Server ===

impl From<Client> for Server {
    fn from(client: Client) -> Self {
        Self(Kind::Client(client))
    }
}

impl From<&Client> for Server {
    fn from(client: &Client) -> Self {
        client.clone().into()
    }
}

impl From<ClientBuilder> for Server {
    fn from(options: ClientBuilder) -> Self {
        Self(Kind::Options(Box::new(options)))
    }
}

impl From<&str> for Server {
    fn from(addr: &str) -> Self {
        Client::builder(addr).into()
    }
}

impl From<String> for Server {
    fn from(addr: String) -> Self {
        Client::builder(addr).into()
    }
}
