//! A scripted server: the test is its other half, frame by frame.

use coretex_sdk::raw::tonic::{Request, Response, Status, Streaming};
use coretex_sdk::raw::v1::connect_request::Frame as Up;
use coretex_sdk::raw::v1::connect_response::Frame as Down;
use coretex_sdk::raw::v1::worker_service_server::{WorkerService, WorkerServiceServer};
use coretex_sdk::raw::v1::*;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};

/// A hang guard, not a figure.
pub(crate) const HANG: Duration = Duration::from_secs(20);

/// The server, on a thread of its own so that handlers may block the test's runtime.
pub(crate) struct Fake {
    pub(crate) addr: String,
    conns: mpsc::UnboundedReceiver<Conn>,
    stop: Option<oneshot::Sender<()>>,
}

/// One stream of a worker.
pub(crate) struct Conn {
    frames: Streaming<ConnectRequest>,
    replies: mpsc::UnboundedSender<Result<ConnectResponse, Status>>,
    /// Newest total granted, by lane.
    pub(crate) granted: BTreeMap<String, u64>,
    pub(crate) assigned: u64,
    pub(crate) heartbeats: Vec<Heartbeat>,
    pub(crate) acks: Vec<AssignAck>,
    pub(crate) outputs: Vec<Output>,
    /// Answer heartbeats as they come.
    pub(crate) answers_heartbeats: bool,
    pub(crate) ttl: Duration,
    assign_no: u64,
}

struct Service {
    conns: mpsc::UnboundedSender<Conn>,
}

type Replies<T> = Pin<Box<dyn futures::Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl WorkerService for Service {
    type ConnectStream = Replies<ConnectResponse>;

    async fn connect(
        &self,
        request: Request<Streaming<ConnectRequest>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let (replies, stream) = mpsc::unbounded_channel();
        let conn = Conn {
            frames: request.into_inner(),
            replies,
            granted: BTreeMap::new(),
            assigned: 0,
            heartbeats: Vec::new(),
            acks: Vec::new(),
            outputs: Vec::new(),
            answers_heartbeats: true,
            ttl: Duration::from_secs(15),
            assign_no: 0,
        };
        self.conns.send(conn).map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(stream))))
    }

    async fn poll_jobs(&self, _: Request<PollJobsRequest>) -> Result<Response<PollJobsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn report_jobs(
        &self,
        _: Request<ReportJobsRequest>,
    ) -> Result<Response<ReportJobsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_workers(
        &self,
        _: Request<ListWorkersRequest>,
    ) -> Result<Response<ListWorkersResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_worker(&self, _: Request<GetWorkerRequest>) -> Result<Response<GetWorkerResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn drain_worker(
        &self,
        _: Request<DrainWorkerRequest>,
    ) -> Result<Response<DrainWorkerResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

impl Fake {
    pub(crate) async fn start() -> Self {
        let (conns_to, conns) = mpsc::unbounded_channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let (addr_to, addr) = oneshot::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                addr_to.send(listener.local_addr().unwrap()).unwrap();
                let server = tonic::transport::Server::builder()
                    .initial_stream_window_size(Some(4 << 20))
                    .initial_connection_window_size(Some(8 << 20))
                    .add_service(WorkerServiceServer::new(Service { conns: conns_to }))
                    .serve_with_incoming(TcpListenerStream::new(listener));
                tokio::select! { _ = server => {}, _ = stopped => {} }
            });
        });
        Self { addr: format!("http://{}", addr.await.unwrap()), conns, stop: Some(stop) }
    }

    /// The next stream.
    pub(crate) async fn conn(&mut self) -> Conn {
        within(self.conns.recv()).await.expect("the server runs")
    }

    /// The next stream, greeted with a Welcome.
    pub(crate) async fn welcomed(&mut self) -> (Conn, Hello) {
        self.welcomed_as(welcome()).await
    }

    pub(crate) async fn welcomed_as(&mut self, welcome: Welcome) -> (Conn, Hello) {
        let mut conn = self.conn().await;
        let hello = match conn.recv().await {
            Some(Up::Hello(hello)) => hello,
            other => panic!("Hello comes first, not {other:?}"),
        };
        conn.ttl = Duration::try_from(welcome.session_ttl.unwrap()).unwrap();
        conn.send(Down::Welcome(welcome));
        (conn, hello)
    }

    /// The next stream, which must begin with Resume.
    pub(crate) async fn resumed(&mut self) -> (Conn, Resume) {
        let mut conn = self.conn().await;
        match conn.recv().await {
            Some(Up::Resume(resume)) => (conn, resume),
            other => panic!("Resume comes first, not {other:?}"),
        }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.take().map(|stop| stop.send(()));
    }
}

pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(HANG, future).await.expect("nothing happened for a long time")
}

pub(crate) fn millis(ms: u64) -> coretex_contract::Duration {
    Duration::from_millis(ms).try_into().unwrap()
}

pub(crate) fn welcome() -> Welcome {
    Welcome {
        session_id: "session".into(),
        protocol_version: 1,
        features: vec!["resume".into(), "output".into()],
        epoch: 1,
        resume_token: "token-1".into(),
        heartbeat_interval: Some(millis(5_000)),
        session_ttl: Some(millis(15_000)),
        offer_ttl: Some(millis(5_000)),
        limits: Some(StreamLimits { payload_max_bytes: 1 << 20, ..Default::default() }),
        worker_id: "w".into(),
        ..Default::default()
    }
}

