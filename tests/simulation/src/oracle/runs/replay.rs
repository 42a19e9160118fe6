//! What a run decided is decided once more, from the store alone: it must come to the same (I-27).

use super::After;
use super::known::{Verdict, wrong};
use crate::hands::{Apart, read};
use coretex_domain::job::Spec;
use coretex_domain::run::{At, Part, Run, StepState, Trouble, Value, Work};
use coretex_domain::{Job, Time};
use coretex_kernel::value_of;
use coretex_workflow::{Bound, Decided, Pieces, Plan, Site};
use std::sync::Arc;

impl Apart for After<'_> {
    fn part(&self, run: &Run, part: &Part) -> Option<bytes::Bytes> {
        After::part(self, run, part)
    }

    fn job(&self, run: &Run, path: &str) -> Option<Arc<Job>> {
        After::job(self, run, path).cloned()
    }
}

impl After<'_> {
    pub(super) fn decide(&self, plan: &Plan, run: &Run, site: Site) -> Result<Decided, Box<Trouble>> {
        self.decide_at(plan, run, site, run.update_time)
    }

    fn decide_at(&self, plan: &Plan, run: &Run, site: Site, now: Time) -> Result<Decided, Box<Trouble>> {
        let wanted = plan.pieces(run, &site);
        let pieces: Pieces =
            wanted.into_iter().map(|piece| (piece, Arc::new(read(self, plan, run, piece)))).collect();
        plan.decide(run, &site, &pieces, (now, Bound::Beside))
    }

    pub(super) fn replays_begin(&self, plan: &Plan, run: &Run, at: At, work: Work, now: Time) -> Verdict {
        let path = || plan.job_path(run, at, None, false);
        let decided = self.decide_at(plan, run, Site::Begin(at), now);
        let is_same = match (&decided, work) {
            (Ok(Decided::Job(spec)), Work::Job) | (Ok(Decided::Approval(spec)), Work::Approval) => {
                return self.replays_job(run, &path(), spec);
            }
            (Ok(Decided::Items(items)), Work::Items { count } | Work::Groups { count }) => {
                let kept = self.part(run, &Part::Items(at)).map(|body| value_of(&body));
                let is_kept = kept.is_some_and(|kept| kept == **items);
                items.as_array().map_or(0, Vec::len) as u32 == count && (count == 0 || is_kept)
            }
            (Ok(Decided::Group), Work::Group) => true,
            // A value that was worked out beside the loop was so a little earlier.
            (Ok(Decided::Timer(due)), Work::Timer { due: kept }) => kept <= *due,
            (Ok(Decided::Signal { due }), Work::Signal { due: kept }) => {
                due.is_some() == kept.is_some() && kept <= *due
            }
            _ => false,
        };
        match is_same {
            true => Ok(()),
            false => wrong("I-27", format!("{} began as {work:?}, decided again: {decided:?}", path())),
        }
    }

    fn replays_job(&self, run: &Run, path: &str, spec: &Spec) -> Verdict {
        let Some(job) = self.made(run, path) else {
            return wrong("I-25", format!("{path} began and no job was made"));
        };
        let mut wanted = spec.clone();
        if wanted.options().idempotency_key.is_some() {
            // It is kept beside the job, which its run names.
            wanted.options_mut().idempotency_key = None;
        }
        match job.spec.fingerprint() == wanted.fingerprint() {
            true => Ok(()),
            false => wrong("I-27", format!("{path} has {:?}, decided again: {wanted:?}", job.spec)),
        }
    }

    pub(super) fn replays_items(&self, plan: &Plan, run: &Run, at: At, count: u32, now: Time) -> Verdict {
        let first = run.step(at).and_then(|step| step.items()).map_or(0, |items| items.begun);
        let decided = self.decide_at(plan, run, Site::Items { at, first, count }, now);
        let Ok(Decided::Jobs(specs)) = decided else {
            return wrong("I-27", format!("items of {at:?} began, decided again: {decided:?}"));
        };
        for (index, spec) in (first..).zip(&specs) {
            self.replays_job(run, &plan.job_path(run, at, Some(index), false), spec)?;
        }
        Ok(())
    }

    /// A step that ended before it began: its condition does not hold, or a value cannot be had.
    pub(super) fn replays_refusal(
        &self,
        plan: &Plan,
        run: &Run,
        at: At,
        state: StepState,
        now: Time,
    ) -> Verdict {
        let decided = self.decide_at(plan, run, Site::Begin(at), now);
        match (&decided, state) {
            (Ok(Decided::Skip), StepState::Skipped) | (Err(_), StepState::Failed) => Ok(()),
            _ => wrong("I-27", format!("{at:?} ended as {state:?} before it began: {decided:?}")),
        }
    }

    pub(super) fn replays_output(&self, plan: &Plan, run: &Run, output: &Value, now: Time) -> Verdict {
        let decided = self.decide_at(plan, run, Site::Output, now);
        let kept = match output {
            Value::Here(text) => Some(text.to_string()),
            Value::Apart(_) => {
                self.part(run, &Part::Output).map(|body| String::from_utf8_lossy(&body).into_owned())
            }
        };
        match &decided {
            Ok(Decided::Output(Some(text))) if kept.as_deref() == Some(&**text) => Ok(()),
            _ => wrong("I-27", format!("it gave {kept:?}, decided again: {decided:?}")),
        }
    }
}
