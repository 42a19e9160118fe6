//! Secrets for handlers: only those the job refers to, of its own namespace. Every refusal is the same, whatever is behind it.

use super::AskOfWorker;
use crate::audit::{self, Record};
use crate::sessions::Stay;
use crate::shared::Shared;
use coretex_domain::receipt::Told;
use coretex_domain::{Job, Namespace, Reason, Refusal};
use coretex_secrets::{Secret, refs};
use std::sync::Arc;

/// The names, if all of them may be told. The values are looked up once the receipt is written.
pub(super) fn may_have(shared: &Shared, job: &Job, names: &[Arc<str>]) -> Result<Told, Refusal> {
    let (values, known) = (shared.settings.secrets.values(), refs::of_job(job));
    let namespace = job.namespace.as_str();
    let is_fine = names.iter().all(|name| known.contains(name) & values.get(namespace, name).is_some());
    if is_fine { Ok(Told::Secrets(names.to_vec())) } else { Err(refused()) }
}

/// What the values are now.
pub(super) fn values(
    shared: &Shared,
    namespace: &Namespace,
    names: &[Arc<str>],
) -> Result<Vec<(Arc<str>, Secret)>, Refusal> {
    let values = shared.settings.secrets.values();
    let one = |name: &Arc<str>| Some((name.clone(), values.get(namespace.as_str(), name)?.clone()));
    names.iter().map(one).collect::<Option<_>>().ok_or_else(refused)
}

/// Writes down which names were told to whom, or were not. Of refusals the first of a lease is.
pub(super) async fn record(
    shared: &Shared,
    stay: &Stay,
    ask: &AskOfWorker,
    names: &[Arc<str>],
    refusal: Option<&Refusal>,
) -> Result<(), Refusal> {
    if refusal.is_some() && !stay.first_refusal(ask.lease_id) {
        return Ok(());
    }
    let session = stay.session();
    let job = ask.receipt_name.get().and_then(|name| name.split('/').next()).unwrap_or_default();
    let done = if refusal.is_some() { "asked for" } else { "was told" };
    let record = Record {
        actor: session.principal.clone(),
        // Written by the server about an identity of a session.
        actor_kind: "system".into(),
        namespace: session.namespace.as_str().into(),
        method: "WorkerService/Connect".into(),
        subject: job.into(),
        outcome: if refusal.is_some() { "FAILED_PRECONDITION" } else { "OK" }.into(),
        reason: refusal.map_or("", |refusal| refusal.reason.name()).into(),
        detail: format!("worker {} {done} the secrets {}", session.worker_id, names.join(", ")).into(),
        ..Record::default()
    };
    audit::write(shared, record).await
}

fn refused() -> Refusal {
    let message =
        "a secret that was asked for is not told: the job does not refer to it, or has none of that name";
    Refusal::new(Reason::SecretRefused, message)
}
