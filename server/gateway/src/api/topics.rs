//! `TopicService`: kinds of work and their limits.

use super::jobs::check_request_id;
use super::list::{self, Named, bound, filter, order, page_size, view};
use crate::call::{Answer, Call};
use crate::gate::Gate;
use crate::wire::{Faults, topic};
use coretex_contract::v1 as pb;
use coretex_domain::filter::{Field, Found, Kind, Row, Schema, optional};
use coretex_domain::limits::REASON_LEN_MAX;
use coretex_domain::names::check_topic;
use coretex_domain::{Namespace, Refusal, topic::Topic};
use coretex_engine::TopicView;
use coretex_engine::api::Once;
use prost::Message;
use std::sync::Arc;
use tonic::Request;

const FIELDS: Schema = &[
    Field { name: "name", kind: Kind::Text },
    Field { name: "paused", kind: Kind::Word(&["true", "false"]) },
];
const ORDERS: [&str; 2] = ["name asc", "name desc"];

#[derive(Clone)]
pub(crate) struct Topics(pub(crate) Arc<Gate>);

struct TopicRow<'a>(&'a Topic);

impl Row for TopicRow<'_> {
    fn field(&self, name: &'static str, _key: &str) -> Found<'_> {
        match name {
            "name" => optional(Some(&self.0.name)),
            "paused" => optional(Some(if self.0.paused.is_some() { "true" } else { "false" })),
            _ => Found::Unset,
        }
    }
}

fn name_of(text: &str) -> Result<Arc<str>, Refusal> {
    if text.is_empty() {
        return Err(Refusal::field("topic", "required"));
    }
    check_topic(text).map_err(|message| Refusal::field("topic", message))?;
    Ok(text.into())
}

/// Names a call by its request id, so that a repeat of it is known.
pub(crate) fn once(method: &str, request_id: &str, request: &impl Message) -> Option<Once> {
    let hash = |parts: &[&[u8]]| {
        let mut hash = blake3::Hasher::new();
        for part in parts {
            hash.update(part);
        }
        let mut bits = [0; 16];
        hash.finalize_xof().fill(&mut bits);
        u128::from_le_bytes(bits)
    };
    let is_named = !request_id.is_empty();
    is_named.then(|| Once {
        id: hash(&[method.as_bytes(), &[0], request_id.as_bytes()]),
        body: hash(&[&request.encode_to_vec()]),
    })
}

/// The same for what belongs to a namespace and does not name it: a repeat is one within its namespace.
pub(crate) fn once_in(
    namespace: &Namespace,
    method: &str,
    request_id: &str,
    request: &impl Message,
) -> Option<Once> {
    once(&format!("{method}\0{namespace}"), request_id, request)
}

impl Topics {
    fn write(&self, view: &TopicView) -> Option<pb::Topic> {
        Some(topic::write(view, true, self.0.now()))
    }

    async fn list(
        &self,
        call: &Call,
        request: pb::ListTopicsRequest,
    ) -> Result<pb::ListTopicsResponse, Refusal> {
        let filter = filter(FIELDS, &request.filter)?;
        let page_size = page_size(request.page_size, list::DEFAULT)?;
        let order = order(&request.order_by, &ORDERS)?;
        let with_counters = view(request.view, pb::View::Basic)? != pb::View::Ref;
        let found = self.0.engine.list_topics(&call.namespace).await?;
        let rows = found
            .into_iter()
            .filter(|view| filter.matches_row(&TopicRow(&view.topic)))
            .map(|view| (view.topic.name.to_string(), view))
            .collect();
        let named = Named {
            rows,
            bound: bound("ListTopics", call, &filter, order),
            tokens: &self.0.tokens,
            descending: order.ends_with("desc"),
            page_size,
            page_token: &request.page_token,
        };
        let (page, next_page_token) = named.page()?;
        let now = self.0.now();
        let topics = page.iter().map(|view| topic::write(view, with_counters, now)).collect();
        Ok(pb::ListTopicsResponse { topics, next_page_token })
    }

