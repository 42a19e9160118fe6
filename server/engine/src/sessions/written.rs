//! Output of jobs on its way in: without the values of secrets, also where one begins in one piece and ends in a later one.
//!
//! What may be the beginning of a value waits for the next piece, the end of the stream, or the last word on the lease.

use super::handle::OutputPiece;
use super::{Stay, attach};
use crate::mail::Mail;
use crate::output::Piece;
use crate::shared::Shared;
use bytes::Bytes;
use coretex_domain::Job;
use coretex_ports::Write;
use coretex_secrets::{Passed, Redactor};
use rustc_hash::FxHashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;

/// Streams of one lease that may have something held back; others are searched piece by piece.
const STREAMS_MAX: usize = 64;
/// Bytes of a piece that was put together anew.
const PIECE_LEN: usize = 64 << 10;

/// Streams of a session that are searched for values.
#[derive(Default)]
pub(crate) struct Searched(Mutex<FxHashMap<u64, FxHashMap<Arc<str>, Under>>>);

/// A stream under way.
struct Under {
    stream: coretex_secrets::Stream,
    is_durable: bool,
    job: Arc<Job>,
}

// === impl Searched ===

impl Searched {
    fn take(
        &self,
        redactor: &Redactor,
        lease_id: u64,
        name: &Arc<str>,
        job: &Arc<Job>,
        piece: &OutputPiece,
    ) -> Vec<Passed> {
        let mut leases = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let streams = leases.entry(lease_id).or_default();
        let is_full = streams.len() >= STREAMS_MAX && !streams.contains_key(name);
        let new =
            || Under { stream: coretex_secrets::Stream::default(), is_durable: false, job: job.clone() };
        let mut other = new();
        let under = if is_full { &mut other } else { streams.entry(name.clone()).or_insert_with(new) };
        under.is_durable = piece.is_durable;
        let mut out = under.stream.take(redactor, piece.first_offset, &piece.chunks.concat());
        if piece.is_end || is_full {
            out.extend(under.stream.finish());
            streams.remove(name);
        }
        out
    }

    /// What is held of leases that end.
    fn finish(&self, leases: &[u64]) -> Vec<(Arc<str>, Under, Passed)> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let streams = leases.iter().filter_map(|lease| all.remove(lease)).flatten();
        streams
            .filter_map(|(name, mut under)| under.stream.finish().map(|passed| (name, under, passed)))
            .collect()
    }

    /// Leases that are gone without a last word.
    pub(super) fn forget(&self, leases: impl Iterator<Item = u64>) {
        if coretex_secrets::is_on() {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            leases.for_each(|lease| drop(all.remove(&lease)));
        }
    }
}

/// Takes a piece of the output of a lease that is held.
pub(super) async fn take(shared: &Shared, stay: &Stay, lease_id: u64, stream: Arc<str>, piece: OutputPiece) {
    let Some(job) = attach::job_of_lease(shared, stay.session().session_id, lease_id).await else { return };
    let Some(redactor) = coretex_secrets::redactor() else {
        return keep(shared, &job, &stream, piece).await;
    };
    // The name of a stream is shown as well.
    let mut stream = stream;
    coretex_secrets::arc(&mut stream);
    let passed = stay.searched.take(&redactor, lease_id, &stream, &job, &piece);
    let (is_durable, is_end, mut dropped) = (piece.is_durable, piece.is_end, piece.dropped);
    let count = passed.len();
    for (n, passed) in passed.into_iter().enumerate() {
        let ends = is_end && n + 1 == count;
        keep(shared, &job, &stream, whole(passed, is_durable, ends, std::mem::take(&mut dropped))).await;
    }
    if count == 0 && (is_end || dropped > 0) {
        let nothing = Passed { offset: piece.first_offset, bytes: Vec::new() };
        keep(shared, &job, &stream, whole(nothing, is_durable, is_end, dropped)).await;
    }
}

/// Lets go of what is held of leases whose last word has come.
pub(super) async fn finish(shared: &Shared, stay: &Stay, leases: &[u64]) {
    for (name, under, passed) in stay.searched.finish(leases) {
        keep(shared, &under.job, &name, whole(passed, under.is_durable, false, 0)).await;
    }
}

fn whole(passed: Passed, is_durable: bool, is_end: bool, dropped: u64) -> OutputPiece {
    let bytes = Bytes::from(passed.bytes);
    let starts = (0..bytes.len()).step_by(PIECE_LEN);
    let chunks = starts.map(|at| bytes.slice(at..bytes.len().min(at + PIECE_LEN))).collect();
    OutputPiece { first_offset: passed.offset, chunks, is_durable, is_end, dropped }
}

/// Stores what is to last, and shows it to those who follow.
async fn keep(shared: &Shared, job: &Job, stream: &Arc<str>, piece: OutputPiece) {
    if piece.is_durable {
        let mut at = piece.first_offset;
        let mut rows = Vec::with_capacity(piece.chunks.len());
        for chunk in &piece.chunks {
            rows.push(Write::Output {
                namespace: job.namespace.clone(),
                job_id: job.id.clone(),
                stream: stream.clone(),
                offset: at,
                chunk: chunk.clone(),
            });
            at += chunk.len() as u64;
        }
        let (answer, done) = oneshot::channel();
        let posted = shared.post_waiting(shared.loop_of(job.shard), Mail::Rows(rows, answer)).await;
        if posted.is_err() || done.await.is_err() {
            return;
        }
    }
    let OutputPiece { first_offset, chunks, dropped, is_end, .. } = piece;
    shared.outputs.append(job.key(), stream, Piece { first_offset, chunks, dropped, is_end });
}
