//! A whole server on a free port, with an engine over the memory store.

use coretex_contract::v1 as pb;
use coretex_contract::v1::admin_service_client::AdminServiceClient;
use coretex_contract::v1::config_service_client::ConfigServiceClient;
use coretex_contract::v1::dlq_service_client::DlqServiceClient;
use coretex_contract::v1::event_service_client::EventServiceClient;
use coretex_contract::v1::job_service_client::JobServiceClient;
use coretex_contract::v1::topic_service_client::TopicServiceClient;
use coretex_contract::v1::worker_service_client::WorkerServiceClient;
use coretex_engine::Engine;
use coretex_engine::clock::{SystemClock, SystemDice};
use coretex_gateway::GatewaySettings;
use coretex_ports::Env;
use coretex_ports::memory::MemoryStore;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Status, Streaming};
use tonic_types::StatusExt;

pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) engine: Engine,
    pub(crate) store: MemoryStore,
    pub(crate) channel: Channel,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<std::io::Result<()>>,
}

impl Server {
    pub(crate) async fn start() -> Server {
        Server::with(GatewaySettings::default()).await
    }

    pub(crate) async fn with(settings: GatewaySettings) -> Server {
        Server::over(MemoryStore::new(Default::default()), settings).await
    }

    /// A server over this store.
    pub(crate) async fn over(store: MemoryStore, settings: GatewaySettings) -> Server {
        let env = Env { clock: Arc::new(SystemClock::new()), dice: Arc::new(SystemDice::new()) };
        let engine_settings =
            coretex_engine::api::Settings { drain_grace: coretex_domain::Span(100), ..Default::default() };
        let engine =
            Engine::start(Arc::new(store.clone()), env, engine_settings).await.expect("the engine starts");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let addr = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel::<()>();
        // Workers of these tests do not leave when they are told to.
        let settings = GatewaySettings { shutdown_grace: std::time::Duration::from_millis(300), ..settings };
        let serving = coretex_gateway::serve(listener, engine.clone(), settings, async {
            let _ = stopped.await;
        });
        let task = tokio::spawn(serving);
        let channel = Channel::from_shared(format!("http://{addr}")).expect("an address").connect_lazy();
        Server { addr, engine, store, channel, stop: Some(stop), task }
    }

    /// What every call after this shows.
    pub(crate) fn with_key<T>(message: T, key: &str) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.metadata_mut().insert("x-api-key", key.parse().expect("a header"));
        request
    }

    /// Why a server with these settings does not start.
    pub(crate) async fn failing(settings: GatewaySettings) -> std::io::Error {
        let server = Server::with(settings).await;
        let fault = server.task.await.expect("no panic").expect_err("it does not start");
        server.engine.stop().await;
        fault
    }

    pub(crate) fn jobs(&self) -> JobServiceClient<Channel> {
        JobServiceClient::new(self.channel.clone())
    }

    pub(crate) fn workers(&self) -> WorkerServiceClient<Channel> {
        WorkerServiceClient::new(self.channel.clone())
    }

    pub(crate) fn topics(&self) -> TopicServiceClient<Channel> {
        TopicServiceClient::new(self.channel.clone())
    }

    pub(crate) fn configs(&self) -> ConfigServiceClient<Channel> {
        ConfigServiceClient::new(self.channel.clone())
    }

    pub(crate) fn dlq(&self) -> DlqServiceClient<Channel> {
        DlqServiceClient::new(self.channel.clone())
    }

    pub(crate) fn events(&self) -> EventServiceClient<Channel> {
        EventServiceClient::new(self.channel.clone())
    }

    pub(crate) fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel.clone())
    }

    pub(crate) async fn submit(&self, spec: pb::JobSpec) -> Result<pb::SubmitJobResponse, Status> {
        let request = pb::SubmitJobRequest { spec: Some(spec), ..Default::default() };
        self.jobs().submit_job(request).await.map(tonic::Response::into_inner)
    }

    pub(crate) async fn get(&self, job_id: &str) -> Result<pb::Job, Status> {
        let request = pb::GetJobRequest { job_id: job_id.into(), ..Default::default() };
        self.jobs().get_job(request).await.map(|r| r.into_inner().job.expect("a job"))
    }

    /// One plain HTTP/1.1 request; the whole answer.
    pub(crate) async fn http(&self, request: &str) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut socket = tokio::net::TcpStream::connect(self.addr).await.expect("connects");
        socket.write_all(request.as_bytes()).await.expect("sends");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.expect("answers");
        answer
    }

    /// The same for answers that are not all text.
    pub(crate) async fn http_lossy(&self, request: &str) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut socket = tokio::net::TcpStream::connect(self.addr).await.expect("connects");
        socket.write_all(request.as_bytes()).await.expect("sends");
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.expect("answers");
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub(crate) async fn stop(mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        self.task.await.expect("no panic").expect("served");
        self.engine.stop().await;
    }
}

