//! The façade for topics: settings, pause, counters.

use crate::api::{Caller, Once, ServerFrame, TopicCounts};
use crate::{Engine, ask};
use coretex_domain::limits::{REQUEST_ID_RETENTION, TOPIC_CALLS_MAX};
use coretex_domain::topic::{Pause, Settings, Topic, TopicCall};
use coretex_domain::{Namespace, Reason, Refusal, ShardId, Time};
use coretex_kernel::dispatcher::TopicKey;
use coretex_kernel::input::{Input, Reply};
use rustc_hash::FxHashMap;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A topic with what is going on in it.
#[derive(Clone, Debug)]
pub struct TopicView {
    pub topic: Arc<Topic>,
    pub counts: TopicCounts,
    /// Live sessions that serve it.
    pub workers: u32,
}

impl Engine {
    /// Topics with settings or open jobs, by name.
    pub async fn list_topics(&self, namespace: &Namespace) -> Result<Vec<TopicView>, Refusal> {
        let mut found: BTreeMap<Arc<str>, TopicView> = BTreeMap::new();
        for row in self.shared.topic_rows(namespace) {
            found.insert(row.name.clone(), view_of(row));
        }
        for who in 0..self.shared.mailboxes.len() {
            let input = Input::Topics { namespace: Some(namespace.clone()) };
            let Reply::Topics(counts) = ask(&self.shared, who, input).await? else { continue };
            for one in counts {
                let name = one.topic.topic.clone();
                let entry = found.entry(name.clone()).or_insert_with(|| view_of(unset(namespace, name)));
                add_counts(&mut entry.counts, &one);
            }
        }
        let dispatcher = self.shared.dispatcher();
        let mut views: Vec<TopicView> = found.into_values().collect();
        for view in &mut views {
            view.workers = dispatcher.workers_of(&view.counts.topic);
        }
        Ok(views)
    }

    /// Open jobs of every topic of every namespace.
    pub async fn topic_counts(&self) -> Result<Vec<TopicCounts>, Refusal> {
        let mut found: FxHashMap<TopicKey, TopicCounts> = FxHashMap::default();
        for who in 0..self.shared.mailboxes.len() {
            let input = Input::Topics { namespace: None };
            let Reply::Topics(counts) = ask(&self.shared, who, input).await? else { continue };
            for one in counts {
                match found.get_mut(&one.topic) {
                    Some(total) => add_counts(total, &one),
                    None => drop(found.insert(one.topic.clone(), one)),
                }
            }
        }
        Ok(found.into_values().collect())
    }

    pub async fn get_topic(&self, namespace: &Namespace, name: &str) -> Result<TopicView, Refusal> {
        let found = self.list_topics(namespace).await?.into_iter().find(|view| &*view.topic.name == name);
        found.ok_or_else(|| {
            Refusal::new(Reason::TopicNotFound, format!("topic {name} not found")).fact("topic", name)
        })
    }

    /// Changes settings; a revision other than 0 must be the present one.
    pub async fn update_topic(
        &self,
        caller: &Caller,
        name: Arc<str>,
        revision: u64,
        once: Option<Once>,
        change: Box<dyn FnOnce(&mut Settings) + Send>,
    ) -> Result<TopicView, Refusal> {
        self.change_topic(caller, name, revision, once, |topic| change(&mut topic.settings)).await
    }

    /// Jobs are still accepted; none is handed out until the topic is resumed.
    pub async fn pause_topic(
        &self,
        caller: &Caller,
        name: Arc<str>,
        reason: Arc<str>,
        once: Option<Once>,
    ) -> Result<TopicView, Refusal> {
        let since = self.shared.env.clock.now().wall;
        let pause = Pause { reason, since, actor: caller.actor.clone() };
        self.change_topic(caller, name, 0, once, |topic| topic.paused = Some(pause)).await
    }

    pub async fn resume_topic(
        &self,
        caller: &Caller,
        name: Arc<str>,
        once: Option<Once>,
    ) -> Result<TopicView, Refusal> {
        self.change_topic(caller, name, 0, once, |topic| topic.paused = None).await
    }

    async fn change_topic(
        &self,
        caller: &Caller,
        name: Arc<str>,
        revision: u64,
        once: Option<Once>,
        change: impl FnOnce(&mut Topic) + Send + 'static,
    ) -> Result<TopicView, Refusal> {
        // In a task of its own: a caller that goes away half-way must not leave the loops with different rows.
        let (engine, caller) = (self.clone(), caller.clone());
        let changed =
            tokio::spawn(async move { engine.change_topic_row(&caller, name, revision, once, change).await });
        changed.await.unwrap_or_else(|_| Err(crate::reloaded()))
    }

