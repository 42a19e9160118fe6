//! The log thread: takes waiting groups, appends them as one frame, makes it durable with one sync, shows it
//! to readers and answers. Everything that changes the log happens here, so order and fence need no lock.
//!
//! A failed write or sync fails the store: what was in the frame is unknown, what came after it refused (I-40).

mod append;

use crate::overlay::Jobs;
use crate::segment::{Place, Segment};
use crate::settings::Durability;
use crate::shared::Shared;
use append::Appender;
use coretex_domain::Job;
use coretex_domain::job::StateKind;
use coretex_ports::memory::events::Standing;
use coretex_ports::{Group, Outcome, StoreError, Write};
use coretex_records::{BatchWriter, Form};
use futures::channel::oneshot;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::Duration;

/// Groups that may wait for the log thread; the caller of the next one blocks.
pub(crate) const QUEUE_MAX: usize = 4_096;
/// A frame is closed once its body has this many bytes: longer ones only add latency.
const FRAME_AIM: usize = 4 << 20;
/// Spec payloads up to this size are written again rather than looked up, when the job was last written long ago.
const SMALL_PAYLOAD: usize = 4 << 10;
/// Checkpoints from this size on are not repeated in every record.
const BIG_CHECKPOINT: usize = 512;
/// A relaxed store syncs at least this often.
const RELAXED_SYNC: Duration = Duration::from_millis(200);

/// What the log thread is asked.
pub(crate) enum Message {
    Commit(Group, oneshot::Sender<Outcome>),
    Claim(String, oneshot::Sender<Result<Place, StoreError>>),
    Close(oneshot::Sender<Result<(), StoreError>>),
}

pub(crate) struct Log {
    shared: Arc<Shared>,
    inbox: Receiver<Message>,
    appender: Appender,
    batch: BatchWriter,
    /// Frame under construction, header space included.
    frame: Vec<u8>,
    writes: u32,
    /// Newest version of each job in the frame.
    jobs: Jobs,
    groups: Vec<(Group, oneshot::Sender<Outcome>)>,
    /// A group was refused for lack of space: later ones may build on it, so they are refused too until the
    /// owner claims again and looks.
    broken: Option<StoreError>,
}

impl Log {
    pub(crate) fn new(
        shared: Arc<Shared>,
        inbox: Receiver<Message>,
        end: Place,
        segment: Option<Segment>,
    ) -> Log {
        Log {
            appender: Appender::new(shared.clone(), end, segment),
            shared,
            inbox,
            batch: BatchWriter::default(),
            frame: Vec::with_capacity(2 * FRAME_AIM),
            writes: 0,
            jobs: Jobs::default(),
            groups: Vec::new(),
            broken: None,
        }
    }

    /// The thread: runs until the store is closed or every handle is gone.
    pub(crate) fn run(mut self) {
        let mut held = None;
        loop {
            let message = match held.take() {
                Some(message) => message,
                None => match self.next() {
                    Some(message) => message,
                    None => break,
                },
            };
            match message {
                Message::Commit(group, reply) => held = self.take_batch(group, reply),
                Message::Claim(owner, reply) => {
                    let _ = reply.send(self.claim(&owner));
                }
                Message::Close(reply) => {
                    let synced = self.appender.sync();
                    self.shared.fail(StoreError::Unavailable("the store is closed".into()));
                    let _ = reply.send(synced);
                    return;
                }
            }
        }
        let _ = self.appender.sync();
    }

    /// The next message. While a relaxed store owes a sync, it is done in between.
    fn next(&mut self) -> Option<Message> {
        loop {
            let owed = self.appender.unsynced_for();
            let Some(owed) = owed else { return self.inbox.recv().ok() };
            match self.inbox.recv_timeout(RELAXED_SYNC.saturating_sub(owed)) {
                Ok(message) => return Some(message),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {
                    let _ = self.appender.sync();
                }
            }
        }
    }

    /// Commits `group` and all that wait behind it; returns a message that was met and is not a commit.
    fn take_batch(&mut self, group: Group, reply: oneshot::Sender<Outcome>) -> Option<Message> {
        let mut held = None;
        self.begin_frame();
        let mut next = Some((group, reply));
        let mut idle = false;
        while let Some((group, reply)) = next.take() {
            match self.check(&group) {
                Err(refusal) => drop(reply.send(Outcome::Refused(refusal))),
                Ok(()) => self.put(group, reply),
            }
            if self.frame.len() >= FRAME_AIM {
                break;
            }
            match self.inbox.try_recv() {
                Ok(Message::Commit(group, reply)) => next = Some((group, reply)),
                Ok(other) => held = Some(other),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => idle = true,
            }
        }
        if !self.groups.is_empty() {
            self.commit_frame(idle);
        }
        held
    }

    fn check(&self, group: &Group) -> Result<(), StoreError> {
        self.shared.check()?;
        let newest = self.appender.end().epoch;
        if group.epoch != newest || newest == 0 {
            return Err(StoreError::Fenced { ours: group.epoch, theirs: newest });
        }
        self.broken.clone().map_or(Ok(()), Err)
    }

    fn begin_frame(&mut self) {
        self.frame.clear();
        self.frame.resize(crate::frame::FRAME_HEADER_LEN, 0);
        self.batch.begin(&mut self.frame);
        self.writes = 0;
        self.jobs.clear();
    }

