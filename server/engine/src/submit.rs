//! Submit from the façade: ids and shards chosen, repeats looked up, jobs sent to their loops.

use crate::api::{Accepted, Ask, Caller, FollowAs};
use crate::events::refusal_of;
use crate::house;
use crate::mail::{Mail, ReplyTo, Submitted};
use crate::namespaces;
use crate::shared::Shared;
use coretex_domain::{Job, JobId, Namespace, Reason, Refusal, ShardId, Span};
use coretex_kernel::input::{Input, NewJob, Origin, Reply, Submit};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;

/// Look-ups before a submit that keeps meeting departing jobs is refused.
const LOOKS_MAX: usize = 4;

type Answers = Vec<Result<Accepted, Refusal>>;

pub(crate) async fn submit(
    shared: &Arc<Shared>,
    caller: &Caller,
    asks: Vec<Ask>,
    request_id: &str,
    follow: Option<FollowAs>,
) -> Result<Answers, Refusal> {
    refuse_growth(shared, asks.len())?;
    // Held until all is answered.
    let bytes = || asks.iter().map(|ask| ask.spec.payload.data.len() as u64).sum();
    let _place = namespaces::place_of_jobs(shared, &caller.namespace, asks.len() as u64, bytes).await?;
    let declared = namespaces::declared_topics(shared, &caller.namespace);
    let request_shard =
        (!request_id.is_empty()).then(|| ShardId::of(&[caller.namespace.as_str(), request_id]));
    let any_shard = any_shard(shared);
    let configs = shared.catalog.configs.of(&caller.namespace);
    let mut parts: Vec<(Vec<NewJob>, Vec<usize>)> =
        (0..shared.mailboxes.len()).map(|_| Default::default()).collect();
    let count = asks.len();
    let mut answers: Vec<Option<Result<Accepted, Refusal>>> = vec![None; count];
    for (index, ask) in asks.into_iter().enumerate() {
        if declared.as_ref().is_some_and(|declared| !declared.contains(&ask.spec.topic)) {
            answers[index] = Some(Err(namespaces::undeclared(&ask.spec.topic)));
            continue;
        }
        if let Err(refusal) = house::check(shared, &ask.spec) {
            answers[index] = Some(Err(refusal));
            continue;
        }
        let config = match &configs {
            Some(configs) => configs.for_job(&ask.spec)?,
            None => None,
        };
        let mut new =
            name(shared, &caller.namespace, ask, Request { request_id, index, request_shard, any_shard });
        new.config = config;
        let new = match claim_key(shared, &caller.namespace, new).await? {
            Ok(new) => new,
            Err(answer) => {
                answers[index] = Some(answer);
                continue;
            }
        };
        let part = &mut parts[shared.loop_of(new.id.shard(&caller.namespace))];
        part.0.push(new);
        part.1.push(index);
    }
    for (who, (items, indexes)) in parts.into_iter().enumerate() {
        if items.is_empty() {
            continue;
        }
        let followed = follow.as_ref().map(|f| Follows { follow: f, indexes: &indexes });
        match submit_part(shared, who, caller, items, followed).await {
            Ok(part) => {
                for (index, answer) in indexes.into_iter().zip(part) {
                    answers[index] = Some(answer);
                }
            }
            // The whole request in one part is refused as one; otherwise other parts may be committed already.
            Err(refusal) if indexes.len() == count => return Err(refusal),
            Err(refusal) => {
                for index in indexes {
                    answers[index] = Some(Err(refusal.clone()));
                }
            }
        }
    }
    let missing = || Err(Refusal::new(Reason::OutcomeUnknown, "no answer for this job"));
    Ok(answers.into_iter().map(|a| a.unwrap_or_else(missing)).collect())
}

pub(crate) fn refuse_growth(shared: &Shared, count: usize) -> Result<(), Refusal> {
    if shared.is_draining.load(Ordering::Acquire) {
        return Err(Refusal::new(Reason::ShuttingDown, "the node drains").retry_after(Span::secs(1)));
    }
    if let Some(error) = shared.store.refuses_growth() {
        return Err(refusal_of(error).retry_after(Span::secs(5)));
    }
    let open: u64 = shared.open_jobs.iter().map(|n| n.load(Ordering::Relaxed)).sum();
    let max = shared.settings.open_jobs_max;
    if open + count as u64 > max {
        let message = format!("open_jobs_max: {open} of {max} jobs are open");
        return Err(Refusal::new(Reason::StoreFull, message).retry_after(Span::secs(1)));
    }
    Ok(())
}

/// A shard for jobs that have no say in it: one per request, so that a request is one group.
fn any_shard(shared: &Shared) -> ShardId {
    ShardId((shared.env.dice.bits() & 0xff).to_le_bytes()[0])
}

