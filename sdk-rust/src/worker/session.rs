//! One worker's session: the single place that knows its leases, credit and reports. Runs on a thread of its own, so that a busy or
//! blocked runtime delays neither heartbeats nor control.
//!
//! In: frames, news from handlers, commands. Out: frames, jobs to start, and at the end what became of it all.

use super::executor::{Bound, News};
use super::lanes::Lane;
use super::leases::Leases;
use super::link::{Link, LinkEvent};
use super::outbox::Outbox;
use super::outgoing::Outgoing;
use super::{Command, EndedBy, WorkerReport};
use crate::error::Error;
use crate::raw::pb;
use rustc_hash::FxHashMap;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How old an unreported lease gets before the server is told that it arrived, or that it started.
pub(super) const YOUNG: Duration = Duration::from_millis(50);
/// How often news of handlers is passed on.
pub(super) const NOTES_INTERVAL: Duration = Duration::from_millis(100);
/// How long a server may take to greet.
const HANDSHAKE_MAX: Duration = Duration::from_secs(15);
/// Longest sleep of the loop.
const IDLE: Duration = Duration::from_secs(60);

/// What does not change while the worker runs.
pub(crate) struct Plan {
    pub(crate) hello: pb::Hello,
    pub(crate) bound: FxHashMap<String, Arc<Bound>>,
}

pub(crate) struct Session {
    pub(super) plan: Plan,
    pub(super) link: Link,
    pub(super) outgoing: Arc<Outgoing>,
    pub(super) news: mpsc::UnboundedReceiver<News>,
    pub(super) commands: mpsc::UnboundedReceiver<Command>,
    pub(super) leases: Leases,
    pub(super) lanes: Vec<Lane>,
    pub(super) outbox: Outbox,
    pub(super) stay: Option<Stay>,
    pub(super) terms: Terms,
    /// The stream is greeted: frames may be sent.
    pub(super) is_open: bool,
    pub(super) was_ever_open: bool,
    pub(super) greeted_by: Option<Instant>,
    pub(super) hailed_at: Instant,
    pub(super) beats: Beats,
    /// Until when handlers may go on without another sign from the server.
    pub(super) licence: Option<Instant>,
    pub(super) last_assign_no: u64,
    pub(super) timers: BinaryHeap<Reverse<(Instant, u64, Alarm)>>,
    pub(super) young: VecDeque<(Instant, u64)>,
    pub(super) noted: Vec<u64>,
    pub(super) noted_at: Instant,
    pub(super) ack: pb::AssignAck,
    pub(super) drain: Option<Drain>,
    pub(super) ended_by: EndedBy,
    pub(super) report: WorkerReport,
}

/// The session as the server knows it.
#[derive(Clone, Debug)]
pub(crate) struct Stay {
    pub(crate) session_id: String,
    pub(crate) resume_token: bytes::Bytes,
}

#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) heartbeat_interval: Duration,
    pub(crate) session_ttl: Duration,
    pub(crate) young: Duration,
    pub(crate) payload_max: usize,
    pub(crate) unacked_max: usize,
}

#[derive(Debug)]
pub(crate) struct Beats {
    pub(crate) last_no: u64,
    pub(crate) due: Instant,
    /// Sent and not answered, with the time they were sent.
    pub(crate) sent: VecDeque<(u64, Instant)>,
    pub(crate) nonce: u64,
}

/// What to do about a lease when its time comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Alarm {
    /// Its deadline.
    Deadline,
    /// The end of the grace to stop.
    Abort,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Drain {
    pub(crate) mode: pb::DrainMode,
    /// What runs then is stopped.
    pub(crate) ends: Instant,
    /// The worker leaves then, come what may.
    pub(crate) leaves: Instant,
    pub(crate) is_told: bool,
    pub(crate) has_stopped: bool,
    pub(crate) has_closed: bool,
}

// === impl Session ===

impl Session {
    pub(crate) fn new(
        plan: Plan,
        link: Link,
        outgoing: Arc<Outgoing>,
        lanes: Vec<Lane>,
        news: mpsc::UnboundedReceiver<News>,
        commands: mpsc::UnboundedReceiver<Command>,
    ) -> Self {
        let now = Instant::now();
        let terms = Terms {
            heartbeat_interval: Duration::from_secs(5),
            session_ttl: Duration::from_secs(15),
            young: YOUNG,
            payload_max: 1 << 20,
            unacked_max: 4_096,
        };
        Self {
            plan,
            link,
            outgoing,
            news,
            commands,
            leases: Leases::default(),
            lanes,
            outbox: Outbox::default(),
            stay: None,
            terms,
            is_open: false,
            was_ever_open: false,
            greeted_by: None,
            hailed_at: now,
            beats: Beats { last_no: 0, due: now, sent: VecDeque::new(), nonce: 0 },
            licence: None,
            last_assign_no: 0,
            timers: BinaryHeap::new(),
            young: VecDeque::new(),
            noted: Vec::new(),
            noted_at: now,
            ack: pb::AssignAck::default(),
            drain: None,
            ended_by: EndedBy::Asked,
            report: WorkerReport::default(),
        }
    }