pub(crate) fn resumed() -> Resumed {
    Resumed { epoch: 2, resume_token: "token-2".into(), ..Default::default() }
}

pub(crate) fn assignment(lease_id: u64, topic: &str, input: &str) -> Assignment {
    let job_id = format!("job_{lease_id}");
    Assignment {
        lease_id,
        lease_token: format!("lease-{lease_id}").into(),
        job: Some(JobRef { job_id, topic: topic.into(), ..Default::default() }),
        lane_id: "default".into(),
        cost: 1,
        attempt: 1,
        delivery_count: 1,
        max_attempts: 3,
        input: Some(Payload::data("application/json", input.to_owned())),
        ..Default::default()
    }
}

impl Conn {
    pub(crate) fn send(&self, frame: Down) {
        self.replies.send(Ok(ConnectResponse { seq: 0, frame: Some(frame) })).expect("the stream is open");
    }

    /// Ends the stream: OK without a status.
    pub(crate) fn end(self, status: Option<Status>) {
        if let Some(status) = status {
            self.replies.send(Err(status)).expect("the stream is open");
        }
    }

    /// The next frame, heartbeats answered and everything counted. `None`: the worker has half-closed.
    pub(crate) async fn recv(&mut self) -> Option<Up> {
        Some(within(self.frames.message()).await.ok()??)
            .and_then(|request| self.seen(request).map(|(_, frame)| frame))
    }

    fn seen(&mut self, request: ConnectRequest) -> Option<(u64, Up)> {
        let frame = request.frame?;
        match &frame {
            Up::Heartbeat(beat) => {
                self.heartbeats.push(*beat);
                if self.answers_heartbeats {
                    let session_ttl = Some(self.ttl.try_into().unwrap());
                    self.send(Down::HeartbeatAck(HeartbeatAck {
                        heartbeat_no: beat.heartbeat_no,
                        session_ttl,
                    }));
                }
            }
            Up::Credit(credit) => {
                for grant in &credit.grants {
                    let before = self.granted.insert(grant.lane_id.clone(), grant.granted_total).unwrap_or(0);
                    assert!(before <= grant.granted_total, "granted_total fell");
                }
            }
            Up::AssignAck(ack) => self.acks.push(ack.clone()),
            Up::Output(output) => self.outputs.push(output.clone()),
            _ => {}
        }
        Some((request.seq, frame))
    }

    /// Frames until one is wanted.
    pub(crate) async fn until<T>(&mut self, mut wanted: impl FnMut(&mut Self, &Up) -> Option<T>) -> T {
        loop {
            let frame = self.recv().await.expect("the worker half-closed");
            if let Some(found) = wanted(self, &frame) {
                return found;
            }
        }
    }

    /// The next report, with its number.
    pub(crate) async fn report(&mut self) -> (u64, Vec<JobUpdate>) {
        loop {
            let request = within(self.frames.message()).await.expect("open").expect("the worker half-closed");
            if let Some((seq, Up::Report(report))) = self.seen(request) {
                return (seq, report.updates);
            }
        }
    }

    /// The next updates of a lease up to its end, acknowledged as they come.
    pub(crate) async fn updates_of(&mut self, lease_id: u64) -> Vec<JobUpdate> {
        let mut found = Vec::new();
        loop {
            let (seq, updates) = self.report().await;
            self.ack(seq);
            found.extend(updates.into_iter().filter(|update| update.lease_id == lease_id));
            if found.last().is_some_and(|update| is_end(update.kind())) {
                return found;
            }
        }
    }

    /// Credit of the lane `default`, once there is some.
    pub(crate) async fn credit(&mut self) -> u64 {
        if let Some(total) = self.granted.get("default") {
            return *total;
        }
        self.until(|conn, _| conn.granted.get("default").copied()).await
    }

    /// Assigns jobs, waiting for the credit they need.
    pub(crate) async fn assign(&mut self, jobs: impl IntoIterator<Item = Assignment>) {
        let assignments: Vec<Assignment> = jobs.into_iter().collect();
        let wanted = self.assigned + assignments.iter().map(|job| u64::from(job.cost)).sum::<u64>();
        while self.granted.values().sum::<u64>() < wanted {
            self.recv().await.expect("the worker half-closed");
        }
        self.assigned = wanted;
        self.assign_no += 1;
        self.send(Down::Assign(Assign { assign_no: self.assign_no, assignments }));
    }

    pub(crate) fn ack(&self, seq: u64) {
        self.send(Down::ReportAck(ReportAck { durable_up_to_seq: seq, rejected: Vec::new() }));
    }

    pub(crate) fn order(&self, control_id: u64, lease_id: u64, action: control::entry::Action) {
        let entry = control::Entry { control_id, lease_id, action: Some(action) };
        self.send(Down::Control(Control { entries: vec![entry] }));
    }
}

pub(crate) fn is_end(kind: JobUpdateKind) -> bool {
    use JobUpdateKind as Kind;
    matches!(kind, Kind::Succeeded | Kind::Failed | Kind::Cancelled | Kind::Released)
}

pub(crate) fn kinds(updates: &[JobUpdate]) -> Vec<JobUpdateKind> {
    updates.iter().map(|update| update.kind()).collect()
}
