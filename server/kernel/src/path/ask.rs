//! Ask: what a worker wants to know or have in the middle of an attempt in; the answer and its receipt out, in one commit.

use crate::input::{Ask, Write};
use crate::mutant::Mutant;
use crate::path::settle::begin;
use crate::{Turn, View, timers};
use coretex_domain::receipt::{Receipt, Told};
use coretex_domain::{JobKey, Reason, Refusal};
use std::sync::Arc;

/// Fenced like a report: it counts if and only if its lease is the open one, and a handler that asks has started.
/// Nothing is told where the look-up for an earlier answer may be stale.
pub(crate) fn ask(view: &mut View, asked: Ask, turn: &mut Turn) -> Option<Result<Told, Refusal>> {
    let is_stale = view.may_have_departed(asked.job, asked.looked_at);
    (!is_stale).then(|| answer(view, asked, turn))
}

fn answer(view: &mut View, asked: Ask, turn: &mut Turn) -> Result<Told, Refusal> {
    enter(view, &asked, turn)?;
    let Ask { lease_id, job: key, mut receipt, .. } = asked;
    if let Told::Grant(grant) = &mut receipt.told {
        let mut is_granted = false;
        view.amend(key, turn, |job| is_granted = job.reserve(grant.dimension, grant.asked));
        grant.granted = if is_granted { grant.asked } else { 0 };
        grant.remaining = view.job(key).and_then(|job| job.unreserved(grant.dimension));
    }
    write_down(view, key, lease_id, &receipt, turn)?;
    Ok(receipt.told)
}

/// Refuses what does not come under the open lease. The handler has started.
pub(super) fn enter(view: &mut View, asked: &Ask, turn: &mut Turn) -> Result<(), Refusal> {
    let open = view.job(asked.job).and_then(|job| job.state.lease());
    let is_open = open.is_some_and(|lease| {
        lease.session == asked.session && lease.id == asked.lease_id && lease.serial == asked.receipt.serial
    });
    if !is_open && !view.is_planted(Mutant::AskNotFenced) {
        return Err(stale(asked.lease_id));
    }
    begin(view, asked.job, turn);
    Ok(())
}

/// Keeps an answer as long as the record of the job would be kept if it failed with this attempt.
pub(super) fn write_down(
    view: &View,
    key: JobKey,
    lease_id: u64,
    receipt: &Receipt,
    turn: &mut Turn,
) -> Result<(), Refusal> {
    let Some(job) = view.job(key) else { return Err(stale(lease_id)) };
    let defaults = coretex_domain::topic::Settings::default();
    let (settings, of_namespace) = view.kept_by(job);
    let settings = settings.unwrap_or(&defaults);
    let options = job.spec.options();
    let runs = timers::timeouts(job, Some(settings)).start_to_close();
    let keep = options
        .retention
        .unwrap_or_else(|| settings.retention(of_namespace))
        .max(settings.dead_letter_retention(of_namespace));
    let expire = turn.now.wall + runs + keep;
    let row = receipt.row(job, turn.now.wall, expire);
    if !view.is_planted(Mutant::ReceiptLost) {
        turn.rows.push(Write::Resource(Arc::new(row)));
    }
    Ok(())
}

pub(super) fn stale(lease_id: u64) -> Refusal {
    Refusal::new(Reason::StaleLease, format!("lease {lease_id} is closed"))
}