struct Request<'a> {
    request_id: &'a str,
    index: usize,
    request_shard: Option<ShardId>,
    any_shard: ShardId,
}

/// Chooses the id of a new job, and with it its shard: by its own id, its key, its concurrency key, the request.
fn name(shared: &Shared, namespace: &Namespace, ask: Ask, request: Request<'_>) -> NewJob {
    let Ask { spec, job_id } = ask;
    let now = shared.env.clock.now().wall.0;
    let made = |shard| JobId::make(now, shared.env.dice.bits(), shard);
    let options = spec.options();
    let (id, origin) = if let Some(id) = job_id {
        (id, Origin::Chosen)
    } else if let Some(key) = &options.idempotency_key {
        let shard = ShardId::of(&[namespace.as_str(), key]);
        (made(shard), Origin::Keyed)
    } else {
        let by_key = options.concurrency_key.as_ref().map(|key| ShardId::of(&[namespace.as_str(), key]));
        match request.request_shard {
            Some(shard) => {
                let shard = by_key.unwrap_or(shard);
                let id = derived_id(namespace, request.request_id, request.index, shard);
                (id, Origin::Derived)
            }
            None => (made(by_key.unwrap_or(request.any_shard)), Origin::Fresh),
        }
    };
    NewJob { id, spec, origin, known: None, retry_of: None, config: None, family: None, of_run: None }
}

/// The id that (namespace, request id, index) always gives. Its time is that of the request id where that is a UUIDv7.
pub(crate) fn derived_id(namespace: &Namespace, request_id: &str, index: usize, shard: ShardId) -> JobId {
    let mut hash = blake3::Hasher::new();
    hash.update(namespace.as_str().as_bytes()).update(&[0]).update(request_id.as_bytes());
    hash.update(&[0]).update(&(index as u64).to_le_bytes());
    let mut bits = [0; 16];
    bits.copy_from_slice(&hash.finalize().as_bytes()[..16]);
    // Ids of one request sort by index: it takes the first twelve bits after the time.
    let chance = (u128::from_le_bytes(bits) & ((1 << 62) - 1)) | ((index as u128 & 0xfff) << 62);
    JobId::make(uuid_v7_time(request_id).unwrap_or(0), chance, shard)
}

/// Milliseconds in a textual UUIDv7.
fn uuid_v7_time(text: &str) -> Option<u64> {
    let is_uuid = match text.len() {
        36 => text.as_bytes().get(14) == Some(&b'7'),
        32 => text.as_bytes().get(12) == Some(&b'7'),
        _ => false,
    };
    if !is_uuid {
        return None;
    }
    let digits: String = text.chars().filter(|c| *c != '-').take(12).collect();
    u64::from_str_radix(&digits, 16).ok()
}

/// A job with both an id and a key: the key's shard first commits that the key names this job.
async fn claim_key(
    shared: &Shared,
    namespace: &Namespace,
    new: NewJob,
) -> Result<Result<NewJob, Result<Accepted, Refusal>>, Refusal> {
    let Origin::Chosen = new.origin else { return Ok(Ok(new)) };
    let Some(key) = new.spec.options().idempotency_key.clone() else { return Ok(Ok(new)) };
    let fingerprint = new.spec.fingerprint();
    let row = shared.store.read_key(namespace.clone(), key.clone()).await.map_err(refusal_of)?;
    let home = shared.loop_of(ShardId::of(&[namespace.as_str(), &key]));
    let input = Input::ClaimKey {
        namespace: namespace.clone(),
        key,
        job_id: new.id.clone(),
        fingerprint,
        known: row.map(|row| (row.job_id, row.fingerprint)),
    };
    let Reply::KeyNames(first, print) = crate::ask(shared, home, input).await? else { return Ok(Ok(new)) };
    if print != fingerprint {
        let message = format!("the key was used before with another body, for job {first}");
        return Ok(Err(Err(
            Refusal::new(Reason::IdempotencyConflict, message).fact("job_id", first.to_string())
        )));
    }
    if first == new.id {
        return Ok(Ok(new));
    }
    let found = shared.store.read(namespace.clone(), vec![first.clone()]).await.map_err(refusal_of)?;
    Ok(Err(match found.into_iter().flatten().next() {
        Some(job) => Ok(Accepted { job, existing: true }),
        None => Err(Refusal::new(
            Reason::OutcomeUnknown,
            format!("the key names job {first}, which is being made"),
        )),
    }))
}

struct Follows<'a> {
    follow: &'a FollowAs,
    indexes: &'a [usize],
}

