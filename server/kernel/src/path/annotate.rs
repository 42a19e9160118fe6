//! Notes on ended jobs: a job that has left memory and a note in; its next version out.

use crate::input::Write;
use crate::turn::UNNUMBERED;
use crate::{Turn, View};
use coretex_domain::Job;
use coretex_domain::job::{Entry, Event, Note};
use std::sync::Arc;

/// Ended jobs kept with their newest note, so that what is decided next finds it before the store has it.
const ANNOTATED_KEPT: usize = 1_024;

/// The newest version of an ended job that was read from the store.
pub(super) fn newest<'a>(view: &'a View, stored: &'a Arc<Job>) -> &'a Arc<Job> {
    view.annotated.get(&stored.key()).filter(|job| job.revision > stored.revision).unwrap_or(stored)
}

/// Adds a note to a job that has ended and left memory.
pub(super) fn annotate(view: &mut View, stored: Arc<Job>, note: Note, turn: &mut Turn) {
    let key = stored.key();
    let known = view.annotated.remove(&key);
    if known.is_none() {
        view.annotated_order.push_back(key);
    }
    let mut job = known.filter(|job| job.revision > stored.revision).unwrap_or(stored);
    let entry = Entry { seq: UNNUMBERED, time: turn.now.wall, event: Event::Annotated(Box::new(note)) };
    match Arc::make_mut(&mut job).apply(entry) {
        Ok(()) => write(turn, &job),
        Err(illegal) => turn.illegal.push(illegal),
    }
    view.annotated.insert(key, job);
    while view.annotated_order.len() > ANNOTATED_KEPT
        && let Some(oldest) = view.annotated_order.pop_front()
    {
        view.annotated.remove(&oldest);
    }
}

/// Notes of one turn share a row: its entries are numbered together.
fn write(turn: &mut Turn, job: &Arc<Job>) {
    let key = job.key();
    let earlier = turn.rows.iter_mut().rev().find_map(|row| match row {
        Write::Job { job, fresh } if job.key() == key => Some((job, fresh)),
        Write::Job { .. }
        | Write::Key { .. }
        | Write::DeadLetter(_)
        | Write::DeadLetterEnd { .. }
        | Write::Topic(_)
        | Write::Approval(_)
        | Write::Resource(_)
        | Write::Run { .. } => None,
    });
    match earlier {
        Some((row, fresh)) => {
            *row = job.clone();
            *fresh += 1;
        }
        None => turn.rows.push(Write::Job { job: job.clone(), fresh: 1 }),
    }
}
