//! What all services share: the engine, the settings, and the few things the gateway remembers.

use crate::access::floods::Floods;
use crate::access::guard::Guard;
use crate::access::stored::StoredKeys;
use crate::call::Call;
use crate::metrics::Metrics;
use crate::settings::GatewaySettings;
use crate::tokens::Tokens;
use crate::wire::spec::{SpecReader, warning};
use coretex_contract::v1 as pb;
use coretex_domain::{JobId, Namespace, Reason, Refusal, Time};
use coretex_engine::Engine;
use coretex_engine::namespaces::Place;
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub(crate) struct Gate {
    pub(crate) engine: Engine,
    pub(crate) settings: GatewaySettings,
    pub(crate) tokens: Tokens,
    pub(crate) guard: Arc<Guard>,
    /// API keys of the store. None: this server keeps none.
    pub(crate) keys: Option<Arc<StoredKeys>>,
    pub(crate) floods: Floods,
    pub(crate) metrics: Arc<Metrics>,
    watches: Arc<Semaphore>,
    closing: tokio::sync::watch::Sender<bool>,
    /// Paused topics of each namespace that was asked about.
    paused: RwLock<FxHashMap<Namespace, FxHashSet<String>>>,
}

/// A place among the open watches of the server and of the namespace.
pub(crate) struct WatchPlace {
    _of_server: OwnedSemaphorePermit,
    _of_namespace: Option<Place>,
}

impl Gate {
    pub(crate) fn new(engine: Engine, settings: GatewaySettings) -> Gate {
        let keys = settings.key_pepper.as_ref();
        let keys = keys.map(|pepper| Arc::new(StoredKeys::new(engine.clone(), pepper)));
        let access = match &keys {
            Some(keys) => settings.access.clone().authority(keys.clone()),
            None => settings.access.clone(),
        };
        Gate {
            tokens: Tokens::new(settings.token_key),
            guard: Arc::new(Guard::new(access)),
            keys,
            floods: Floods::default(),
            watches: Arc::new(Semaphore::new(settings.watches_max)),
            closing: tokio::sync::watch::Sender::new(false),
            paused: RwLock::default(),
            metrics: settings.counts.0.clone(),
            engine,
            settings,
        }
    }

    /// Ends watches: the server goes down.
    pub(crate) fn close(&self) {
        self.closing.send_replace(true);
    }

    pub(crate) fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    /// Completes when the server goes down.
    pub(crate) async fn closed(&self) {
        let mut closing = self.closing.subscribe();
        // Fails only when the gate is gone, and we hold it.
        let _ = closing.wait_for(|is_closing| *is_closing).await;
    }

    pub(crate) fn now(&self) -> Time {
        self.engine.env().clock.now().wall
    }

    pub(crate) fn reader(&self, call: &Call) -> SpecReader {
        SpecReader::new(self.now(), self.settings.payload_max, call.trace.clone())
    }

    /// A place among the open watches.
    pub(crate) fn watch_place(&self, namespace: &Namespace) -> Result<WatchPlace, Refusal> {
        let own = self.engine.place_of_watch(namespace)?;
        let place = self.watches.clone().try_acquire_owned().map_err(|_| {
            let message = format!("{} watches are open, as many as allowed", self.settings.watches_max);
            Refusal::new(Reason::TooManyWatches, message)
        })?;
        Ok(WatchPlace { _of_server: place, _of_namespace: own })
    }

    /// Learns which topics of a namespace are paused, once.
    pub(crate) async fn learn_paused(&self, namespace: &Namespace) {
        let known = || self.paused.read().unwrap_or_else(PoisonError::into_inner).contains_key(namespace);
        if known() {
            return;
        }
        // A warning is a courtesy: without the list there is none.
        let Ok(topics) = self.engine.list_topics(namespace).await else { return };
        let paused =
            topics.iter().filter(|t| t.topic.paused.is_some()).map(|t| t.topic.name.to_string()).collect();
        self.paused
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(namespace.clone())
            .or_insert(paused);
    }

    pub(crate) fn set_paused(&self, namespace: &Namespace, topic: &str, is_paused: bool) {
        let mut all = self.paused.write().unwrap_or_else(PoisonError::into_inner);
        let Some(topics) = all.get_mut(namespace) else { return };
        if is_paused {
            topics.insert(topic.to_owned());
        } else {
            topics.remove(topic);
        }
    }

    /// The warning a submit to a paused topic comes with.
    pub(crate) fn paused_warning(&self, namespace: &Namespace, topic: &str) -> Option<pb::Warning> {
        let all = self.paused.read().unwrap_or_else(PoisonError::into_inner);
        all.get(namespace).filter(|topics| !topics.is_empty() && topics.contains(topic)).map(|_| {
            warning(
                Reason::TopicPaused,
                "spec.topic",
                "the topic is paused; the job waits until it is resumed",
            )
        })
    }
}

/// The id of an existing job.
pub(crate) fn job_id(field: &str, text: &str) -> Result<JobId, Refusal> {
    if text.is_empty() {
        return Err(Refusal::field(field, "required"));
    }
    JobId::parse(text).map_err(|fault| {
        Refusal::field(field, format!("{}, got {}", fault.0, coretex_domain::names::shown(text)))
    })
}
