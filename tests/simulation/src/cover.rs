//! What a run reached: figures for the evidence block and for the gates that keep the simulator honest.

use crate::fault::Fault;
use crate::wire::Why;
use coretex_domain::Reason;
use coretex_domain::job::machine::TABLE;
use coretex_domain::job::{EventKind, StateKind};
use coretex_domain::receipt::Told;
use coretex_domain::run::RunState;
use coretex_kernel::input::RejectCode;

/// How runs end.
pub(crate) const RUN_ENDS: [RunState; 4] =
    [RunState::Succeeded, RunState::Failed, RunState::Cancelled, RunState::TimedOut];

/// Figures of one run, or of many added up.
#[derive(Clone, Debug)]
pub struct Cover {
    pub seeds: u64,
    pub events: u64,
    pub sim_ms: u64,
    /// By fault: how often, and in how many seeds.
    pub strikes: [u64; Fault::COUNT],
    pub struck_seeds: [u64; Fault::COUNT],
    /// By row of table T.
    pub moves: Vec<u64>,
    pub acked: u64,
    pub lost: u64,
    pub jobs: u64,
    pub dead_letters: u64,
    pub crashes: u64,
    pub take_overs: u64,
    pub claims: u64,
    pub reloads: u64,
    pub failed_groups: u64,
    pub refused_groups: u64,
    pub fenced_groups: u64,
    pub unknown_outcomes: u64,
    /// Calls of which some try ended unknown, and those that were answered in the end.
    pub unknown_calls: u64,
    pub unknown_calls_resolved: u64,
    /// Attempts lost with their worker, whose work may have been done twice.
    pub duplicate_starts: u64,
    pub stale_updates: u64,
    pub cancelled_updates: u64,
    pub lies_by_id: u64,
    pub lies_by_token: u64,
    pub conflicts: u64,
    pub refused_cancels: u64,
    pub refused_retries: u64,
    pub votes: u64,
    pub refused_votes: u64,
    pub not_owner: u64,
    pub expired_sessions: u64,
    pub reconciled: u64,
    pub resend_verdicts: u64,
    pub looked_again: u64,
    /// Questions that were answered otherwise than with an error.
    pub asks: u64,
    pub asks_repeated: u64,
    /// The same children were asked for in a later attempt.
    pub spawned_before: u64,
    pub asks_stale: u64,
    pub grants_refused: u64,
    /// Jobs that jobs made.
    pub spawned: u64,
    pub spawn_conflicts: u64,
    pub spawn_too_many: u64,
    pub spawn_over_budget: u64,
    pub spawn_invalid: u64,
    /// Children that were stopped because their parent ended.
    pub closed_with_parent: u64,
    /// What runs asked to be worked out beside their loop; reads of it that failed; runs brought back.
    pub evaluated: u64,
    pub run_reads_failed: u64,
    pub runs_loaded: u64,
    pub runs_brought: u64,
    pub runs_refused: u64,
    pub runs: u64,
    /// Runs by how they ended.
    pub runs_ended: [u64; 4],
    pub steps: u64,
    /// Runs that waited for a place of their key, and those that gave theirs to a newer one.
    pub runs_queued: u64,
    pub runs_taken: u64,
    pub run_items: u64,
    pub undone: u64,
    /// Signals that a step took.
    pub signals: u64,
    pub timer_lag_max: u64,
    pub calm_ms_max: u64,
}

impl Default for Cover {
    fn default() -> Cover {
        Cover {
            seeds: 0,
            events: 0,
            sim_ms: 0,
            strikes: [0; Fault::COUNT],
            struck_seeds: [0; Fault::COUNT],
            moves: vec![0; TABLE.len()],
            acked: 0,
            lost: 0,
            jobs: 0,
            dead_letters: 0,
            crashes: 0,
            take_overs: 0,
            claims: 0,
            reloads: 0,
            failed_groups: 0,
            refused_groups: 0,
            fenced_groups: 0,
            unknown_outcomes: 0,
            unknown_calls: 0,
            unknown_calls_resolved: 0,
            duplicate_starts: 0,
            stale_updates: 0,
            cancelled_updates: 0,
            lies_by_id: 0,
            lies_by_token: 0,
            conflicts: 0,
            refused_cancels: 0,
            refused_retries: 0,
            votes: 0,
            refused_votes: 0,
            not_owner: 0,
            expired_sessions: 0,
            reconciled: 0,
            resend_verdicts: 0,
            looked_again: 0,
            asks: 0,
            asks_repeated: 0,
            spawned_before: 0,
            asks_stale: 0,
            grants_refused: 0,
            spawned: 0,
            spawn_conflicts: 0,
            spawn_too_many: 0,
            spawn_over_budget: 0,
            spawn_invalid: 0,
            closed_with_parent: 0,
            evaluated: 0,
            run_reads_failed: 0,
            runs_loaded: 0,
            runs_brought: 0,
            runs_refused: 0,
            runs: 0,
            runs_ended: [0; 4],
            steps: 0,
            runs_queued: 0,
            runs_taken: 0,
            run_items: 0,
            undone: 0,
            signals: 0,
            timer_lag_max: 0,
            calm_ms_max: 0,
        }
    }
}

