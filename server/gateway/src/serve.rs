//! The listener: connections in, bounded in number, in time and in what each may ask; out again in good order.

use crate::connection::{Addresses, Connection, HANDSHAKE_WITHIN};
use crate::door::{self, Door};
use crate::front::Front;
use crate::gate::Gate;
use crate::metrics::{self, Counts};
use crate::routes;
use crate::settings::GatewaySettings;
use crate::tls::Acceptors;
use coretex_engine::Engine;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

const KEEPALIVE_EVERY: Duration = Duration::from_secs(20);
const KEEPALIVE_WITHIN: Duration = Duration::from_secs(10);
const HEADER_LIST_MAX: u32 = 16 << 10;
const HTTP2_FRAME_MAX: u32 = 256 << 10;
const SEND_BUFFER_MAX: usize = 2 << 20;
const PENDING_RESETS_MAX: usize = 256;
/// How often health is looked at.
const HEALTH_EVERY: Duration = Duration::from_millis(200);

/// Serves the contract until `shutdown`: gRPC, gRPC-Web, health, reflection and the plain routes on one port.
///
/// At the end the engine is drained, watches are closed and workers told to leave; what still runs gets
/// [`GatewaySettings::shutdown_grace`]. Stop the engine after this has returned.
pub async fn serve(
    listener: TcpListener,
    engine: Engine,
    settings: GatewaySettings,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let tls = settings.tls.clone().map(Acceptors::new).transpose()?;
    let gate = Arc::new(Gate::new(engine, settings));
    let (health, routes) = routes::routes(&gate).map_err(io::Error::other)?;
    let health = tokio::spawn(watch_health(gate.clone(), health));
    let clock = gate.engine.env().clock.clone();
    let mut watching = gate.guard.watch(move || clock.now().wall);
    watching.spawn(door::count_floods(gate.clone()));
    if let Some(keys) = &gate.keys {
        watching.spawn(keys.clone().follow());
    }
    if let Some(tls) = &tls {
        watching.spawn(tls.clone().follow_files());
    }
    let front = Front::new(gate.clone(), Door::new(gate.clone(), routes));
    let mut connections = Connections {
        builder: Arc::new(builder(&gate.settings)),
        places: Arc::new(Semaphore::new(gate.settings.connections_max)),
        addresses: Arc::default(),
        closing: watch::Sender::new(false),
        tasks: JoinSet::new(),
        front,
        tls,
        gate: gate.clone(),
    };
    connections.accept_until(&listener, shutdown).await;
    drop(listener);
    gate.close();
    gate.engine.drain().await;
    connections.end(gate.settings.shutdown_grace).await;
    health.abort();
    watching.abort_all();
    door::tell_floods(&gate, true).await;
    if let Some(keys) = &gate.keys {
        keys.note().await;
    }
    Ok(())
}

/// Serves `/metrics`, `/livez` and `/readyz` on a listener of their own, as production wants it. `counts` are those of
/// the settings that [`serve`] got.
pub async fn serve_metrics(
    listener: TcpListener,
    engine: Engine,
    counts: Counts,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let settings = GatewaySettings { reflection: false, counts, ..GatewaySettings::default() };
    let gate = Arc::new(Gate::new(engine, settings));
    let ready = gate.clone();
    let router = axum::Router::new()
        .route("/metrics", axum::routing::get(move || async move { metrics::render(&gate).await }))
        .route("/livez", axum::routing::get(|| async { "ok\n" }))
        .route(
            "/readyz",
            axum::routing::get(move || async move {
                match ready.engine.is_ready() {
                    true => (http::StatusCode::OK, "ok\n"),
                    false => (http::StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
                }
            }),
        );
    axum::serve(listener, router).with_graceful_shutdown(shutdown).await
}

struct Connections {
    builder: Arc<auto::Builder<TokioExecutor>>,
    places: Arc<Semaphore>,
    addresses: Arc<Addresses>,
    closing: watch::Sender<bool>,
    tasks: JoinSet<()>,
    front: Front,
    tls: Option<Arc<Acceptors>>,
    gate: Arc<Gate>,
}

impl Connections {
    async fn accept_until(&mut self, listener: &TcpListener, shutdown: impl Future<Output = ()> + Send) {
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((socket, peer)) => self.take(socket, peer.ip()),
                    Err(error) => {
                        // Out of descriptors, as a rule: let some go before the next.
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                },
                Some(_) = self.tasks.join_next() => {}
                () = &mut shutdown => return,
            }
        }
    }

    fn take(&mut self, socket: TcpStream, peer: IpAddr) {
        let most = self.gate.settings.connections_per_address_max;
        let place = self.places.clone().try_acquire_owned().ok();
        let Some(places) = place.and_then(|place| Some((place, self.addresses.place(peer, most)?))) else {
            self.gate.metrics.refused_connections.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let _ = socket.set_nodelay(true);
        let connection = Connection {
            builder: self.builder.clone(),
            closing: self.closing.subscribe(),
            front: self.front.clone(),
            gate: self.gate.clone(),
            peer,
            places,
        };
        match &self.tls {
            Some(tls) => self.tasks.spawn(connection.run_tls(socket, tls.newest())),
            None => self.tasks.spawn(connection.run_plain(socket)),
        };
    }

    async fn end(mut self, grace: Duration) {
        let quiet = async {
            self.closing.send_replace(true);
            while self.tasks.join_next().await.is_some() {}
        };
        if tokio::time::timeout(grace, quiet).await.is_err() {
            tracing::info!("connections were still open after the grace; they are cut");
        }
    }
}

fn builder(settings: &GatewaySettings) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HANDSHAKE_WITHIN).keep_alive(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(settings.stream_window)
        .initial_connection_window_size(settings.connection_window)
        .max_concurrent_streams(settings.streams_max)
        .max_frame_size(HTTP2_FRAME_MAX)
        .max_send_buf_size(SEND_BUFFER_MAX)
        .max_header_list_size(HEADER_LIST_MAX)
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .keep_alive_interval(KEEPALIVE_EVERY)
        .keep_alive_timeout(KEEPALIVE_WITHIN);
    builder
}

/// Keeps the health of every service what the engine says it is.
async fn watch_health(gate: Arc<Gate>, reporter: tonic_health::server::HealthReporter) {
    let mut told = None;
    let mut ticks = tokio::time::interval(HEALTH_EVERY);
    loop {
        ticks.tick().await;
        let is_ready = gate.engine.is_ready() && !gate.is_closing();
        if told.replace(is_ready) == Some(is_ready) {
            continue;
        }
        let status = match is_ready {
            true => tonic_health::ServingStatus::Serving,
            false => tonic_health::ServingStatus::NotServing,
        };
        for service in gate.metrics.methods.services() {
            reporter.set_service_status(service, status).await;
        }
        reporter.set_service_status("", status).await;
    }
}
