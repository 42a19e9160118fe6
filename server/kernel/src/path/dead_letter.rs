//! Delete: ended jobs in; their dead letters gone, and a note of it on each job. One deleted before is passed over.

use crate::input::{Reply, Write};
use crate::path::annotate::{annotate, newest};
use crate::{Turn, View};
use coretex_domain::Job;
use coretex_domain::job::Note;
use std::sync::Arc;

pub(crate) fn delete(view: &mut View, jobs: Vec<Arc<Job>>, actor: &Arc<str>, turn: &mut Turn) -> Reply {
    let mut deleted = 0;
    for job in jobs {
        let left_one = job.state.kind().leaves_dead_letter();
        if !left_one || newest(view, &job).has_deleted_dead_letter() {
            continue;
        }
        turn.rows.push(Write::DeadLetterEnd { namespace: job.namespace.clone(), job_id: job.id.clone() });
        annotate(view, job, Note::DeadLetterDeleted(actor.clone()), turn);
        deleted += 1;
    }
    Reply::Deleted(deleted)
}