impl Cover {
    pub(crate) fn strike(&mut self, fault: Fault) {
        self.strikes[fault as usize] += 1;
    }

    pub(crate) fn moved(&mut self, from: StateKind, event: EventKind) {
        if let Some(row) = TABLE.iter().position(|r| r.from == from && r.event == event) {
            self.moves[row] += 1;
        }
    }

    pub(crate) fn refused(&mut self, why: Why) {
        match why {
            Why::NotOwner => self.not_owner += 1,
            Why::Terminal => self.refused_cancels += 1,
            Why::NotTerminal => self.refused_retries += 1,
            Why::Barred | Why::Decided => self.refused_votes += 1,
            Why::NotReady | Why::StoreFull | Why::Store | Why::Conflict | Why::NotFound | Why::Overloaded => {
            }
        }
    }

    pub(crate) fn run_ended(&mut self, state: RunState) {
        let at = RUN_ENDS.iter().position(|one| *one == state);
        self.runs_ended[at.unwrap_or(0)] += 1;
    }

    pub(crate) fn run_refused(&mut self, _refusal: &coretex_domain::Refusal) {
        self.runs_refused += 1;
    }

    pub(crate) fn rejected(&mut self, code: RejectCode) {
        match code {
            RejectCode::StaleLease => self.stale_updates += 1,
            RejectCode::Cancelled => self.cancelled_updates += 1,
            RejectCode::TooLarge => {}
        }
    }

    pub(crate) fn answered(&mut self, answer: &Result<Told, Reason>) {
        match answer {
            Ok(Told::Grant(grant)) if grant.granted == 0 => self.grants_refused += 1,
            Ok(_) => self.asks += 1,
            Err(Reason::StaleLease) => self.asks_stale += 1,
            Err(Reason::IdempotencyConflict) => self.spawn_conflicts += 1,
            Err(Reason::TooMany) => self.spawn_too_many += 1,
            Err(Reason::BudgetExceeded) => self.spawn_over_budget += 1,
            Err(Reason::InvalidField) => self.spawn_invalid += 1,
            Err(_) => {}
        }
    }

    /// Adds the figures of one finished seed.
    pub fn add(&mut self, one: &Cover) {
        self.seeds += 1;
        for n in 0..Fault::COUNT {
            self.strikes[n] += one.strikes[n];
            self.struck_seeds[n] += u64::from(one.strikes[n] > 0);
        }
        self.moves.iter_mut().zip(&one.moves).for_each(|(sum, n)| *sum += n);
        self.runs_ended.iter_mut().zip(&one.runs_ended).for_each(|(sum, n)| *sum += n);
        self.timer_lag_max = self.timer_lag_max.max(one.timer_lag_max);
        self.calm_ms_max = self.calm_ms_max.max(one.calm_ms_max);
        for (sum, n) in self.plain().into_iter().zip(one.clone().plain()) {
            *sum += *n;
        }
    }

    fn plain(&mut self) -> [&mut u64; 54] {
        [
            &mut self.events,
            &mut self.sim_ms,
            &mut self.acked,
            &mut self.lost,
            &mut self.jobs,
            &mut self.dead_letters,
            &mut self.crashes,
            &mut self.take_overs,
            &mut self.claims,
            &mut self.reloads,
            &mut self.failed_groups,
            &mut self.refused_groups,
            &mut self.fenced_groups,
            &mut self.unknown_outcomes,
            &mut self.unknown_calls,
            &mut self.unknown_calls_resolved,
            &mut self.duplicate_starts,
            &mut self.stale_updates,
            &mut self.cancelled_updates,
            &mut self.lies_by_id,
            &mut self.lies_by_token,
            &mut self.conflicts,
            &mut self.refused_cancels,
            &mut self.refused_retries,
            &mut self.votes,
            &mut self.refused_votes,
            &mut self.not_owner,
            &mut self.expired_sessions,
            &mut self.reconciled,
            &mut self.resend_verdicts,
            &mut self.looked_again,
            &mut self.asks,
            &mut self.asks_repeated,
            &mut self.spawned_before,
            &mut self.asks_stale,
            &mut self.grants_refused,
            &mut self.spawned,
            &mut self.spawn_conflicts,
            &mut self.spawn_too_many,
            &mut self.spawn_over_budget,
            &mut self.spawn_invalid,
            &mut self.closed_with_parent,
            &mut self.evaluated,
            &mut self.run_reads_failed,
            &mut self.runs_loaded,
            &mut self.runs_brought,
            &mut self.runs_refused,
            &mut self.runs,
            &mut self.steps,
            &mut self.runs_queued,
            &mut self.runs_taken,
            &mut self.run_items,
            &mut self.undone,
            &mut self.signals,
        ]
    }
}
