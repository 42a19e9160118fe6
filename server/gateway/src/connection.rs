//! One connection from its first bytes to its end: how long it may say nothing, lie idle and live, and how many of
//! them one address may have.

use crate::access::principal::Principal;
use crate::front::Front;
use crate::gate::Gate;
use http::Request;
use hyper::rt::{Read, Write};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustc_hash::FxHashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_rustls::TlsAcceptor;

/// Within which a new connection must say what it is.
pub(crate) const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);
/// What an HTTP/2 client says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

// === Addresses ===

/// How many connections each address has.
#[derive(Default)]
pub(crate) struct Addresses(Mutex<FxHashMap<IpAddr, usize>>);

/// A connection's place among those of its address.
pub(crate) struct AddressPlace {
    addresses: Arc<Addresses>,
    of: IpAddr,
}

impl Addresses {
    /// A place, unless the address has as many as allowed.
    pub(crate) fn place(self: &Arc<Self>, peer: IpAddr, most: usize) -> Option<AddressPlace> {
        let of = source(peer);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(of).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        Some(AddressPlace { addresses: self.clone(), of })
    }
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        let mut counts = self.addresses.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.of) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.of);
            }
        }
    }
}

/// What counts as one source: an IPv4 address, or the network of an IPv6 host, which has more addresses than we count.
fn source(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

// === Link ===

/// What calls know of their connection. It is put into each request.
#[derive(Debug)]
pub(crate) struct Link {
    /// Where it comes from.
    pub(crate) peer: IpAddr,
    /// Where it comes from, as far as addresses are told apart.
    pub(crate) address: IpAddr,
    /// Whom the certificate of its client stands for.
    pub(crate) certified: Option<Arc<Principal>>,
    leaving: watch::Sender<bool>,
    open: AtomicUsize,
    start: Instant,
    /// When the last call ended, in milliseconds since the start.
    last_end: AtomicU64,
}

/// A call that is under way on a connection.
#[derive(Debug)]
pub(crate) struct InUse(Arc<Link>);

impl Link {
    fn new(peer: IpAddr, certified: Option<Arc<Principal>>) -> Link {
        let (leaving, open) = (watch::Sender::new(false), AtomicUsize::new(0));
        Link {
            peer: peer.to_canonical(),
            address: source(peer),
            certified,
            leaving,
            open,
            start: Instant::now(),
            last_end: AtomicU64::new(0),
        }
    }

    /// How much longer the connection may lie idle; `None` while it is in use.
    fn idle_left(&self, most: Duration) -> Option<Duration> {
        if self.open.load(Ordering::Acquire) > 0 {
            return None;
        }
        let idle_since = self.start + Duration::from_millis(self.last_end.load(Ordering::Acquire));
        Some(most.saturating_sub(idle_since.elapsed()))
    }
}

impl InUse {
    pub(crate) fn of(link: &Arc<Link>) -> InUse {
        link.open.fetch_add(1, Ordering::AcqRel);
        InUse(link.clone())
    }

    /// Tells when the connection has become too old.
    pub(crate) fn leaving(&self) -> watch::Receiver<bool> {
        self.0.leaving.subscribe()
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let now = u64::try_from(self.0.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.last_end.fetch_max(now, Ordering::AcqRel);
        self.0.open.fetch_sub(1, Ordering::AcqRel);
    }
}

// === Connection ===

pub(crate) struct Connection {
    pub(crate) builder: Arc<auto::Builder<TokioExecutor>>,
    /// Turns true when the server goes down.
    pub(crate) closing: watch::Receiver<bool>,
    pub(crate) front: Front,
    pub(crate) gate: Arc<Gate>,
    pub(crate) peer: IpAddr,
    pub(crate) places: (OwnedSemaphorePermit, AddressPlace),
}

impl Connection {
    pub(crate) async fn run_plain(self, socket: TcpStream) {
        if tokio::time::timeout(HANDSHAKE_WITHIN, first_words(&socket)).await.is_ok_and(|seen| seen) {
            self.run(TokioIo::new(socket), None).await;
        }
    }

    pub(crate) async fn run_tls(self, socket: TcpStream, tls: TlsAcceptor) {
        match tokio::time::timeout(HANDSHAKE_WITHIN, tls.accept(socket)).await {
            Ok(Ok(stream)) => {
                let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                let certified = shown.and_then(|certificate| self.gate.guard.certified(certificate));
                self.run(TokioIo::new(stream), certified).await;
            }
            Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
            Err(_) => tracing::debug!("a TLS handshake took too long"),
        }
    }

    async fn run(self, io: impl Read + Write + Unpin + Send + 'static, certified: Option<Arc<Principal>>) {
        let open = &self.gate.metrics.connections;
        open.fetch_add(1, Ordering::Relaxed);
        self.serve(io, Arc::new(Link::new(self.peer, certified))).await;
        open.fetch_sub(1, Ordering::Relaxed);
        drop(self.places);
    }

    /// Serves until the peer or the server ends it. An old or idle connection is told so (GOAWAY) and takes no new
    /// calls; those under way go on, for as long as the grace of an old one lasts.
    async fn serve(&self, io: impl Read + Write + Unpin + Send + 'static, link: Arc<Link>) {
        let (front, calls) = (self.front.clone(), link.clone());
        let service = service_fn(move |mut request: Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(calls.clone());
            front.clone().serve(request)
        });
        let mut connection = pin!(self.builder.serve_connection_with_upgrades(io, service).into_owned());
        let settings = &self.gate.settings;
        let mut closing = self.closing.clone();
        let mut age = pin!(sleep(settings.connection_age_max.map(|age| self.jittered(age))));
        let mut idle = pin!(tokio::time::sleep(settings.connection_idle_max));
        let mut cut = pin!(sleep(None));
        let (mut is_closing, mut is_old) = (false, false);
        loop {
            tokio::select! {
                biased;
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "a connection ended early");
                    }
                    return;
                }
                Ok(_) = closing.wait_for(|closing| *closing), if !is_closing => is_closing = true,
                () = age.as_mut(), if !is_old => {
                    (is_closing, is_old) = (true, true);
                    link.leaving.send_replace(true);
                    cut.set(sleep(Some(settings.connection_age_grace)));
                }
                () = idle.as_mut(), if !is_closing => match link.idle_left(settings.connection_idle_max) {
                    Some(Duration::ZERO) => is_closing = true,
                    left => {
                        let left = left.unwrap_or(settings.connection_idle_max);
                        idle.as_mut().reset(tokio::time::Instant::now() + left);
                        continue;
                    }
                },
                () = cut.as_mut() => {
                    tracing::info!("calls were still open on a connection past its age and grace; it is cut");
                    return;
                }
            }
            connection.as_mut().graceful_shutdown();
        }
    }

    /// An age of 90 to 110 %, so that connections made together do not end together.
    fn jittered(&self, age: Duration) -> Duration {
        let roll = u32::try_from(self.gate.engine.env().dice.bits() % 201).unwrap_or(100);
        age * (900 + roll) / 1_000
    }
}