    async fn update(
        &self,
        call: &Call,
        request: pb::UpdateTopicRequest,
    ) -> Result<pb::UpdateTopicResponse, Refusal> {
        let name = name_of(&request.topic)?;
        check_request_id(&request.request_id)?;
        let once = once("UpdateTopic", &request.request_id, &request);
        let mask = request.update_mask.unwrap_or_default().paths;
        let change = topic::change(request.settings.unwrap_or_default(), &mask)?;
        let view = self.0.engine.update_topic(&call.caller(), name, request.revision, once, change).await?;
        Ok(pb::UpdateTopicResponse { topic: self.write(&view), warnings: Vec::new() })
    }

    async fn pause(
        &self,
        call: &Call,
        request: pb::PauseTopicRequest,
    ) -> Result<pb::PauseTopicResponse, Refusal> {
        let name = name_of(&request.topic)?;
        check_request_id(&request.request_id)?;
        let mut faults = Faults::default();
        faults.text("reason", &request.reason, REASON_LEN_MAX);
        faults.into_result()?;
        self.0.engine.check_topic_declared(&call.namespace, &name)?;
        let once = once("PauseTopic", &request.request_id, &request);
        let reason = request.reason.as_str().into();
        let view = self.0.engine.pause_topic(&call.caller(), name.clone(), reason, once).await?;
        self.0.set_paused(&call.namespace, &name, view.topic.paused.is_some());
        Ok(pb::PauseTopicResponse { topic: self.write(&view) })
    }

    async fn resume(
        &self,
        call: &Call,
        request: pb::ResumeTopicRequest,
    ) -> Result<pb::ResumeTopicResponse, Refusal> {
        let name = name_of(&request.topic)?;
        check_request_id(&request.request_id)?;
        // A topic nobody used is not made by resuming it.
        self.0.engine.get_topic(&call.namespace, &name).await?;
        let once = once("ResumeTopic", &request.request_id, &request);
        let view = self.0.engine.resume_topic(&call.caller(), name.clone(), once).await?;
        self.0.set_paused(&call.namespace, &name, view.topic.paused.is_some());
        Ok(pb::ResumeTopicResponse { topic: self.write(&view) })
    }
}

#[tonic::async_trait]
impl pb::topic_service_server::TopicService for Topics {
    async fn list_topics(&self, request: Request<pb::ListTopicsRequest>) -> Answer<pb::ListTopicsResponse> {
        let call = Call::of(&request);
        call.answer(self.list(&call, request.into_inner()).await)
    }

    async fn get_topic(&self, request: Request<pb::GetTopicRequest>) -> Answer<pb::GetTopicResponse> {
        let call = Call::of(&request);
        let answer = async {
            let name = name_of(&request.get_ref().topic)?;
            let view = self.0.engine.get_topic(&call.namespace, &name).await?;
            Ok(pb::GetTopicResponse { topic: self.write(&view) })
        };
        call.answer(answer.await)
    }

    async fn update_topic(
        &self,
        request: Request<pb::UpdateTopicRequest>,
    ) -> Answer<pb::UpdateTopicResponse> {
        let call = Call::of(&request);
        call.subject(&request.get_ref().topic);
        call.answer(self.update(&call, request.into_inner()).await)
    }

    async fn pause_topic(&self, request: Request<pb::PauseTopicRequest>) -> Answer<pb::PauseTopicResponse> {
        let call = Call::of(&request);
        call.subject(&request.get_ref().topic);
        call.answer(self.pause(&call, request.into_inner()).await)
    }

    async fn resume_topic(
        &self,
        request: Request<pb::ResumeTopicRequest>,
    ) -> Answer<pb::ResumeTopicResponse> {
        let call = Call::of(&request);
        call.subject(&request.get_ref().topic);
        call.answer(self.resume(&call, request.into_inner()).await)
    }
}