    fn put(&mut self, group: Group, reply: oneshot::Sender<Outcome>) {
        let (jobs, overlay) = (&mut self.jobs, &self.shared.overlay);
        let sequences = &mut self.appender.end_mut().sequences;
        self.batch.put_group(&mut self.frame, &group, &mut |job, fresh| {
            let key = job.key();
            // An edit of the input is the one change of a spec there is.
            let form = if fresh as usize >= job.history.len() || job.is_edited_within(fresh as usize) {
                Form::Whole { fresh }
            } else {
                let before = jobs.get(&key).cloned().or_else(|| overlay.job(key));
                form_of_change(job, fresh, before.as_deref())
            };
            let highest = &mut sequences[usize::from(job.shard.0)];
            for entry in &job.history[job.history.len().saturating_sub(fresh as usize)..] {
                *highest = (*highest).max(entry.seq);
            }
            jobs.insert(key, job.clone());
            form
        });
        self.writes += group.writes.len() as u32;
        self.groups.push((group, reply));
    }

    fn commit_frame(&mut self, idle: bool) {
        let shared = self.shared.clone();
        shared.overlay.wait_for_room(|| shared.check().is_err());
        if let Err(why) = shared.check() {
            for (_, reply) in self.groups.drain(..) {
                let _ = reply.send(Outcome::Refused(why.clone()));
            }
            return;
        }
        self.batch.finish(&mut self.frame);
        let time = self.groups.last().map_or(0, |(group, _)| group.time.0);
        let epoch = self.appender.end().epoch;
        let durable = shared.settings.durability == Durability::Durable;
        match self.appender.append_batch(&mut self.frame, self.writes, epoch, time, durable) {
            Ok(()) => self.publish(idle),
            Err(append::Failure::Nothing(why)) => {
                let later =
                    StoreError::Unavailable(format!("an earlier commit was refused ({why}); claim again"));
                self.broken = Some(later);
                self.appender.end_mut().sequences = shared.overlay.end().sequences;
                for (_, reply) in self.groups.drain(..) {
                    let _ = reply.send(Outcome::Refused(why.clone()));
                }
            }
            Err(append::Failure::Unknown(why)) => {
                shared.fail(StoreError::Unavailable(format!("the log failed ({why}); open the store again")));
                for (_, reply) in self.groups.drain(..) {
                    let _ = reply.send(Outcome::Unknown(why.clone()));
                }
            }
        }
    }

    fn publish(&mut self, idle: bool) {
        let counts = &self.shared.counts;
        counts.commits.fetch_add(self.groups.len() as u64, Ordering::Relaxed);
        counts.records.fetch_add(u64::from(self.writes), Ordering::Relaxed);
        let others = self.groups.iter().flat_map(|(group, _)| &group.writes);
        let others = others.filter(|write| !matches!(write, Write::Job { .. }));
        self.shared.overlay.publish(&mut self.jobs, others, self.appender.end());
        for (_, reply) in self.groups.drain(..) {
            let _ = reply.send(Outcome::Committed);
        }
        if idle {
            self.appender.mark();
        }
    }

    /// Puts a new epoch into the log; from then on groups of older ones are refused.
    fn claim(&mut self, owner: &str) -> Result<Place, StoreError> {
        self.shared.check()?;
        self.begin_frame();
        self.frame.truncate(crate::frame::FRAME_HEADER_LEN);
        self.frame.extend_from_slice(owner.as_bytes());
        let epoch = self.appender.end().epoch + 1;
        match self.appender.append_claim(&mut self.frame, epoch) {
            Ok(()) => {
                self.broken = None;
                self.shared.overlay.publish(&mut self.jobs, std::iter::empty(), self.appender.end());
                self.appender.mark();
                Ok(self.appender.end().clone())
            }
            Err(append::Failure::Nothing(why)) => Err(why),
            Err(append::Failure::Unknown(why)) => {
                let why = StoreError::Unavailable(format!("the log failed ({why}); open the store again"));
                self.shared.fail(why.clone());
                Err(why)
            }
        }
    }
}

/// How a job that is not new is written, given the newest version that is not yet indexed.
///
/// Without one, the record before it may be anywhere in the index. A job that had ended may even be cleaned at
/// this moment, so it is written whole; so are small ones, because that costs less than a look-up at recovery.
fn form_of_change(job: &Job, fresh: u32, before: Option<&Job>) -> Form {
    let Some(before) = before else {
        let known = job.history.len() - fresh as usize;
        let had_ended = || Standing::after(&job.history[..known]).state.is_some_and(StateKind::is_terminal);
        return if job.spec.payload.data.len() <= SMALL_PAYLOAD || had_ended() {
            Form::Whole { fresh }
        } else {
            Form::Change { fresh, keeps_checkpoint: false }
        };
    };
    let checkpoint = |job: &Job| job.rare.as_ref().and_then(|rare| rare.checkpoint.clone());
    let keeps_checkpoint = match (checkpoint(job), checkpoint(before)) {
        (Some(new), Some(old)) => new.data.len() >= BIG_CHECKPOINT && new == old,
        (Some(_), None) | (None, Some(_) | None) => false,
    };
    Form::Change { fresh, keeps_checkpoint }
}