pub(crate) fn spec(topic: &str) -> pb::JobSpec {
    pb::JobSpec {
        topic: topic.into(),
        payload: Some(pb::Payload::data("text/plain", &b"hi"[..])),
        ..Default::default()
    }
}

/// The reason a status carries.
pub(crate) fn reason(status: &Status) -> String {
    status.get_error_details().error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

/// A worker on a stream, driven by hand.
pub(crate) struct Worker {
    pub(crate) send: mpsc::Sender<pb::ConnectRequest>,
    pub(crate) receive: Streaming<pb::ConnectResponse>,
    pub(crate) welcome: pb::Welcome,
    next_seq: u64,
}

pub(crate) type Out = pb::connect_request::Frame;
pub(crate) type In = pb::connect_response::Frame;

pub(crate) fn frame(frame: Out) -> pb::ConnectRequest {
    pb::ConnectRequest { seq: 0, frame: Some(frame) }
}

pub(crate) fn hello(topics: &[&str]) -> pb::Hello {
    pb::Hello {
        protocol_min: 1,
        protocol_max: 1,
        features: vec!["resume".into(), "output".into()],
        topics: topics
            .iter()
            .map(|t| pb::TopicRegistration { name: (*t).into(), ..Default::default() })
            .collect(),
        lanes: vec![pb::LaneRegistration { lane_id: "main".into(), slots: 100, ..Default::default() }],
        ..Default::default()
    }
}

/// Opens a stream with these first frames.
pub(crate) async fn connect(
    server: &Server,
    first: Vec<pb::ConnectRequest>,
) -> (mpsc::Sender<pb::ConnectRequest>, Streaming<pb::ConnectResponse>) {
    let (send, frames) = mpsc::channel(1_024);
    for frame in first {
        send.send(frame).await.expect("room");
    }
    let frames =
        futures::stream::unfold(frames, |mut frames| async move { frames.recv().await.map(|f| (f, frames)) });
    let receive = server.workers().connect(frames).await.expect("a stream").into_inner();
    (send, receive)
}

impl Worker {
    pub(crate) async fn join(server: &Server, topics: &[&str]) -> Worker {
        Worker::join_as(server, hello(topics)).await
    }

    pub(crate) async fn join_as(server: &Server, hello: pb::Hello) -> Worker {
        let (send, mut receive) = connect(server, vec![frame(Out::Hello(hello))]).await;
        let first = receive.message().await.expect("no error").expect("a frame");
        let Some(In::Welcome(welcome)) = first.frame else { panic!("not welcomed: {first:?}") };
        let worker = Worker::on(send, receive, welcome);
        worker.credit(1_000).await;
        worker
    }

    /// A worker on a stream that was opened by hand.
    pub(crate) fn on(
        send: mpsc::Sender<pb::ConnectRequest>,
        receive: Streaming<pb::ConnectResponse>,
        welcome: pb::Welcome,
    ) -> Worker {
        Worker { send, receive, welcome, next_seq: 0 }
    }

    pub(crate) async fn credit(&self, granted_total: u64) {
        let grant = pb::CreditGrant { lane_id: "main".into(), granted_total, slots_free: 0 };
        self.send(Out::Credit(pb::Credit { grants: vec![grant] })).await;
    }

    pub(crate) async fn send(&self, out: Out) {
        self.send.send(frame(out)).await.expect("the stream is open");
    }

    pub(crate) async fn next(&mut self) -> Option<In> {
        let message = tokio::time::timeout(std::time::Duration::from_secs(10), self.receive.message()).await;
        message.expect("a frame within 10 s").expect("no error").and_then(|m| m.frame)
    }

    /// The next assignments, whatever else comes before.
    pub(crate) async fn assigned(&mut self) -> Vec<pb::Assignment> {
        loop {
            match self.next().await.expect("the stream is open") {
                In::Assign(assign) => return assign.assignments,
                _other => {}
            }
        }
    }

    pub(crate) async fn report(&mut self, updates: Vec<pb::JobUpdate>) -> pb::ReportAck {
        self.next_seq += 1;
        let request =
            pb::ConnectRequest { seq: self.next_seq, frame: Some(Out::Report(pb::Report { updates })) };
        self.send.send(request).await.expect("the stream is open");
        loop {
            if let In::ReportAck(ack) = self.next().await.expect("the stream is open") {
                return ack;
            }
        }
    }
}

pub(crate) fn update(assignment: &pb::Assignment, kind: pb::JobUpdateKind) -> pb::JobUpdate {
    pb::JobUpdate { lease_id: assignment.lease_id, kind: kind.into(), ..Default::default() }
}

pub(crate) fn succeeded(assignment: &pb::Assignment) -> pb::JobUpdate {
    let result = Some(pb::Payload::data("application/json", &b"{\"ok\":true}"[..]));
    pb::JobUpdate { result, ..update(assignment, pb::JobUpdateKind::Succeeded) }
}