impl Follows<'_> {
    /// Tags of a part of a request. Parts of a split request are tagged one by one, through a sink that maps.
    fn of_part(&self) -> FollowAs {
        let is_whole = self.indexes.iter().enumerate().all(|(n, index)| n == *index);
        if is_whole {
            return self.follow.clone();
        }
        let tags = self.indexes.iter().map(|index| self.follow.first_tag + *index as u64).collect();
        FollowAs { sink: Arc::new(Mapped { sink: self.follow.sink.clone(), tags }), first_tag: 0 }
    }
}

struct Mapped {
    sink: Arc<dyn crate::api::Follow>,
    tags: Vec<u64>,
}

impl crate::api::Follow for Mapped {
    fn ended(&self, tag: u64, job: &Arc<Job>) {
        if let Some(tag) = usize::try_from(tag).ok().and_then(|n| self.tags.get(n)) {
            self.sink.ended(*tag, job);
        }
    }
}

async fn submit_part(
    shared: &Arc<Shared>,
    who: usize,
    caller: &Caller,
    items: Vec<NewJob>,
    follows: Option<Follows<'_>>,
) -> Result<Answers, Refusal> {
    let actor: Option<Box<str>> = (!caller.actor.is_empty()).then(|| Box::from(&*caller.actor));
    let mut submit = Submit { namespace: caller.namespace.clone(), actor, items, looked_at: 0 };
    for _ in 0..LOOKS_MAX {
        submit.looked_at = shared.departed[who].load(Ordering::Acquire);
        look_up(shared, &mut submit).await?;
        let (answer, done) = oneshot::channel();
        let follow = follows.as_ref().map(Follows::of_part);
        shared.post(who, Mail::Decide(Input::Submit(submit), ReplyTo::Submit { answer, follow }))?;
        match done.await {
            Ok(Ok(Submitted::Done(answers))) => return Ok(answers),
            Ok(Ok(Submitted::LookAgain(again))) => submit = again,
            Ok(Err(refusal)) => return Err(refusal),
            Err(_) => {
                let message = "the shard was reloaded meanwhile; send the request again with the same key";
                return Err(Refusal::new(Reason::OutcomeUnknown, message).retry_after(Span(500)));
            }
        }
    }
    Err(Refusal::new(Reason::Overloaded, "jobs of this request keep leaving memory").retry_after(Span(100)))
}

/// Asks the store for jobs that earlier requests made. Jobs of one request were made in one group, so if the first
/// derived id is unknown, so are the others.
async fn look_up(shared: &Shared, submit: &mut Submit) -> Result<(), Refusal> {
    let mut wanted = Vec::new();
    let mut first_derived = None;
    for n in 0..submit.items.len() {
        match submit.items[n].origin {
            Origin::Fresh => {}
            Origin::Chosen => wanted.push(n),
            Origin::Derived if first_derived.is_none() => {
                first_derived = Some(n);
                wanted.push(n);
            }
            Origin::Derived => {}
            Origin::Keyed => look_up_key(shared, submit, n).await?,
        }
    }
    read_into(shared, submit, &wanted).await?;
    if first_derived.is_some_and(|n| submit.items[n].known.is_some()) {
        let rest: Vec<usize> = (0..submit.items.len())
            .filter(|n| Some(*n) != first_derived && matches!(submit.items[*n].origin, Origin::Derived))
            .collect();
        read_into(shared, submit, &rest).await?;
    }
    Ok(())
}

/// Finds the job a key names, with the fingerprint of the request that made it.
async fn look_up_key(shared: &Shared, submit: &mut Submit, n: usize) -> Result<(), Refusal> {
    let Some(key) = submit.items[n].spec.options().idempotency_key.clone() else { return Ok(()) };
    let row = shared.store.read_key(submit.namespace.clone(), key).await.map_err(refusal_of)?;
    submit.items[n].known = None;
    if let Some(row) = row {
        let found =
            shared.store.read(submit.namespace.clone(), vec![row.job_id]).await.map_err(refusal_of)?;
        submit.items[n].known = found.into_iter().flatten().next().map(|job| (job, row.fingerprint));
    }
    Ok(())
}

async fn read_into(shared: &Shared, submit: &mut Submit, wanted: &[usize]) -> Result<(), Refusal> {
    if wanted.is_empty() {
        return Ok(());
    }
    let ids = wanted.iter().map(|n| submit.items[*n].id.clone()).collect();
    let found = shared.store.read(submit.namespace.clone(), ids).await.map_err(refusal_of)?;
    for (n, job) in wanted.iter().zip(found) {
        submit.items[*n].known = job.map(|job| {
            let print = job.fingerprint();
            (job, print)
        });
    }
    Ok(())
}
