//! The index thread: writes rounds, syncs the index now and then, frees log segments, cleans, and makes copies.
//! It sleeps while there is nothing to do.

use crate::index::id_bytes;
use crate::index::write::Writer;
use crate::overlay::Next;
use crate::segment::Place;
use crate::settings::Durability;
use crate::shared::{Shared, lock};
use coretex_domain::Time;
use coretex_ports::{Cleaned, StoreError};
use futures::channel::oneshot;
use rustc_hash::FxHashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

/// How often a round is tried again while the disk is full.
const RETRY: Duration = Duration::from_millis(500);

/// What the index thread is asked. Everything committed before is in the index when it answers.
pub(crate) enum Command {
    Clean(Time, usize, oneshot::Sender<Result<Cleaned, StoreError>>),
    Settle(oneshot::Sender<Result<(), StoreError>>),
    Close(oneshot::Sender<Result<(), StoreError>>),
}

pub(crate) struct IndexThread {
    shared: Arc<Shared>,
    inbox: Receiver<Command>,
    writer: Writer,
    /// The index stands here, synced or not.
    place: Place,
    /// The index certainly stands here after a power cut.
    synced: Place,
    /// The next checkpoint is due when the write-ahead file is this long.
    checkpoint_at: u64,
    broken: Option<StoreError>,
}

impl IndexThread {
    pub(crate) fn new(
        shared: Arc<Shared>,
        inbox: Receiver<Command>,
        writer: Writer,
        place: Place,
    ) -> IndexThread {
        let checkpoint_at = shared.settings.checkpoint_bytes;
        IndexThread { shared, inbox, writer, synced: place.clone(), place, checkpoint_at, broken: None }
    }

    /// The thread: runs until it is told to close or every handle is gone.
    pub(crate) fn run(mut self) {
        self.note_used();
        loop {
            if self.broken.is_some() {
                match self.inbox.recv() {
                    Ok(command) => {
                        if self.serve(command) {
                            return;
                        }
                        continue;
                    }
                    Err(_) => return,
                }
            }
            if self.shared.overlay.wait_for_work(self.shared.settings.index_round) == Next::Round {
                if let Err(StoreError::DiskFull) = self.round() {
                    self.shared.space.note_disk_full();
                    std::thread::sleep(RETRY);
                }
                continue;
            }
            loop {
                match self.inbox.try_recv() {
                    Ok(command) => {
                        if self.serve(command) {
                            return;
                        }
                    }
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return,
                }
            }
        }
    }

    /// True if the thread is done.
    fn serve(&mut self, command: Command) -> bool {
        match command {
            Command::Clean(now, limit, reply) => {
                let cleaned = self.settle().and_then(|()| self.clean(now, limit));
                let _ = reply.send(cleaned);
                false
            }
            Command::Settle(reply) => {
                let _ = reply.send(self.settle());
                false
            }
            Command::Close(reply) => {
                let outcome = self.settle().and_then(|()| self.writer.checkpoint().map(|_| ()));
                let _ = reply.send(outcome);
                true
            }
        }
    }

    /// Everything committed so far goes into the index. A generation left by a failed round goes first.
    fn settle(&mut self) -> Result<(), StoreError> {
        self.round()?;
        self.round()
    }

    /// One round. A full disk passes; any other failure is for good.
    fn round(&mut self) -> Result<(), StoreError> {
        if let Some(why) = &self.broken {
            return Err(why.clone());
        }
        let outcome = self.try_round();
        if let Err(why) = &outcome
            && *why != StoreError::DiskFull
        {
            self.broken = Some(why.clone());
            self.shared.fail(why.clone());
        }
        outcome
    }

    fn try_round(&mut self) -> Result<(), StoreError> {
        let Some(sealed) = self.shared.overlay.seal() else { return Ok(()) };
        self.sync_log()?;
        let written = self.writer.round(&sealed)?;
        self.place.clone_from(&sealed.end);
        let counts = &self.shared.counts;
        counts.indexed.fetch_add(written.rows, Ordering::Relaxed);
        // Before the generation is let go: who misses a job there must look for it in the index.
        counts.newest_made.fetch_max(written.newest_made, Ordering::Release);
        drop(sealed);
        self.shared.overlay.release();
        // Two segments held only for the index are enough to go and free them.
        if self.wal_bytes() >= self.checkpoint_at || self.place.segment > self.synced.segment + 1 {
            self.checkpoint()?;
        }
        self.note_used();
        Ok(())
    }

    /// A relaxed store may have shown what is not on disk yet; the index must never know more than the log.
    fn sync_log(&self) -> Result<(), StoreError> {
        if self.shared.settings.durability == Durability::Durable {
            return Ok(());
        }
        let last = lock(&self.shared.segments).back().map(|segment| segment.file.clone());
        let synced = last.map_or(Ok(()), |file| file.sync_data());
        synced.map_err(|e| StoreError::Unavailable(format!("syncing the log failed: {e}")))
    }

    fn wal_bytes(&self) -> u64 {
        let mut path = self.shared.index_file().into_os_string();
        path.push("-wal");
        std::fs::metadata(path).map_or(0, |meta| meta.len())
    }

    /// Syncs the index, then lets go of the segments that only it needed.
    fn checkpoint(&mut self) -> Result<(), StoreError> {
        if !self.writer.checkpoint()? {
            // A reader is in the way. It will be gone when as much again has been written.
            self.checkpoint_at = self.wal_bytes() + self.shared.settings.checkpoint_bytes;
            return Ok(());
        }
        self.checkpoint_at = self.shared.settings.checkpoint_bytes;
        self.synced.clone_from(&self.place);
        let keep = self.shared.settings.events_keep_bytes;
        let mut free = Vec::new();
        let mut segments = lock(&self.shared.segments);
        let mut after: u64 = segments.iter().skip(1).map(|s| s.size).sum();
        while let Some(first) = segments.front()
            && first.number < self.synced.segment
            && after >= keep
        {
            free.push(first.number);
            segments.pop_front();
            after -= segments.front().map_or(0, |s| s.size);
        }
        drop(segments);
        for number in free {
            self.shared.space.retire(number);
        }
        Ok(())
    }

    fn note_used(&self) {
        if let Ok(used) = self.writer.used() {
            self.shared.note_index_bytes(used);
        }
    }

    fn clean(&mut self, now: Time, limit: usize) -> Result<Cleaned, StoreError> {
        let overlay = &self.shared.overlay;
        // A job with a newer version on its way is left for the next time.
        let newer: FxHashSet<Vec<u8>> =
            overlay.jobs(|_| true).values().map(|job| id_bytes(&job.id)).collect();
        let cleaned = self.writer.clean(now, limit, |id| !newer.contains(id))?;
        self.note_used();
        Ok(cleaned)
    }
}
