//! What workers say, without the values of secrets: before it is decided on, stored or told to anybody.

use crate::api::{AskQuestion, Update, UpdateKind};
use coretex_domain::job::{Failure, Spec};
use coretex_secrets::{arc, is_on, payload};
use std::sync::Arc;

/// Updates of a report.
pub(crate) fn updates(updates: &mut [Update]) {
    if is_on() {
        updates.iter_mut().for_each(update);
    }
}

fn update(update: &mut Update) {
    match &mut update.kind {
        UpdateKind::Started | UpdateKind::Cancelled | UpdateKind::Released { checkpoint: None } => {}
        UpdateKind::Progress { message, attributes, .. } => {
            arc(message);
            for (name, value) in attributes {
                arc(name);
                arc(value);
            }
        }
        UpdateKind::Checkpoint(kept)
        | UpdateKind::Succeeded(kept)
        | UpdateKind::Released { checkpoint: Some(kept) } => payload(kept),
        UpdateKind::Failed { failure: said, .. } => failure(said),
    }
    if let Some(usage) = &mut update.usage {
        arc(&mut usage.model);
    }
}

fn failure(failure: &mut Failure) {
    let Failure { kind, message, retryable: _, details, stack } = failure;
    arc(kind);
    arc(message);
    arc(stack);
    payload(details);
}

/// What a question says about what is to be done.
pub(crate) fn question(question: &mut AskQuestion) {
    match question {
        AskQuestion::Policy(ask) if is_on() => {
            arc(&mut ask.action);
            arc(&mut ask.resource);
            payload(&mut ask.args);
            arc(&mut ask.args_digest);
            ask.risk_tags.iter_mut().for_each(arc);
        }
        AskQuestion::Budget { model, .. } => arc(model),
        AskQuestion::Spawn(ask) if is_on() => {
            arc(&mut ask.name);
            ask.specs.iter_mut().for_each(|one| spec(Arc::make_mut(one)));
        }
        AskQuestion::Policy(_) | AskQuestion::Spawn(_) | AskQuestion::Secret { .. } => {}
    }
}

/// What a handler writes into a job it makes. Names that are checked against an alphabet cannot hold what is put in the
/// place of a value, so they are left to the check.
fn spec(spec: &mut Spec) {
    payload(&mut spec.payload);
    let Some(options) = &mut spec.options else { return };
    for (name, value) in &mut options.labels {
        arc(name);
        arc(value);
    }
    let metadata = &mut options.metadata;
    let keys = [
        &mut options.concurrency_key,
        &mut options.rate_key,
        &mut options.trace_id,
        &mut metadata.actor_id,
        &mut metadata.actor_type,
        &mut metadata.capability,
    ];
    keys.into_iter().flatten().for_each(arc);
    metadata.risk_tags.iter_mut().for_each(arc);
    options.retry.non_retryable_errors.iter_mut().for_each(arc);
}
