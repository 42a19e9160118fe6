//! Submit and wait in one: the wish to be told travels with the job, so the loop hears of it once.

use crate::Engine;
use crate::api::{Accepted, Ask, Caller, Follow, FollowAs};
use coretex_domain::{Job, Reason, Refusal, Span};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;

/// Passes on the end of one job.
struct Ended(Mutex<Option<oneshot::Sender<Arc<Job>>>>);

impl Follow for Ended {
    fn ended(&self, _tag: u64, job: &Arc<Job>) {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sender) = sender {
            let _ = sender.send(job.clone());
        }
    }
}

impl Engine {
    /// Accepts one job and answers when it has ended, or after `timeout` with the job as it stands then.
    pub async fn run(
        &self,
        caller: &Caller,
        ask: Ask,
        request_id: &str,
        timeout: Span,
    ) -> Result<Accepted, Refusal> {
        let until = self.shared.env.clock.now().mono + timeout;
        let (ended, end) = oneshot::channel();
        let follow = FollowAs { sink: Arc::new(Ended(Mutex::new(Some(ended)))), first_tag: 0 };
        let answer = self.submit(caller, vec![ask], request_id, Some(follow)).await?.pop();
        let lost = || Err(Refusal::new(Reason::OutcomeUnknown, "no answer for this job"));
        let Accepted { job, existing } = answer.unwrap_or_else(lost)?;
        if job.state.kind().is_terminal() {
            return Ok(Accepted { job, existing });
        }
        tokio::select! {
            ended = end => {
                if let Ok(job) = ended {
                    return Ok(Accepted { job, existing });
                }
            }
            () = self.shared.env.clock.sleep_until(until) => {}
        }
        // The time is over, or the loop was reloaded and forgot who follows.
        let left = until.since(self.shared.env.clock.now().mono);
        let job = self.wait(&caller.namespace, &job.id, left).await?;
        Ok(Accepted { job, existing })
    }
}
