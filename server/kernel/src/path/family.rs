//! Family: jobs that ended in; children that end with them, and what they leave of a budget, out. In the commit of that end.

use crate::mutant::Mutant;
use crate::path::cancel;
use crate::{Turn, View};
use coretex_domain::JobKey;
use coretex_domain::job::StateKind;
use coretex_domain::receipt::Dimension;
use std::sync::Arc;

/// Who cancels what ends with its parent.
const ACTOR: &str = "system:parent";

pub(crate) fn follow(view: &mut View, turn: &mut Turn) {
    // Children that are cancelled here may have children of their own: at most as many as may be bound together.
    while let Some(key) = turn.ended.pop() {
        give_back(view, key, turn);
        close_children(view, key, turn);
    }
}

/// What a child was given of a budget and did not use is its parent's again, while that is open.
fn give_back(view: &mut View, key: JobKey, turn: &mut Turn) {
    let Some(job) = view.job(key).cloned() else { return };
    let Some((parent, borrowed)) = job.borrowed_from() else { return };
    let unused = job.unused_of_borrowed(borrowed);
    let is_open = view.job(parent).is_some_and(|parent| !parent.state.kind().is_terminal());
    if unused.is_empty() || !is_open || view.is_planted(Mutant::LoanKept) {
        return;
    }
    view.amend(parent, turn, |parent| {
        let lent = &mut parent.family_mut().lent;
        for dimension in Dimension::ALL {
            let left = lent.of(dimension).saturating_sub(unused.of(dimension));
            *lent.of_mut(dimension) = left;
        }
    });
}

fn close_children(view: &mut View, key: JobKey, turn: &mut Turn) {
    let children = view.bound_children(key);
    let Some(parent) = view.job(key).filter(|_| !children.is_empty()) else { return };
    let state = parent.state.kind();
    let is_kept = state == StateKind::Succeeded && !view.is_planted(Mutant::SuccessClosesChildren);
    if is_kept || view.is_planted(Mutant::ChildrenOutlive) {
        return;
    }
    let reason: Arc<str> = format!("its parent {} ended as {}", parent.id, state.name()).into();
    for child in children {
        let is_open = view.job(child).is_some_and(|job| !job.state.kind().is_terminal());
        if is_open {
            cancel::stop(view, child, reason.clone(), ACTOR.into(), turn);
        }
    }
}
