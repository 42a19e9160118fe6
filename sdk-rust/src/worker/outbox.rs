//! Updates on their way to durability. In: updates, in the order they happened. Out: numbered reports, kept until they are acknowledged.

use super::codec::Frame;
use crate::raw::pb;
use bytes::{Bytes, BytesMut};
use prost::Message as _;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Limits of one report.
const UPDATES_MAX: usize = 512;
const REPORT_BYTES: usize = 1 << 20;
/// Unacknowledged bytes beyond which nothing new is started.
const UNACKED_BYTES_MAX: usize = 64 << 20;
/// How long an update may wait for company while an earlier report is on its way.
const LINGER: Duration = Duration::from_millis(1);

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pending: BytesMut,
    marks: Vec<Mark>,
    since: Option<Instant>,
    /// Sealed and not acknowledged, by rising seq.
    reports: VecDeque<Report>,
    unacked_bytes: usize,
    last_seq: u64,
    /// Newest number this stream was handed.
    written_seq: u64,
    /// Newest number whose ends were taken off the set of held leases.
    counted_seq: u64,
}

#[derive(Debug)]
struct Report {
    seq: u64,
    body: Bytes,
    marks: Vec<Mark>,
    digest: u64,
    ended: u32,
}

/// What one update is about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    pub(crate) lease_id: u64,
    pub(crate) is_end: bool,
}

// === impl Outbox ===

impl Outbox {
    pub(crate) fn push(&mut self, update: &pb::JobUpdate, is_end: bool, now: Instant) {
        const UPDATES: u32 = 1; // field of Report
        let size = update.encoded_len() + 8;
        if !self.marks.is_empty()
            && (self.marks.len() >= UPDATES_MAX || self.pending.len() + size > REPORT_BYTES)
        {
            self.seal();
        }
        self.pending.reserve(size);
        prost::encoding::message::encode(UPDATES, update, &mut self.pending);
        self.marks.push(Mark { lease_id: update.lease_id, is_end });
        self.since.get_or_insert(now);
    }

    /// Makes a report of what is pending.
    fn seal(&mut self) {
        if self.marks.is_empty() {
            return;
        }
        self.last_seq += 1;
        let body = self.pending.split().freeze();
        let marks = std::mem::take(&mut self.marks);
        let ended = || marks.iter().filter(|mark| mark.is_end);
        let digest = ended().fold(0, |digest, mark| digest ^ super::leases::hash(mark.lease_id));
        let ended = u32::try_from(ended().count()).expect("invariant: at most UPDATES_MAX");
        self.unacked_bytes += body.len();
        self.reports.push_back(Report { seq: self.last_seq, body, marks, digest, ended });
        self.since = None;
    }

    /// True when what is pending should go now: it has company enough, waited long enough, or nothing else is on its way.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        match self.since {
            None => self.written_seq < self.last_seq,
            Some(since) => {
                self.reports.is_empty()
                    || self.written_seq < self.last_seq
                    || self.marks.len() >= UPDATES_MAX / 2
                    || now >= since + LINGER
            }
        }
    }

    /// When [`is_due`](Self::is_due) becomes true by itself.
    pub(crate) fn due_at(&self) -> Option<Instant> {
        self.since.map(|since| since + LINGER)
    }

    /// Seals what is pending and hands out every report that this stream has not seen.
    pub(crate) fn write(&mut self, mut sealed: impl FnMut(u32, u64), mut out: impl FnMut(Frame)) {
        self.seal();
        for report in self.reports.iter().filter(|report| report.seq > self.written_seq) {
            let Report { seq, digest, ended, .. } = *report;
            if seq > self.counted_seq {
                sealed(ended, digest);
            }
            out(Frame::Report { seq, body: report.body.clone(), ended, digest });
        }
        (self.written_seq, self.counted_seq) = (self.last_seq, self.last_seq);
    }

    /// The leases of rejected updates, then forgets what is durable.
    pub(crate) fn acked(&mut self, ack: &pb::ReportAck, mut rejected: impl FnMut(&pb::RejectedUpdate, Mark)) {
        for update in &ack.rejected {
            let report = self.reports.iter().find(|report| report.seq == update.seq);
            if let Some(mark) = report.and_then(|report| report.marks.get(update.index as usize)) {
                rejected(update, *mark);
            }
        }
        self.forget(ack.durable_up_to_seq);
    }

    fn forget(&mut self, durable: u64) {
        while let Some(report) = self.reports.front().filter(|report| report.seq <= durable) {
            self.unacked_bytes -= report.body.len();
            self.reports.pop_front();
        }
    }

    /// A new stream of the session: all after `durable` is to be written again.
    pub(crate) fn resumed(&mut self, durable: u64) {
        self.forget(durable);
        self.written_seq = durable.min(self.last_seq);
    }

    /// A new session: numbers begin anew, and only updates of leases that are kept go on.
    pub(crate) fn renumber(&mut self, is_kept: impl Fn(u64) -> bool, now: Instant) -> usize {
        self.seal();
        let reports = std::mem::take(self).reports;
        let mut dropped = 0;
        for report in reports {
            let updates = pb::Report::decode(report.body).map(|report| report.updates).unwrap_or_default();
            for (update, mark) in updates.into_iter().zip(report.marks) {
                match is_kept(update.lease_id) {
                    true => self.push(&update, mark.is_end, now),
                    false => dropped += usize::from(mark.is_end),
                }
            }
        }
        dropped
    }

    /// Leases whose end is not acknowledged.
    pub(crate) fn ended(&self) -> impl Iterator<Item = u64> {
        let marks = self.reports.iter().flat_map(|report| &report.marks).chain(&self.marks);
        marks.filter(|mark| mark.is_end).map(|mark| mark.lease_id)
    }

    /// The same as a Resume names them. Their tokens are in the reports.
    pub(crate) fn ended_leases(&mut self) -> Vec<pb::HeldLease> {
        self.seal();
        let mut ended = Vec::new();
        for report in &self.reports {
            let updates =
                pb::Report::decode(report.body.clone()).map(|report| report.updates).unwrap_or_default();
            let ends = updates.into_iter().zip(&report.marks).filter(|(_, mark)| mark.is_end);
            ended.extend(ends.map(|(update, _)| pb::HeldLease {
                lease_id: update.lease_id,
                lease_token: update.lease_token,
                state: pb::HeldLeaseState::FinishedUnacked.into(),
                started_at: None,
            }));
        }
        ended
    }

    /// Newest number given.
    pub(crate) fn last_seq(&self) -> u64 {
        self.last_seq
    }

    /// Newest number handed to the stream.
    pub(crate) fn last_written(&self) -> u64 {
        self.written_seq
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.reports.is_empty() && self.marks.is_empty()
    }

    /// True when nothing new should be started.
    pub(crate) fn is_full(&self, reports_max: usize) -> bool {
        self.reports.len() >= reports_max || self.unacked_bytes >= UNACKED_BYTES_MAX
    }
}
