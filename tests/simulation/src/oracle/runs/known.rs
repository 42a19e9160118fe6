//! A run told a second time: each entry that is committed is one that may come then.

use super::After;
use crate::cover::Cover;
use coretex_domain::Run;
use coretex_domain::job::StateKind;
use coretex_domain::run::body::history_of_body;
use coretex_domain::run::{At, Entry, Event, ON_FAILURE, Outcome, Part, Phase, RunState, StepState, Work};
use coretex_workflow::{Decided, Plan, Site, model::Kind};
use std::sync::Arc;

pub(super) type Verdict = Result<(), (&'static str, String)>;

pub(super) fn wrong(promise: &'static str, what: impl Into<String>) -> Verdict {
    Err((promise, what.into()))
}

/// What requests left in a run: who, and what they did.
pub(super) type Traces = Vec<(Arc<str>, &'static str)>;

/// A run, told a second time: from what was committed of its history, entry by entry.
pub(super) struct Known {
    /// With the whole of its history.
    pub(super) model: Run,
    /// What would have to be undone, by the jobs that succeeded.
    done: Vec<(At, Option<u32>)>,
    /// The first entry that is in the record itself.
    from: u64,
}

/// Takes a run through what is new in its history, and compares what it comes to with the record.
pub(super) fn live(
    known: Option<Known>,
    after: &After<'_>,
    plan: &Plan,
    run: &Run,
    cover: &mut Cover,
    actors: &mut Traces,
) -> Result<Known, (&'static str, String)> {
    let is_new = known.is_none();
    let from = run.history.first().map_or(1, |entry| entry.seq);
    // What was read of its parts before is not read again, until it is over.
    let is_known = known.as_ref().is_some_and(|known| known.from == from) && !run.is_over();
    let whole = if is_known { Vec::new() } else { whole_history(after, run, from)? };
    let (start, history) = if is_known { (from as usize - 1, &run.history) } else { (0, &whole) };
    let mut known = match (known, history.first()) {
        (Some(known), Some(_)) => known,
        (None, Some(first)) => Known::new(Run::made(run.plea.clone(), first.time)),
        (_, None) => return Err(("I-17", "it has no history".into())),
    };
    known.from = from;
    if is_new {
        cover.runs += 1;
        cover.runs_queued += u64::from(run.phase == Phase::Queued);
        actors.push((run.plea.actor.clone(), "started a run"));
    }
    let old = known.model.history.len();
    for (n, entry) in history.iter().enumerate().map(|(n, entry)| (n + start, entry)) {
        if n < old && known.model.history.get(n) != Some(entry) {
            return Err(("I-17", format!("its past was changed: {entry:?}")));
        }
        if entry.seq != n as u64 + 1 {
            return Err(("I-17", format!("entry {} stands at place {}", entry.seq, n + 1)));
        }
        if n >= old {
            if entry.time < known.model.update_time {
                return Err(("I-22", format!("history goes back in time: {entry:?}")));
            }
            known.check(after, plan, entry, cover, actors)?;
            known
                .model
                .apply(entry.time, entry.event.clone())
                .map_err(|unfit| ("I-27", unfit.to_string()))?;
        }
    }
    let length = start + history.len();
    if run.revision != length as u64 {
        return Err(("I-17", format!("revision {} with {length} entries", run.revision)));
    }
    if !known.model.stands_as(run) || known.model.plea != run.plea {
        return Err(("I-27", format!("the record is not the fold of its history: {run:?}")));
    }
    known.check_rest(plan, run)?;
    if run.is_over() {
        let folded = Run::fold(run.plea.clone(), &whole).map_err(|unfit| ("I-27", unfit.to_string()))?;
        if !folded.stands_as(run) {
            return Err(("I-27", "all of its history gives another run".into()));
        }
    }
    Ok(known)
}

/// All entries: those in parts first.
fn whole_history(after: &After<'_>, run: &Run, from: u64) -> Result<Vec<Entry>, (&'static str, String)> {
    let before = (from - 1) as usize;
    let mut whole = Vec::with_capacity(before + run.history.len());
    for piece in 0..before.div_ceil(coretex_domain::limits::RUN_PIECE) as u64 {
        let body = after.part(run, &Part::History(piece));
        let body = body.ok_or_else(|| ("I-27", format!("piece {piece} of its history is gone")))?;
        whole.extend(history_of_body(&body).map_err(|what| ("I-39", what))?);
    }
    whole.extend(run.history.iter().cloned());
    Ok(whole)
}

// === impl Known: may this happen now? ===

impl Known {
    fn new(model: Run) -> Known {
        Known { model, done: Vec::new(), from: 1 }
    }

    fn check(
        &mut self,
        after: &After<'_>,
        plan: &Plan,
        entry: &Entry,
        cover: &mut Cover,
        actors: &mut Traces,
    ) -> Verdict {
        match &entry.event {
            Event::Made { .. } => wrong("I-02", "made twice"),
            Event::Began | Event::UndoEnded { .. } => self.check_undone(after, plan, &entry.event),
            Event::Opened(opening) => self.check_opened(plan, opening.owner, opening.index),
            Event::Started { at, work } => {
                cover.steps += 1;
                self.may_begin(at.scope)?;
                self.needs_are_over(plan, *at)?;
                after.replays_begin(plan, &self.model, *at, *work, entry.time)
            }
            Event::ItemsStarted { at, count } => {
                cover.run_items += u64::from(*count);
                self.may_begin(at.scope)?;
                self.check_window(plan, *at, *count)?;
                after.replays_items(plan, &self.model, *at, *count, entry.time)
            }
            Event::ItemEnded { at, index, outcome } => {
                if self.work_of(*at).is_some_and(|work| matches!(work, Work::Items { .. })) {
                    self.job_ended(after, plan, *at, Some(*index), outcome)?;
                }
                Ok(())
            }
            Event::Ended { at, outcome } => self.check_ended(after, plan, *at, outcome, entry),
            Event::Signalled(signal) => {
                actors.push((signal.actor.clone(), "sent a signal"));
                Ok(())
            }
            Event::Heard { at, signal } => {
                cover.signals += 1;
                self.check_heard(after, plan, *at, *signal)
            }
            Event::GroupClosing { .. } => Ok(()),
            Event::Closing(closing) => {
                actors.push((closing.actor.clone(), "cancelled a run"));
                cover.runs_taken += u64::from(&*closing.error.message == coretex_kernel::TAKEN);
                let is_early = self.model.plea.deadline.is_none_or(|at| entry.time < at);
                match closing.state == RunState::TimedOut && is_early {
                    true => wrong("I-21", "timed out before its time"),
                    false => Ok(()),
                }
            }
            Event::UndoStarted { at, index } => {
                cover.undone += 1;
                match self.done.pop() {
                    Some(last) if last == (*at, *index) => Ok(()),
                    other => wrong("I-26", format!("{at:?} {index:?} is undone, the last done is {other:?}")),
                }
            }
            Event::Over { state, output, .. } => {
                cover.run_ended(*state);
                if *state != RunState::Succeeded && !self.done.is_empty() {
                    return wrong("I-26", format!("over as {state} with {:?} not undone", self.done));
                }
                match output {
                    Some(output) => after.replays_output(plan, &self.model, output, entry.time),
                    None => Ok(()),
                }
            }
        }
    }

    fn work_of(&self, at: At) -> Option<Work> {
        self.model.step(at).and_then(|step| step.work)
    }

    /// In a run that ends nothing begins but what undoes it, and what is done after a failure (I-26).
    fn may_begin(&self, scope: u32) -> Verdict {
        let mut root = self.model.scope(scope);
        while let Some(one) = root.filter(|one| one.owner.is_some()) {
            if one.closing.is_some() {
                return wrong("I-26", "a step began in a group that is being stopped");
            }
            root = one.owner.and_then(|owner| self.model.scope(owner.scope));
        }
        let is_after_failure = root.is_some_and(|one| one.list == ON_FAILURE);
        let is_cancelled = self.model.ending.as_ref().is_some_and(|e| e.state == RunState::Cancelled);
        let may = match (&self.model.ending, is_after_failure) {
            (None, after) => !after && self.model.phase == Phase::Going,
            (Some(_), after) => after && !is_cancelled && self.done.is_empty(),
        };
        if may { Ok(()) } else { wrong("I-26", format!("a step began in phase {:?}", self.model.phase)) }
    }

    fn needs_are_over(&self, plan: &Plan, at: At) -> Verdict {
        let (Some(planned), Some(scope)) = (plan.step(&self.model, at), self.model.scope(at.scope)) else {
            return wrong("I-24", format!("there is no step {at:?}"));
        };
        let open = planned.needs.iter().find(|need| !scope.steps[**need as usize].state.is_over());
        match open {
            Some(need) => {
                wrong("I-24", format!("step {} began before its need {need} was over", planned.id()))
            }
            None => Ok(()),
        }
    }

    fn check_opened(&self, plan: &Plan, owner: Option<At>, index: Option<u32>) -> Verdict {
        let Some(owner) = owner else { return Ok(()) };
        self.may_begin(owner.scope)?;
        match index {
            Some(_) => self.check_window(plan, owner, 1),
            None => Ok(()),
        }
    }

    /// So many items at a time, and none after one that fails the step.
    fn check_window(&self, plan: &Plan, at: At, count: u32) -> Verdict {
        let (Some(planned), Some(items)) =
            (plan.step(&self.model, at), self.model.step(at).and_then(|step| step.items()))
        else {
            return wrong("I-24", format!("{at:?} has no items"));
        };
        if items.open() + count > planned.max_parallel() {
            let (open, most) = (items.open(), planned.max_parallel());
            return wrong("WINDOW", format!("{count} more items with {open} open, at most {most} may be"));
        }
        match planned.fails_with_item() && !items.failed.is_empty() {
            true => wrong("WINDOW", "an item began after one failed that fails its step"),
            false => Ok(()),
        }
    }

    fn check_ended(
        &mut self,
        after: &After<'_>,
        plan: &Plan,
        at: At,
        outcome: &Outcome,
        entry: &Entry,
    ) -> Verdict {
        let Some(step) = self.model.step(at).cloned() else { return Ok(()) };
        if step.state == StepState::Pending {
            self.may_begin(at.scope)?;
            self.needs_are_over(plan, at)?;
            return after.replays_refusal(plan, &self.model, at, outcome.state, entry.time);
        }
        let succeeded = outcome.state == StepState::Succeeded;
        match step.work {
            Some(Work::Job | Work::Approval) => self.job_ended(after, plan, at, None, outcome),
            Some(Work::Timer { due }) if succeeded && entry.time < due => {
                wrong("I-21", format!("the time of {at:?} came {:?} early", due.since(entry.time)))
            }
            Some(Work::Signal { due }) if outcome.state == StepState::Failed => {
                let is_expression = outcome.error.as_ref().is_some_and(|e| e.kind.starts_with("EXPRESSION"));
                match is_expression || due.is_some_and(|due| entry.time >= due) {
                    true => Ok(()),
                    false => wrong("I-21", format!("the wait of {at:?} was given up early")),
                }
            }
            _ => Ok(()),
        }
    }

    /// The end of a job is told to its run in the same commit, once, and as it was (I-25).
    fn job_ended(
        &mut self,
        after: &After<'_>,
        plan: &Plan,
        at: At,
        index: Option<u32>,
        outcome: &Outcome,
    ) -> Verdict {
        let path = plan.job_path(&self.model, at, index, false);
        let Some(job) = after.ended(&self.model, &path) else {
            return wrong("I-25", format!("{path} ended as {:?} and its job did not", outcome.state));
        };
        let wanted = match job.state.kind() {
            StateKind::Succeeded => StepState::Succeeded,
            StateKind::Cancelled => StepState::Cancelled,
            _ => StepState::Failed,
        };
        if outcome.state != wanted {
            return wrong("I-25", format!("{path} ended as {:?}, its job as {:?}", outcome.state, wanted));
        }
        let is_undoable = plan.step(&self.model, at).is_some_and(|planned| planned.step.compensate.is_some());
        if wanted == StepState::Succeeded && is_undoable {
            self.done.push((at, index));
        }
        Ok(())
    }

    fn check_undone(&self, after: &After<'_>, plan: &Plan, event: &Event) -> Verdict {
        let Event::UndoEnded { at, index, outcome } = event else { return Ok(()) };
        let path = plan.job_path(&self.model, *at, *index, true);
        // Where there was nothing to undo it with, there is no job.
        match after.job(&self.model, &path) {
            Some(_) if after.ended(&self.model, &path).is_none() => {
                wrong("I-25", format!("{path} ended as {:?} and its job did not", outcome.state))
            }
            _ => Ok(()),
        }
    }

    fn check_heard(&self, after: &After<'_>, plan: &Plan, at: At, signal: u64) -> Verdict {
        let found = self.model.signals.iter().find(|(seq, _)| *seq == signal);
        let name = plan.step(&self.model, at).and_then(|planned| match &planned.step.kind {
            Kind::WaitEvent(wait) => Some(wait.name.clone()),
            _ => None,
        });
        if found.map(|(_, signal)| &signal.name) != name.as_ref() {
            return wrong("SIGNAL", format!("{at:?} waits for {name:?} and got {found:?}"));
        }
        match after.decide(plan, &self.model, Site::Hear(at)) {
            Ok(Decided::Heard(Some(first))) if first == signal => Ok(()),
            other => wrong("I-27", format!("{at:?} got signal {signal}, its match gives {other:?}")),
        }
    }

    /// A step that takes any signal of a name does not wait while there is one.
    fn check_rest(&self, plan: &Plan, run: &Run) -> Verdict {
        for (at, step) in run.open_steps() {
            let Some(Work::Signal { .. }) = step.work else { continue };
            let Some(Kind::WaitEvent(wait)) = plan.step(run, at).map(|planned| &planned.step.kind) else {
                continue;
            };
            if wait.matching.is_none() && run.signals.iter().any(|(_, signal)| signal.name == wait.name) {
                return wrong("SIGNAL", format!("{at:?} waits for {}, which is there", wait.name));
            }
        }
        Ok(())
    }
}
