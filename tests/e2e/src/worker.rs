//! A worker driven by hand, frame by frame. It keeps the books a worker must keep (credit, held leases, unacknowledged
//! reports, heartbeats) and leaves every decision to the test.

mod stream;

pub use stream::{PATIENCE, Stream};

use crate::api::Api;
use crate::frames;
use coretex_contract::v1::connect_request::Frame as Out;
use coretex_contract::v1::connect_response::Frame as In;
use coretex_contract::v1::{self as pb, HeldLeaseState, JobUpdateKind};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;
use tonic::Status;

/// A lease the worker holds.
#[derive(Clone, Debug)]
pub struct Lease {
    pub assignment: pb::Assignment,
    pub state: HeldLeaseState,
}

/// What heartbeats and resumes tell.
#[derive(Default)]
struct Books {
    held: BTreeMap<u64, Lease>,
    last_assign_no: u64,
    seq: u64,
    heartbeat_no: u64,
    heartbeats_acked: u64,
    unacked: BTreeMap<u64, pb::Report>,
}

/// How a resume was answered.
#[derive(Debug)]
pub enum Answer {
    Resumed(pb::Resumed),
    /// The session was gone: a new one, and what became of the leases.
    Welcome(pb::Welcome),
}

pub struct Worker {
    pub stream: Stream,
    pub hello: pb::Hello,
    pub session_id: String,
    pub resume_token: bytes::Bytes,
    pub epoch: u64,
    pub ttl: Duration,
    granted: BTreeMap<String, u64>,
    assigned: BTreeMap<String, u64>,
    rejected: Vec<pb::RejectedUpdate>,
    /// Units assigned beyond the credit. Checked with each Assign by workers driven by hand.
    pub overrun: u64,
    pub is_lenient: bool,
    books: Arc<Mutex<Books>>,
    pulse: Option<JoinHandle<()>>,
}

// === impl Worker: sessions ===

impl Worker {
    /// Opens a session and begins to send heartbeats.
    pub async fn join(api: &Api, hello: pb::Hello) -> Worker {
        Worker::try_join(api, hello)
            .await
            .unwrap_or_else(|status| panic!("the worker is not welcome: {status}"))
    }

    pub async fn try_join(api: &Api, hello: pb::Hello) -> Result<Worker, Status> {
        let mut stream = Stream::open(api, Out::Hello(hello.clone())).await?;
        let welcome = match stream.next(PATIENCE).await? {
            Some(In::Welcome(welcome)) => welcome,
            other => panic!("Hello was answered by {other:?}"),
        };
        let mut worker = Worker {
            stream,
            hello,
            session_id: String::new(),
            resume_token: bytes::Bytes::new(),
            epoch: 0,
            ttl: Duration::ZERO,
            granted: BTreeMap::new(),
            assigned: BTreeMap::new(),
            rejected: Vec::new(),
            overrun: 0,
            is_lenient: false,
            books: Arc::default(),
            pulse: None,
        };
        worker.welcomed(&welcome);
        Ok(worker)
    }

    fn welcomed(&mut self, welcome: &pb::Welcome) {
        self.session_id.clone_from(&welcome.session_id);
        self.resume_token = welcome.resume_token.clone();
        self.epoch = welcome.epoch;
        self.hello.worker_id.clone_from(&welcome.worker_id);
        self.ttl = std_duration(welcome.session_ttl.as_ref());
        self.granted.clear();
        self.assigned.clear();
        *self.books() = Books::default();
        self.start_pulse(std_duration(welcome.heartbeat_interval.as_ref()));
    }

    /// Takes the session up on a new stream, naming all leases it holds. The old stream is dropped.
    pub async fn resume(&mut self, api: &Api) -> pb::Resumed {
        match self.try_resume(api).await {
            Ok(Answer::Resumed(resumed)) => resumed,
            other => panic!("the session did not resume: {other:?}"),
        }
    }

