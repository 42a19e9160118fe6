//! Decide: a site in; what is to be done there out, at once where everything it reads is at hand and short, otherwise
//! worked out beside the loop and told later. Both are the same function of the same values.

use super::advance::{begun, concluded, filled, inline};
use super::{advance, close, wait};
use crate::input::{Effect, Evaluate, Evaluated};
use crate::{Dispatcher, Turn, View};
use bytes::Bytes;
use coretex_domain::RunKey;
use coretex_domain::run::{Phase, StepState, Trouble};
use coretex_workflow::{Bound, Decided, Piece, Pieces, Site};
use serde_json::Value as Json;
use std::collections::hash_map::Entry;
use std::sync::Arc;

/// What may be read on the loop for one site, bytes. The items of a step are not counted: each is read by itself.
const HERE_MAX: usize = 64 << 10;

pub(super) enum Asked {
    Here(Result<Decided, Box<Trouble>>),
    /// The answer comes as an input.
    Elsewhere,
}

/// What is to be done at a site.
pub(super) fn ask(view: &mut View, key: RunKey, site: Site, turn: &mut Turn) -> Asked {
    let Some(open) = view.runs.open.get_mut(&key) else { return Asked::Elsewhere };
    let wanted = open.plan.pieces(&open.run, &site);
    let mut pieces = Pieces::default();
    let mut is_here = true;
    let mut bytes = 0;
    for piece in &wanted {
        match at_hand(open, *piece) {
            Some((value, length)) => {
                bytes += length;
                pieces.insert(*piece, value);
            }
            None => is_here = false,
        }
        if bytes > HERE_MAX {
            is_here = false;
        }
        if !is_here {
            break;
        }
    }
    if is_here {
        let decided = open.plan.decide(&open.run, &site, &pieces, (turn.now.wall, Bound::Loop));
        // What costs too much here may be done beside the loop.
        if !decided.as_ref().is_err_and(|trouble| &*trouble.kind == "EXPRESSION_LIMIT") {
            return Asked::Here(decided);
        }
    }
    if let Entry::Vacant(place) = open.asked.entry(site) {
        place.insert(open.run.revision);
        let known = |piece: &Piece| open.at_hand.get(piece).map(|data| (*piece, data.clone()));
        turn.effects.push(Effect::Evaluate(Box::new(Evaluate {
            run: open.run.clone(),
            plan: open.plan.clone(),
            site,
            at_hand: wanted.iter().filter_map(known).collect(),
            config: open.configs.of_run.clone(),
        })));
    }
    Asked::Elsewhere
}

/// A piece that needs no look-up, and how much of it has to be read.
fn at_hand(open: &super::OpenRun, piece: Piece) -> Option<(Arc<Json>, usize)> {
    if let Piece::Items(at) = piece {
        // Shared as it is: one item is read of it at a time.
        return open.items.get(&at).map(|items| (items.clone(), 0));
    }
    if let Piece::Config = piece {
        let config = open.configs.of_run.as_ref();
        return Some((Arc::new(config.map_or(Json::Null, |config| config.value().clone())), 0));
    }
    let data = match inline(&open.run, piece) {
        Some(text) => Bytes::copy_from_slice(text.as_bytes()),
        None => open.at_hand.get(&piece)?.clone(),
    };
    Some((Arc::new(value_of(&data)), data.len()))
}

/// Result of a job as a value: null if it gave nothing, a text if it is no JSON.
pub fn value_of(data: &[u8]) -> Json {
    if data.is_empty() {
        return Json::Null;
    }
    serde_json::from_slice(data).unwrap_or_else(|_| Json::String(String::from_utf8_lossy(data).into_owned()))
}

/// What was worked out elsewhere is taken up, if it is still wanted.
pub(crate) fn evaluated(view: &mut View, dispatcher: &mut Dispatcher, found: Evaluated, turn: &mut Turn) {
    let Evaluated { run: key, site, decided, items } = found;
    let Some(open) = view.runs.open.get_mut(&key) else { return };
    let Some(as_of) = open.asked.remove(&site) else { return };
    if let Some((at, items)) = items
        && open.run.step(at).is_some_and(|step| step.is_open())
    {
        open.items.entry(at).or_insert(items);
    }
    match site {
        Site::Begin(at) => {
            let is_pending = open.run.step(at).is_some_and(|step| step.state == StepState::Pending);
            if is_pending && open.run.may_begin(at.scope) {
                begun(view, dispatcher, key, at, decided, turn);
            }
        }
        Site::Items { at, first, .. } => {
            // An item may have failed meanwhile, and the step with it.
            let items = open.run.step(at).filter(|step| step.is_open()).and_then(|step| step.items());
            let is_next = items.is_some_and(|items| items.begun == first);
            if is_next && open.run.may_begin(at.scope) && !advance::is_stopping(open, at) {
                filled(view, dispatcher, key, (at, first), decided, turn);
                // The window may have got room meanwhile.
                advance::fill(view, dispatcher, key, at, turn);
            }
        }
        Site::Undo(at, index) => close::undo(view, dispatcher, key, (at, index), decided, turn),
        Site::Hear(at) => wait::heard_elsewhere(view, key, (at, as_of), decided, turn),
        Site::Output => {
            if open.run.phase == Phase::Going {
                concluded(view, key, decided, turn);
            }
        }
    }
    advance::advance(view, dispatcher, key, turn);
}
