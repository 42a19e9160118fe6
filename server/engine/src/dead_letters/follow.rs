//! The ends of retried jobs: told by the loops that end them, and looked up now and then, for a loop that is loaded
//! again forgets who follows.

use crate::Engine;
use crate::api::{Follow, FollowAs};
use coretex_domain::dead_letter::DeadLetter;
use coretex_domain::{Job, JobId, Namespace, Refusal, Span, Time};
use rustc_hash::FxHashMap;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Jobs followed at a time.
pub(super) const OPEN_MAX: usize = 10_000;
/// How often jobs that are followed are looked up.
const LOOK_EVERY: Span = Span::secs(5);
const LOOKED_UP_AT_A_TIME: usize = 500;

struct Ends(mpsc::Sender<(u64, Arc<Job>)>);

impl Follow for Ends {
    fn ended(&self, tag: u64, job: &Arc<Job>) {
        // Full only if more are told than are followed; the look-up finds what is left out.
        let _ = self.0.try_send((tag, job.clone()));
    }
}

/// A job that has not ended yet, as far as we know.
struct Open {
    job_id: JobId,
    /// Of the dead letter it was made from.
    fingerprint: u64,
}

/// How a retried job ended.
pub(super) struct Ended {
    pub(super) job_id: JobId,
    pub(super) has_succeeded: bool,
    /// It left a dead letter like the one it was made from.
    pub(super) is_repeat: bool,
}

pub(super) struct Following {
    open: FxHashMap<u64, Open>,
    ends: mpsc::Receiver<(u64, Arc<Job>)>,
    sink: Arc<Ends>,
    next_tag: u64,
    looked: Time,
    ready: Vec<Ended>,
}

impl Following {
    pub(super) fn new(now: Time) -> Following {
        let (sender, ends) = mpsc::channel(OPEN_MAX);
        Following {
            open: FxHashMap::default(),
            ends,
            sink: Arc::new(Ends(sender)),
            next_tag: 0,
            looked: now,
            ready: Vec::new(),
        }
    }

    pub(super) fn count(&self) -> usize {
        self.open.len()
    }

    /// A place for a job to be made. Give it to [`Following::began`] once it is.
    pub(super) fn place(&mut self) -> FollowAs {
        self.next_tag += 1;
        FollowAs { sink: self.sink.clone(), first_tag: self.next_tag }
    }

    pub(super) fn began(&mut self, place: &FollowAs, job_id: JobId, fingerprint: u64) {
        self.open.insert(place.first_tag, Open { job_id, fingerprint });
    }

    /// Jobs that have ended since the last call.
    pub(super) fn take(&mut self) -> Vec<Ended> {
        while let Ok((tag, job)) = self.ends.try_recv() {
            self.end(tag, Some(&job));
        }
        std::mem::take(&mut self.ready)
    }

    /// Waits for an end, at most until `until`.
    pub(super) async fn wait(
        &mut self,
        engine: &Engine,
        namespace: &Namespace,
        until: Time,
    ) -> Result<(), Refusal> {
        let clock = engine.env().clock.clone();
        tokio::select! {
            ended = self.ends.recv() => {
                if let Some((tag, job)) = ended {
                    self.end(tag, Some(&job));
                }
            }
            () = clock.sleep_until(until) => {}
        }
        let now = clock.now().mono;
        if now.since(self.looked) >= LOOK_EVERY {
            self.looked = now;
            self.look(engine, namespace).await?;
        }
        Ok(())
    }

    async fn look(&mut self, engine: &Engine, namespace: &Namespace) -> Result<(), Refusal> {
        let open: Vec<(u64, JobId)> =
            self.open.iter().map(|(tag, open)| (*tag, open.job_id.clone())).collect();
        for chunk in open.chunks(LOOKED_UP_AT_A_TIME) {
            let ids = chunk.iter().map(|(_, id)| id.clone()).collect();
            for ((tag, _), job) in chunk.iter().zip(engine.batch_get(namespace, ids).await?) {
                // One that is not there any more has ended, nobody knows how.
                if job.as_ref().is_none_or(|job| job.state.kind().is_terminal()) {
                    self.end(*tag, job.as_ref());
                }
            }
        }
        Ok(())
    }

    fn end(&mut self, tag: u64, job: Option<&Arc<Job>>) {
        let Some(Open { job_id, fingerprint }) = self.open.remove(&tag) else { return };
        let kind = job.map(|job| job.state.kind());
        let letter = job.and_then(|job| DeadLetter::of(job, Time::NEVER));
        self.ready.push(Ended {
            job_id,
            has_succeeded: kind == Some(coretex_domain::job::StateKind::Succeeded),
            is_repeat: letter.is_some_and(|letter| letter.fingerprint == fingerprint),
        });
    }
}