    pub async fn try_resume(&mut self, api: &Api) -> Result<Answer, Status> {
        let frame = Out::Resume(self.resume_frame());
        self.silence();
        self.stream = Stream::open(api, frame).await?;
        match self.stream.next(PATIENCE).await? {
            Some(In::Resumed(resumed)) => {
                self.resume_token = resumed.resume_token.clone();
                self.epoch = resumed.epoch;
                self.resumed(&resumed);
                Ok(Answer::Resumed(resumed))
            }
            Some(In::Welcome(welcome)) => {
                self.welcomed(&welcome);
                Ok(Answer::Welcome(welcome))
            }
            other => panic!("Resume was answered by {other:?}"),
        }
    }

    /// The frame a true worker would resume with.
    pub fn resume_frame(&self) -> pb::Resume {
        let books = self.books();
        let held = books.held.values().map(|lease| pb::HeldLease {
            lease_id: lease.assignment.lease_id,
            lease_token: lease.assignment.lease_token.clone(),
            state: lease.state.into(),
            started_at: None,
        });
        let grant = |(lane, total): (&String, &u64)| pb::CreditGrant {
            lane_id: lane.clone(),
            granted_total: *total,
            slots_free: 0,
        };
        pb::Resume {
            session_id: self.session_id.clone(),
            resume_token: self.resume_token.clone(),
            worker_id: self.hello.worker_id.clone(),
            held: held.collect(),
            last_report_seq: books.seq,
            lanes: self.granted.iter().map(grant).collect(),
            drain: false,
            hello: Some(self.hello.clone()),
        }
    }

    fn resumed(&mut self, resumed: &pb::Resumed) {
        for lane in &resumed.lanes {
            self.assigned.insert(lane.lane_id.clone(), lane.assigned_total);
        }
        let mut books = self.books();
        books.last_assign_no = 0;
        books.heartbeat_no = 0;
        books.heartbeats_acked = 0;
        books.durable_up_to(resumed.last_report_seq_durable);
        let interval = std_duration(resumed.heartbeat_interval.as_ref());
        drop(books);
        self.start_pulse(interval);
    }

