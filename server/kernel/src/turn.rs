//! What one group of decisions produces: writes that commit together, and effects for after the commit.

use crate::input::{Closed, Effect, KeptStep, Stop, Write};
use crate::path::{approval, family};
use crate::runs;
use crate::view::View;
use coretex_domain::approval::Approval;
use coretex_domain::dead_letter::DeadLetter;
use coretex_domain::job::{Entry, Event, Illegal, StateKind, machine};
use coretex_domain::run::{At, Unfit};
use coretex_domain::time::Now;
use coretex_domain::{Job, JobKey, RunKey, SessionId};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::sync::Arc;

/// One group in the making.
#[derive(Debug)]
pub struct Turn {
    pub now: Now,
    touched: FxHashMap<JobKey, usize>,
    order: Vec<(JobKey, u32)>,
    pub(crate) rows: Vec<Write>,
    /// Newest version of each approval that changed.
    pub(crate) approvals: Vec<Arc<Approval>>,
    pub(crate) effects: Vec<Effect>,
    pub(crate) delivered: Vec<(SessionId, Arc<str>, u64, JobKey)>,
    /// Jobs a kernel elsewhere is to be asked about.
    pub(crate) asked: Vec<JobKey>,
    /// Jobs with a family that ended: what that means for it is still to be decided.
    pub(crate) ended: Vec<JobKey>,
    /// Runs that changed, and by how many entries.
    pub(crate) runs_touched: Vec<(RunKey, u32)>,
    run_places: FxHashMap<RunKey, usize>,
    /// Jobs of runs that ended, items that did, and runs of which something may have to be closed.
    pub(crate) steps_ended: VecDeque<JobKey>,
    pub(crate) items_ended: Vec<(RunKey, At)>,
    pub(crate) to_close: Vec<RunKey>,
    /// Steps a new run takes over from an earlier one.
    pub(crate) kept: Vec<(RunKey, Vec<KeptStep>)>,
    dice: u64,
    /// Moves that table T does not allow; each one is a fault of ours and changed nothing.
    pub illegal: Vec<Illegal>,
    /// Events that did not fit their run; likewise.
    pub unfit: Vec<Unfit>,
}

/// A finished group.
#[derive(Debug, Default)]
pub struct Finished {
    pub writes: Vec<Write>,
    pub effects: Vec<Effect>,
    pub illegal: Vec<Illegal>,
    pub unfit: Vec<Unfit>,
}

impl Turn {
    /// A turn at `now`. `dice` seeds its jitter.
    pub fn new(now: Now, dice: u64) -> Turn {
        Turn {
            now,
            touched: FxHashMap::default(),
            order: Vec::new(),
            rows: Vec::new(),
            approvals: Vec::new(),
            effects: Vec::new(),
            delivered: Vec::new(),
            asked: Vec::new(),
            ended: Vec::new(),
            runs_touched: Vec::new(),
            run_places: FxHashMap::default(),
            steps_ended: VecDeque::new(),
            items_ended: Vec::new(),
            to_close: Vec::new(),
            kept: Vec::new(),
            dice,
            illegal: Vec::new(),
            unfit: Vec::new(),
        }
    }

    /// A number in `0.0..1.0` (splitmix64).
    pub(crate) fn roll(&mut self) -> f64 {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.dice;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Counts `fresh` history entries of a job as part of this group.
    pub(crate) fn touch(&mut self, key: JobKey, fresh: u32) {
        let at = *self.touched.entry(key).or_insert_with(|| {
            self.order.push((key, 0));
            self.order.len() - 1
        });
        self.order[at].1 += fresh;
    }

    /// Counts `fresh` history entries of a run as part of this group.
    pub(crate) fn touch_run(&mut self, key: RunKey, fresh: u32) {
        let at = *self.run_places.entry(key).or_insert_with(|| {
            self.runs_touched.push((key, 0));
            self.runs_touched.len() - 1
        });
        self.runs_touched[at].1 += fresh;
    }

    pub(crate) fn stop(&mut self, session: SessionId, lease_id: u64, why: Stop) {
        self.effects.push(Effect::Stop { session, lease_id, why });
    }

    pub(crate) fn close(&mut self, closed: Closed) {
        self.effects.push(Effect::Closed(closed));
    }

    /// True if nothing was decided that must be written.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
            && self.runs_touched.is_empty()
            && self.rows.is_empty()
            && self.approvals.is_empty()
    }