    /// Serves until it is told to leave and has nothing left, or cannot go on.
    pub(crate) async fn run(mut self) -> Result<WorkerReport, Error> {
        let served = self.serve().await;
        self.outgoing.end();
        for id in self.leases.ids() {
            if let Some(lease) = self.leases.get_mut(id) {
                lease.ctx.stop("the worker has ended");
                lease.ctx.abort();
            }
        }
        served?;
        self.report.abandoned = (self.leases.len() + self.outbox.ended().count()) as u64;
        self.report.ended_by = self.ended_by;
        Ok(self.report)
    }

    async fn serve(&mut self) -> Result<(), Error> {
        let mut news = Vec::with_capacity(256);
        loop {
            let now = Instant::now();
            self.on_time(now);
            self.begin_ready(now);
            self.flush(now);
            if self.has_left(now) {
                return Ok(());
            }
            let wake = self.wake_at(now);
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    Some(Command::Drain { mode, grace, by }) => self.leave(mode, grace, by, Instant::now()),
                    Some(Command::Abandon) | None => return Ok(()),
                },
                event = self.link.next() => self.on_link(event, Instant::now())?,
                _ = self.news.recv_many(&mut news, 256) => {
                    let now = Instant::now();
                    news.drain(..).for_each(|news| self.on_news(news, now));
                }
                () = tokio::time::sleep_until(wake.into()) => {}
            }
        }
    }

    fn on_news(&mut self, news: News, now: Instant) {
        match news {
            News::Ended(end) => self.ended(end, now),
            News::ManyEnded(ends) => ends.into_iter().for_each(|end| self.ended(end, now)),
            News::Noted(lease_id) => self.noted.push(lease_id),
        }
    }

    fn on_link(&mut self, event: LinkEvent, now: Instant) -> Result<(), Error> {
        match event {
            LinkEvent::Dialled(channel) => {
                let first = self.first_frame();
                self.is_open = false;
                (self.hailed_at, self.greeted_by) = (now, Some(now + HANDSHAKE_MAX));
                let writer = self.outgoing.begin(first);
                self.link.open(channel, writer);
                Ok(())
            }
            LinkEvent::Frame(frame) => self.on_frame(*frame, now),
            LinkEvent::Broken(error) => self.broke(error),
        }
    }

    fn broke(&mut self, error: Error) -> Result<(), Error> {
        if self.drain.is_some_and(|drain| drain.has_closed) {
            // The stream ended because everything is said.
            self.drain.iter_mut().for_each(|drain| drain.leaves = Instant::now());
            return Ok(());
        }
        let was_open = std::mem::replace(&mut self.is_open, false);
        self.greeted_by = None;
        if matches!(error.reason(), "SESSION_NOT_FOUND" | "RESUME_REFUSED") {
            self.forget_session("the session is gone");
        } else if is_fatal(&error) && (!error.reason().is_empty() || !self.was_ever_open) {
            return Err(error);
        }
        let wait = self.link.broke(error.retry_after());
        self.report.reconnects += u64::from(was_open);
        tracing::warn!(%error, ?wait, "the worker's stream broke; trying again");
        Ok(())
    }

    fn wake_at(&self, now: Instant) -> Instant {
        let drain = self.drain.map(|drain| if drain.has_stopped { drain.leaves } else { drain.ends });
        let open = self.is_open.then_some(());
        let times = [
            open.map(|()| self.beats.due),
            open.and_then(|()| self.outbox.due_at()),
            self.young.front().map(|(since, _)| *since + self.terms.young),
            self.timers.peek().map(|Reverse((at, ..))| *at),
            self.licence.filter(|_| !self.leases.is_empty()),
            (!self.noted.is_empty()).then(|| self.noted_at + NOTES_INTERVAL),
            self.greeted_by,
            drain,
        ];
        times.into_iter().flatten().min().map_or(now + IDLE, |at| at.min(now + IDLE))
    }

    fn has_left(&mut self, now: Instant) -> bool {
        let is_done = self.leases.is_empty() && self.outbox.is_empty();
        let Some(drain) = &mut self.drain else { return false };
        if now >= drain.leaves {
            return true;
        }
        if is_done && !drain.has_closed {
            if !self.is_open {
                return true;
            }
            drain.has_closed = true;
            drain.leaves = drain.leaves.min(now + Duration::from_secs(2));
            self.outgoing.close();
        }
        false
    }
}

/// What no further try can mend.
fn is_fatal(error: &Error) -> bool {
    use crate::error::Code;
    match error.code() {
        Code::InvalidArgument
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::Unimplemented
        | Code::Unauthenticated => true,
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unknown => false,
    }
}