    async fn change_topic_row(
        &self,
        caller: &Caller,
        name: Arc<str>,
        revision: u64,
        once: Option<Once>,
        change: impl FnOnce(&mut Topic) + Send,
    ) -> Result<TopicView, Refusal> {
        // One change at a time: the row read is the row replaced.
        let _turn = self.shared.topic_turn.lock().await;
        let rows = self.shared.topic_rows(&caller.namespace);
        let present = rows
            .into_iter()
            .find(|t| t.name == name)
            .unwrap_or_else(|| unset(&caller.namespace, name.clone()));
        if is_repeat(&present, once)? {
            return self.get_topic(&caller.namespace, &name).await;
        }
        if revision != 0 && revision != present.revision {
            let message =
                format!("revision: topic {name} is at revision {}, not {revision}", present.revision);
            return Err(Refusal::new(Reason::RevisionMismatch, message)
                .fact("revision", present.revision.to_string()));
        }
        let mut next = (*present).clone();
        change(&mut next);
        next.revision = present.revision + 1;
        next.update_time = self.shared.env.clock.now().wall;
        remember(&mut next, once);
        let next = Arc::new(next);
        // The catalog's loop writes the row; the others only mirror it.
        let home = self.shared.loop_of(ShardId::CATALOG);
        ask(&self.shared, home, Input::SetTopic(next.clone())).await?;
        for who in (0..self.shared.mailboxes.len()).filter(|who| *who != home) {
            ask(&self.shared, who, Input::MirrorTopic(next.clone())).await?;
        }
        self.shared.keep_topic_row(next.clone());
        let wakes = self.shared.dispatcher().set_topic(next.clone(), next.update_time);
        self.shared.wake(wakes.into_iter().collect());
        if present.paused.is_some() != next.paused.is_some() {
            self.tell_workers(&next);
        }
        self.get_topic(&caller.namespace, &name).await
    }

    fn tell_workers(&self, topic: &Topic) {
        for stay in self.shared.sessions.all() {
            let session = stay.session();
            if session.namespace == topic.namespace && session.lane_of(&topic.name).is_some() {
                let is_paused = topic.paused.is_some();
                stay.send_control(ServerFrame::TopicPaused { topic: topic.name.clone(), is_paused });
            }
        }
    }
}

/// True if this very call has changed the topic before.
fn is_repeat(topic: &Topic, once: Option<Once>) -> Result<bool, Refusal> {
    let Some(once) = once else { return Ok(false) };
    match topic.calls.iter().find(|call| call.id == once.id) {
        None => Ok(false),
        Some(call) if call.body == once.body => Ok(true),
        Some(_) => {
            let message =
                format!("request_id: it came before with another request, for topic {}", topic.name);
            Err(Refusal::new(Reason::IdempotencyConflict, message))
        }
    }
}

/// Keeps the call with the row it changed, and drops those that are too old or too many.
fn remember(topic: &mut Topic, once: Option<Once>) {
    let Some(Once { id, body }) = once else { return };
    let now = topic.update_time;
    topic.calls.retain(|call| now.since(call.time) < REQUEST_ID_RETENTION);
    let surplus = (topic.calls.len() + 1).saturating_sub(TOPIC_CALLS_MAX);
    topic.calls.drain(..surplus);
    topic.calls.push(TopicCall { id, body, time: now });
}

fn unset(namespace: &Namespace, name: Arc<str>) -> Arc<Topic> {
    Arc::new(Topic {
        namespace: namespace.clone(),
        name,
        settings: Settings::default(),
        paused: None,
        revision: 0,
        update_time: Time(0),
        calls: Vec::new(),
    })
}

fn view_of(topic: Arc<Topic>) -> TopicView {
    let key = TopicKey { namespace: topic.namespace.clone(), topic: topic.name.clone() };
    TopicView { topic, counts: TopicCounts { topic: key, by_state: [0; 13], oldest_ready: None }, workers: 0 }
}

fn add_counts(total: &mut TopicCounts, more: &TopicCounts) {
    total.by_state.iter_mut().zip(more.by_state).for_each(|(sum, n)| *sum += n);
    total.oldest_ready = [total.oldest_ready, more.oldest_ready].into_iter().flatten().min();
}