    /// Ends the turn: snapshots what was touched, adds dead letters, lets ended jobs leave memory.
    pub fn finish(mut self, view: &mut View) -> Finished {
        family::follow(view, &mut self);
        let mut writes = Vec::with_capacity(self.order.len() + self.rows.len());
        let mut effects = Vec::with_capacity(self.delivered.len() + self.effects.len());
        for (key, fresh) in self.order.drain(..) {
            view.number_entries(key, fresh);
            let Some(job) = view.job(key).cloned() else { continue };
            let has_ended = job.state.kind().is_terminal();
            if has_ended {
                let keeps_letters = view.settings(&job).is_none_or(|s| !s.dead_letters_off);
                if keeps_letters && !view.is_planted(crate::mutant::Mutant::DeadLetterLost) {
                    let expire = job.expire_time.unwrap_or(job.update_time);
                    writes.extend(DeadLetter::of(&job, expire).map(|row| Write::DeadLetter(Arc::new(row))));
                }
                view.remove(key);
                effects.push(Effect::Ended(job.clone()));
            } else if job.state.kind() == StateKind::Scheduled {
                view.may_pack(key);
            }
            writes.push(Write::Job { job, fresh });
        }
        writes.extend(runs::file(view, &mut self));
        for row in &mut self.rows {
            if let Write::Job { job, fresh } = row {
                view.number_row(job, *fresh);
            }
        }
        writes.append(&mut self.rows);
        approval::file(view, &mut self);
        writes.extend(self.approvals.drain(..).map(Write::Approval));
        for (session, lane_id, lease_id, key) in self.delivered.drain(..) {
            if let Some(job) = view.job(key)
                && job.state.lease().is_some_and(|l| l.id == lease_id)
            {
                effects.push(Effect::Deliver { session, lane_id, lease_id, job: job.clone() });
            }
        }
        for key in self.asked.drain(..) {
            // It may have ended since in the same turn.
            let pending = view.job(key).filter(|job| job.state.kind() == StateKind::Pending);
            effects.extend(pending.map(|job| Effect::Judge(job.clone())));
        }
        effects.append(&mut self.effects);
        Finished { writes, effects, illegal: self.illegal, unfit: self.unfit }
    }
}

/// Entries get their sequence at the end of the turn, job by job, so that a shard's events follow each other in the
/// order they are written.
pub(crate) const UNNUMBERED: u64 = 0;

fn number(sequences: &mut [u64; 256], job: &mut Arc<Job>, fresh: u32) {
    if fresh == 0 {
        return;
    }
    let newest = &mut sequences[usize::from(job.shard.0)];
    let job = Arc::make_mut(job);
    let first = job.history.len().saturating_sub(fresh as usize);
    for entry in &mut job.history[first..] {
        *newest += 1;
        entry.seq = *newest;
    }
}

// === impl View: the one way to change a job ===

impl View {
    fn number_entries(&mut self, key: JobKey, fresh: u32) {
        if let Some(slot) = self.jobs.get_mut(&key) {
            number(&mut self.sequences, &mut slot.job, fresh);
        }
    }

    fn number_row(&mut self, job: &mut Arc<Job>, fresh: u32) {
        number(&mut self.sequences, job, fresh);
        if let Some(kept) = self.annotated.get_mut(&job.key()) {
            *kept = job.clone();
        }
    }

    /// Applies an event to an open job and files the job anew. An illegal event changes nothing and is reported.
    pub(crate) fn apply(&mut self, key: JobKey, event: Event, turn: &mut Turn) -> bool {
        self.apply_with(key, event, turn, |_| {})
    }

    /// The same, with a change to parts that are not history made along with it.
    pub(crate) fn apply_with(
        &mut self,
        key: JobKey,
        event: Event,
        turn: &mut Turn,
        change: impl FnOnce(&mut Job),
    ) -> bool {
        let Some(slot) = self.jobs.get(&key) else { return false };
        let before = slot.job.state.kind();
        if machine::target(before, event.kind()).is_none() {
            turn.illegal.push(Illegal { from: before, event: event.kind() });
            return false;
        }
        let Some(slot) = self.jobs.get_mut(&key) else { return false };
        let job = Arc::make_mut(&mut slot.job);
        if let Err(illegal) = job.apply(Entry { seq: UNNUMBERED, time: turn.now.wall, event }) {
            turn.illegal.push(illegal);
            return false;
        }
        change(job);
        let has_family = job.family().is_some();
        let is_step = job.of_run().is_some();
        turn.touch(key, 1);
        let after = job.state.kind();
        if before == StateKind::AwaitingApproval || after == StateKind::AwaitingApproval {
            approval::follow(self, key, turn);
        }
        if after.is_terminal() && !before.is_terminal() {
            self.set_expiry(key, after);
            if has_family {
                turn.ended.push(key);
            }
            if is_step {
                turn.steps_ended.push_back(key);
            }
        }
        self.settle_in(key, Some(before), turn.now.wall);
        true
    }

    /// Changes parts of a job that are not history: progress, checkpoint, result, failure.
    pub(crate) fn amend(&mut self, key: JobKey, turn: &mut Turn, change: impl FnOnce(&mut Job)) {
        let Some(slot) = self.jobs.get_mut(&key) else { return };
        let before = slot.job.state.kind();
        change(Arc::make_mut(&mut slot.job));
        turn.touch(key, 0);
        self.settle_in(key, Some(before), turn.now.wall);
    }

    fn set_expiry(&mut self, key: JobKey, after: StateKind) {
        let Some(job) = self.job(key) else { return };
        let defaults = coretex_domain::topic::Settings::default();
        let (settings, of_namespace) = self.kept_by(job);
        let settings = settings.unwrap_or(&defaults);
        let mut keep = job.spec.options().retention.unwrap_or_else(|| settings.retention(of_namespace));
        if after.leaves_dead_letter() && !settings.dead_letters_off {
            keep = keep.max(settings.dead_letter_retention(of_namespace));
        }
        if let Some(slot) = self.jobs.get_mut(&key) {
            let job = Arc::make_mut(&mut slot.job);
            job.expire_time = job.end_time.map(|end| end + keep);
        }
    }

    pub(crate) fn is_planted(&self, mutant: crate::mutant::Mutant) -> bool {
        crate::mutant::planted(self.mutant, mutant)
    }
}