    /// Sends again what is not durable yet.
    pub fn resend_reports(&self) {
        for (seq, report) in self.books().unacked.clone() {
            self.stream.send_numbered(seq, Out::Report(report));
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Worker: signs of life ===

impl Worker {
    fn start_pulse(&mut self, interval: Duration) {
        self.silence();
        let (out, books) = (self.stream.sender(), self.books.clone());
        self.pulse = Some(tokio::spawn(async move {
            loop {
                tokio::time::sleep(interval).await;
                let mut books = books.lock().unwrap_or_else(PoisonError::into_inner);
                let heartbeat = next_heartbeat(&mut books);
                if !out.send(0, Out::Heartbeat(heartbeat)) {
                    return;
                }
            }
        }));
    }

    /// No more heartbeats, as of a worker whose loop is stuck.
    pub fn silence(&mut self) {
        if let Some(pulse) = self.pulse.take() {
            pulse.abort();
        }
    }

    /// The next heartbeat, for tests that change it before they send it.
    pub fn heartbeat(&self) -> pb::Heartbeat {
        next_heartbeat(&mut self.books())
    }

    /// Newest heartbeat the server has answered, as far as frames were read.
    pub fn heartbeats_acked(&self) -> u64 {
        self.books().heartbeats_acked
    }
}

impl Books {
    /// Forgets what is settled: reports, and the leases that ended with them.
    fn durable_up_to(&mut self, seq: u64) {
        self.unacked.retain(|open, _| *open > seq);
        let open: BTreeSet<u64> =
            self.unacked.values().flat_map(|report| report.updates.iter().map(|u| u.lease_id)).collect();
        self.held.retain(|id, lease| lease.state != HeldLeaseState::FinishedUnacked || open.contains(id));
    }
}

fn next_heartbeat(books: &mut Books) -> pb::Heartbeat {
    books.heartbeat_no += 1;
    let held = books.held.iter().filter(|(_, lease)| lease.state != HeldLeaseState::FinishedUnacked);
    let (count, digest) = held.fold((0, 0), |(n, xor), (id, _)| (n + 1, xor ^ frames::lease_hash(*id)));
    pb::Heartbeat {
        held_count: count,
        held_digest: digest,
        last_assign_no: books.last_assign_no,
        last_report_seq: books.seq,
        heartbeat_no: books.heartbeat_no,
        ..Default::default()
    }
}

// === impl Worker: work ===

impl Worker {
    /// Grants more units in a lane.
    pub fn credit(&mut self, lane: &str, more: u64) {
        let total = self.granted.entry(lane.to_owned()).or_default();
        *total += more;
        let frame = frames::credit(lane, *total);
        self.stream.send(frame);
    }

    /// Units granted and not used yet, by the server's account after a resume, by our own since then.
    pub fn unused_credit(&self, lane: &str) -> u64 {
        let used = self.assigned.get(lane).copied().unwrap_or_default();
        self.granted(lane).saturating_sub(used)
    }

    pub fn granted(&self, lane: &str) -> u64 {
        self.granted.get(lane).copied().unwrap_or_default()
    }

    /// The next frame, after it was entered in the books.
    pub async fn next(&mut self, patience: Duration) -> Result<Option<In>, Status> {
        let frame = self.stream.next(patience).await?;
        if let Some(frame) = &frame {
            self.enter(frame);
        }
        Ok(frame)
    }

    /// Reads until a frame is what the test waits for; the others are kept.
    pub async fn until<T>(&mut self, what: &str, mut pick: impl FnMut(&In) -> Option<T>) -> T {
        if let Some(found) = self.stream.pick_kept(&mut pick) {
            return found;
        }
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            let frame = match self.next(left).await {
                Ok(Some(frame)) => frame,
                Ok(None) => panic!("the stream ended while the test waited for {what}"),
                Err(status) => panic!("the stream broke while the test waited for {what}: {status}"),
            };
            match pick(&frame) {
                Some(found) => return found,
                None => self.stream.keep(frame),
            }
        }
    }

    /// Waits for so many assignments.
    pub async fn assignments(&mut self, count: usize) -> Vec<pb::Assignment> {
        let mut found = Vec::new();
        while found.len() < count {
            let what = format!("assignment {} of {count}", found.len() + 1);
            found.extend(self.until(&what, assignments_of).await);
        }
        assert_eq!(found.len(), count, "more jobs came than the test counted on");
        found
    }

    /// Listens for a while and expects that nothing is assigned.
    pub async fn gets_nothing_for(&mut self, span: Duration) {
        let kept = self.stream.pick_kept(&mut |frame| assignments_of(frame));
        assert!(kept.is_none(), "got {kept:?}");
        let deadline = tokio::time::Instant::now() + span;
        loop {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            if left.is_zero() {
                return;
            }
            let Ok(frame) = tokio::time::timeout(left, self.next(PATIENCE)).await else { return };
            match frame {
                Ok(Some(In::Assign(assign))) => panic!("got {:?}", assign.assignments),
                Ok(Some(frame)) => self.stream.keep(frame),
                other => panic!("the stream ended: {other:?}"),
            }
        }
    }

    pub fn accept(&self, assignments: &[pb::Assignment]) {
        let leases: Vec<u64> = assignments.iter().map(|a| a.lease_id).collect();
        self.stream.send(frames::accept(&leases));
    }

    /// Reports; the number of the report.
    pub fn report(&self, updates: Vec<pb::JobUpdate>) -> u64 {
        let mut books = self.books();
        for update in &updates {
            let ends = is_terminal(update.kind());
            let Some(lease) = books.held.get_mut(&update.lease_id) else { continue };
            lease.state = if ends { HeldLeaseState::FinishedUnacked } else { HeldLeaseState::Running };
        }
        books.seq += 1;
        let (seq, report) = (books.seq, pb::Report { updates });
        books.unacked.insert(seq, report.clone());
        // Sent under the lock, so that no heartbeat tells of a report that has not left.
        self.stream.send_numbered(seq, Out::Report(report));
        seq
    }

    /// Waits until all reports so far are durable; those updates that were not applied.
    pub async fn settled(&mut self) -> Vec<pb::RejectedUpdate> {
        let seq = self.books().seq;
        while self.books().unacked.keys().next().is_some_and(|first| *first <= seq) {
            let books = self.books.clone();
            let is_done = move || books.lock().unwrap_or_else(PoisonError::into_inner).unacked.is_empty();
            self.until("a ReportAck", |frame| (matches!(frame, In::ReportAck(_)) || is_done()).then_some(()))
                .await;
        }
        std::mem::take(&mut self.rejected)
    }

    /// Runs each job to its end at once: accepted, started, succeeded. The credit is granted again.
    pub async fn finish(&mut self, assignments: &[pb::Assignment]) {
        for part in assignments.chunks(512) {
            self.report(part.iter().map(|a| frames::succeeded(a.lease_id)).collect());
        }
        let rejected = self.settled().await;
        assert!(rejected.is_empty(), "results were refused: {rejected:?}");
    }

    pub async fn start(&mut self, assignments: &[pb::Assignment]) {
        self.accept(assignments);
        for part in assignments.chunks(512) {
            self.report(part.iter().map(|a| frames::started(a.lease_id)).collect());
        }
        let rejected = self.settled().await;
        assert!(rejected.is_empty(), "starts were refused: {rejected:?}");
    }

    /// True when nothing is held and everything reported is durable.
    pub fn is_idle(&self) -> bool {
        let books = self.books();
        books.held.is_empty() && books.unacked.is_empty()
    }

    pub fn held(&self) -> BTreeSet<u64> {
        self.books().held.keys().copied().collect()
    }

    /// Drops leases that are no longer the worker's.
    pub fn forget(&self, leases: &[u64]) {
        self.books().held.retain(|id, _| !leases.contains(id));
    }

    fn enter(&mut self, frame: &In) {
        match frame {
            In::Assign(assign) => {
                for assignment in &assign.assignments {
                    let lane = assignment.lane_id.clone();
                    let total = self.assigned.entry(lane.clone()).or_default();
                    *total += u64::from(assignment.cost);
                    let (total, granted) = (*total, self.granted(&lane));
                    let is_granted = total <= granted;
                    assert!(
                        is_granted || self.is_lenient,
                        "lane {lane}: {total} units assigned, {granted} granted"
                    );
                    self.overrun += u64::from(!is_granted);
                    let lease = Lease { assignment: assignment.clone(), state: HeldLeaseState::Offered };
                    self.books().held.insert(assignment.lease_id, lease);
                }
                self.books().last_assign_no = assign.assign_no;
            }
            In::ReportAck(ack) => {
                self.books().durable_up_to(ack.durable_up_to_seq);
                self.rejected.extend(ack.rejected.iter().cloned());
            }
            In::HeartbeatAck(ack) => self.books().heartbeats_acked = ack.heartbeat_no,
            In::Resumed(resumed) => self.reconciled(resumed),
            _ => {}
        }
    }

    fn reconciled(&mut self, resumed: &pb::Resumed) {
        let kept = pb::LeaseVerdictKind::Keep;
        let lost: Vec<u64> =
            resumed.verdicts.iter().filter(|v| v.verdict() != kept).map(|v| v.lease_id).collect();
        self.forget(&lost);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.silence();
    }
}

pub fn assignments_of(frame: &In) -> Option<Vec<pb::Assignment>> {
    match frame {
        In::Assign(assign) => Some(assign.assignments.clone()),
        _ => None,
    }
}

/// True for updates after which the lease is over.
pub fn is_terminal(kind: JobUpdateKind) -> bool {
    match kind {
        JobUpdateKind::Succeeded
        | JobUpdateKind::Failed
        | JobUpdateKind::Cancelled
        | JobUpdateKind::Released => true,
        JobUpdateKind::Unspecified
        | JobUpdateKind::Started
        | JobUpdateKind::Progress
        | JobUpdateKind::Checkpoint => false,
    }
}

fn std_duration(span: Option<&coretex_contract::Duration>) -> Duration {
    span.and_then(|span| Duration::try_from(*span).ok()).unwrap_or_default()
}