/// Sleeps so long, or for ever.
async fn sleep(span: Option<Duration>) {
    match span {
        Some(span) => tokio::time::sleep(span).await,
        None => std::future::pending().await,
    }
}

/// Waits until it is clear whether a client speaks HTTP/2. After that the protocol keeps its own time.
async fn first_words(socket: &TcpStream) -> bool {
    let mut seen = [0; PREFACE.len()];
    let mut known = 0;
    loop {
        match socket.peek(&mut seen).await {
            Ok(0) | Err(_) => return false,
            Ok(n) if n >= PREFACE.len() || !PREFACE.starts_with(&seen[..n]) => return true,
            // Part of the preface: what was seen stays readable, so waiting for more is asking again.
            Ok(n) if n == known => tokio::time::sleep(Duration::from_millis(5)).await,
            Ok(n) => known = n,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_places_and_gets_them_back() {
        let addresses = Arc::new(Addresses::default());
        let ip = |text: &str| text.parse::<IpAddr>().expect(text);
        let first = addresses.place(ip("10.0.0.1"), 2);
        let _second = addresses.place(ip("::ffff:10.0.0.1"), 2).expect("the same, and still within");
        assert!(addresses.place(ip("10.0.0.1"), 2).is_none());
        assert!(addresses.place(ip("10.0.0.2"), 2).is_some(), "another address");
        drop(first);
        assert!(addresses.place(ip("10.0.0.1"), 2).is_some());
        let _third = addresses.place(ip("2001:db8::1"), 1).expect("within");
        assert!(addresses.place(ip("2001:db8::ffff"), 1).is_none(), "one network is one source");
        assert!(addresses.place(ip("2001:db8:0:1::1"), 1).is_some());
    }

    #[test]
    fn a_connection_is_idle_only_without_calls() {
        let link = Arc::new(Link::new(IpAddr::from([10, 0, 0, 1]), None));
        assert!(link.idle_left(Duration::from_secs(9)).is_some_and(|left| left > Duration::from_secs(8)));
        let (one, two) = (InUse::of(&link), InUse::of(&link));
        drop(one);
        assert_eq!(link.idle_left(Duration::ZERO), None);
        drop(two);
        assert_eq!(link.idle_left(Duration::ZERO), Some(Duration::ZERO));
    }
}
