//! Output streams of jobs: the newest part in memory for live readers, durable parts in the store.

use crate::api::OutputChunk;
use bytes::Bytes;
use coretex_domain::JobKey;
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// Bytes of one stream kept in memory.
const STREAM_BYTES_MAX: usize = 256 << 10;
/// Bytes of all streams kept in memory; the stream written longest ago goes first.
const TOTAL_BYTES_MAX: usize = 64 << 20;

/// Streams kept in memory.
const STREAMS_MAX: usize = 4_096;

type StreamKey = (JobKey, Arc<str>);

#[derive(Default)]
struct Ring {
    chunks: VecDeque<(u64, Bytes)>,
    bytes: usize,
    /// Offset after the last byte.
    end: u64,
    dropped: u64,
    is_closed: bool,
    notify: Arc<Notify>,
}

#[derive(Default)]
struct Inner {
    streams: FxHashMap<StreamKey, Ring>,
    order: VecDeque<StreamKey>,
    bytes: usize,
}

#[derive(Default)]
pub(crate) struct Outputs {
    inner: Mutex<Inner>,
}

/// What memory has of a stream from an offset on.
pub(crate) struct Live {
    pub(crate) chunks: Vec<OutputChunk>,
    /// First offset that memory still has.
    pub(crate) oldest: u64,
    pub(crate) is_closed: bool,
    pub(crate) changed: Arc<Notify>,
}

/// A piece of output on its way in.
pub(crate) struct Piece {
    pub(crate) first_offset: u64,
    pub(crate) chunks: Vec<Bytes>,
    pub(crate) dropped: u64,
    pub(crate) is_end: bool,
}

impl Outputs {
    /// Appends; bytes below the end (a resend) are skipped.
    pub(crate) fn append(&self, job: JobKey, stream: &Arc<str>, piece: Piece) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (job, stream.clone());
        if !inner.streams.contains_key(&key) {
            inner.order.push_back(key.clone());
        }
        let ring = inner.streams.entry(key.clone()).or_default();
        let mut grown = 0;
        let mut at = piece.first_offset;
        for chunk in piece.chunks {
            let next = at + chunk.len() as u64;
            if at >= ring.end {
                ring.bytes += chunk.len();
                grown += chunk.len();
                ring.chunks.push_back((at, chunk));
                ring.end = next;
            }
            at = next;
        }
        ring.dropped += piece.dropped;
        ring.is_closed |= piece.is_end;
        let mut shed = 0;
        while ring.bytes - shed > STREAM_BYTES_MAX && ring.chunks.len() > 1 {
            shed += ring.chunks.pop_front().map_or(0, |(_, c)| c.len());
        }
        ring.bytes -= shed;
        ring.notify.notify_waiters();
        inner.bytes = (inner.bytes + grown).saturating_sub(shed);
        while (inner.bytes > TOTAL_BYTES_MAX || inner.order.len() > STREAMS_MAX) && inner.order.len() > 1 {
            let Some(oldest) = inner.order.pop_front() else { break };
            if oldest == key {
                inner.order.push_back(oldest);
                continue;
            }
            if let Some(ring) = inner.streams.remove(&oldest) {
                inner.bytes = inner.bytes.saturating_sub(ring.bytes);
                ring.notify.notify_waiters();
            }
        }
    }

    pub(crate) fn read(&self, job: JobKey, stream: &Arc<str>, offset: u64) -> Live {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(ring) = inner.streams.get_mut(&(job, stream.clone())) else {
            // Nothing yet: leave a place to wait at.
            if inner.order.len() >= STREAMS_MAX
                && let Some(oldest) = inner.order.pop_front()
                && let Some(gone) = inner.streams.remove(&oldest)
            {
                inner.bytes = inner.bytes.saturating_sub(gone.bytes);
                gone.notify.notify_waiters();
            }
            let ring = Ring::default();
            let changed = ring.notify.clone();
            inner.order.push_back((job, stream.clone()));
            inner.streams.insert((job, stream.clone()), ring);
            return Live { chunks: Vec::new(), oldest: 0, is_closed: false, changed };
        };
        let mut chunks = Vec::new();
        for (at, chunk) in &ring.chunks {
            let end = at + chunk.len() as u64;
            if end > offset {
                let skip = usize::try_from(offset.saturating_sub(*at)).unwrap_or(0);
                chunks.push(OutputChunk {
                    offset: at + skip as u64,
                    chunk: chunk.slice(skip..),
                    is_end: false,
                    dropped: 0,
                });
            }
        }
        if let Some(first) = chunks.first_mut() {
            first.dropped = ring.dropped;
        }
        Live {
            chunks,
            oldest: ring.chunks.front().map_or(ring.end, |(at, _)| *at),
            is_closed: ring.is_closed,
            changed: ring.notify.clone(),
        }
    }
}
