//! A TCP proxy that breaks connections on purpose: it holds bytes back, closes one direction, resets everything, or
//! turns newcomers away.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    ToServer,
    ToClient,
}

#[derive(Clone, Copy, Debug, Default)]
struct Gates {
    /// Bytes wait here while their way is held.
    is_held: [bool; 2],
    /// Bytes of a closed way are read and thrown away, and its end is shut.
    is_closed: [bool; 2],
    /// Connections of an older generation are reset.
    generation: u64,
}

/// A proxy before one server. Dropping it resets all its connections.
pub struct Proxy {
    addr: SocketAddr,
    gates: watch::Sender<Gates>,
    is_closed: Arc<AtomicBool>,
    accepted: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

// === impl Proxy ===

impl Proxy {
    pub async fn before(server: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port for the proxy");
        let addr = listener.local_addr().expect("it has an address");
        let (gates, _) = watch::channel(Gates::default());
        let is_closed = Arc::new(AtomicBool::new(false));
        let accepted = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(accept(listener, server, gates.clone(), is_closed.clone(), accepted.clone()));
        Proxy { addr, gates, is_closed, accepted, task }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Connections taken so far.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Holds back what goes one way: it is neither lost nor delivered.
    pub fn hold(&self, way: Way) {
        self.gates.send_modify(|gates| gates.is_held[way as usize] = true);
    }

    pub fn release(&self, way: Way) {
        self.gates.send_modify(|gates| gates.is_held[way as usize] = false);
    }

    /// Shuts one way of every connection, for good: a half-open connection.
    pub fn half_close(&self, way: Way) {
        self.gates.send_modify(|gates| gates.is_closed[way as usize] = true);
    }

    /// Resets every connection. New ones are taken again at once, with all gates open.
    pub fn cut(&self) {
        self.gates.send_modify(|gates| {
            *gates = Gates { generation: gates.generation + 1, ..Gates::default() };
        });
    }

    /// Turns newcomers away from now on.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Relaxed);
    }

    pub fn open(&self) {
        self.is_closed.store(false, Ordering::Relaxed);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

async fn accept(
    listener: TcpListener,
    server: SocketAddr,
    gates: watch::Sender<Gates>,
    is_closed: Arc<AtomicBool>,
    accepted: Arc<AtomicU64>,
) {
    loop {
        let Ok((client, _)) = listener.accept().await else { return };
        if is_closed.load(Ordering::Relaxed) {
            continue;
        }
        accepted.fetch_add(1, Ordering::Relaxed);
        let gates = gates.subscribe();
        tokio::spawn(async move {
            let Ok(upstream) = TcpStream::connect(server).await else { return };
            let _ = client.set_nodelay(true);
            let _ = upstream.set_nodelay(true);
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = upstream.into_split();
            let up = pump(from_client, to_server, Way::ToServer, gates.clone());
            let down = pump(from_server, to_client, Way::ToClient, gates);
            tokio::join!(up, down);
        });
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, way: Way, mut gates: watch::Receiver<Gates>) {
    let generation = gates.borrow().generation;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = tokio::select! {
            biased;
            () = outdated(&mut gates, generation) => return reset(&from, to),
            read = from.read(&mut buffer) => match read {
                Ok(0) | Err(_) => return,
                Ok(count) => count,
            },
        };
        let passed =
            gates.wait_for(|g| !g.is_held[way as usize] || g.generation != generation).await.map(|g| *g);
        let Ok(now) = passed else { return };
        if now.generation != generation {
            return reset(&from, to);
        }
        if now.is_closed[way as usize] {
            let _ = to.shutdown().await;
            continue;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

/// Ends both sockets as a crash or a pulled cable with a router behind it would: no goodbye, unsent bytes are gone.
fn reset(from: &OwnedReadHalf, to: OwnedWriteHalf) {
    let _ = from.as_ref().set_zero_linger();
    let _ = to.as_ref().set_zero_linger();
    to.forget();
}

/// Completes when the connection's generation is over.
async fn outdated(gates: &mut watch::Receiver<Gates>, generation: u64) {
    if gates.wait_for(|g| g.generation != generation).await.is_err() {
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// A server that says everything back.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.into_split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        addr
    }

    async fn exchange(stream: &mut TcpStream, text: &[u8]) -> std::io::Result<Vec<u8>> {
        stream.write_all(text).await?;
        let mut answer = vec![0; text.len()];
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn held_bytes_come_later_and_cut_connections_are_reset() {
        let proxy = Proxy::before(echo().await).await;
        let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
        assert_eq!(exchange(&mut stream, b"one").await.unwrap(), b"one");
        proxy.hold(Way::ToClient);
        let held = tokio::time::timeout(Duration::from_millis(100), exchange(&mut stream, b"two")).await;
        assert!(held.is_err(), "held bytes came");
        proxy.release(Way::ToClient);
        let mut late = [0; 3];
        stream.read_exact(&mut late).await.unwrap();
        assert_eq!(&late, b"two");
        proxy.cut();
        let broken =
            tokio::time::timeout(Duration::from_secs(5), exchange(&mut stream, b"six")).await.unwrap();
        assert!(broken.is_err(), "the connection outlived the cut");
        let mut again = TcpStream::connect(proxy.addr()).await.unwrap();
        assert_eq!(exchange(&mut again, b"ten").await.unwrap(), b"ten");
        assert_eq!(proxy.accepted(), 2);
        proxy.close();
        let mut turned_away = TcpStream::connect(proxy.addr()).await.unwrap();
        assert!(exchange(&mut turned_away, b"no").await.is_err());
    }
}
