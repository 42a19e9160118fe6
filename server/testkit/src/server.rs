//! The real server in this process.

use crate::Error;
use crate::clock::TestClock;
use coretex::settings::{self, Profile, Settings, Sources};
use coretex::wiring::{self, Listeners, Server};
use coretex_engine::Engine;
use coretex_engine::clock::SystemDice;
use coretex_ports::Env;
use coretex_sdk::Client;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// Engine and gateway, on a free port of the loopback.
pub struct TestServer {
    server: Server,
    clock: Option<Arc<TestClock>>,
    settings: Settings,
}

/// Options of a [`TestServer`].
#[derive(Debug, Default)]
#[must_use = "a builder does nothing until it starts"]
pub struct Builder {
    directory: Option<PathBuf>,
    has_real_clock: bool,
    clock: Option<Arc<TestClock>>,
    address: Option<SocketAddr>,
    flags: Vec<(String, String)>,
}

// === impl Builder ===

impl Builder {
    /// Keeps jobs in this directory. Default: in memory.
    pub fn directory(mut self, directory: impl AsRef<Path>) -> Builder {
        self.directory = Some(directory.as_ref().to_owned());
        self
    }

    /// Time passes by itself. Default: it stands still until it is moved.
    pub fn real_clock(mut self) -> Builder {
        self.has_real_clock = true;
        self
    }

    /// A clock shared with others, for example with the server that was here before.
    pub fn clock(mut self, clock: Arc<TestClock>) -> Builder {
        self.clock = Some(clock);
        self
    }

    /// Listens here, for example where another server was before.
    pub fn address(mut self, address: SocketAddr) -> Builder {
        self.address = Some(address);
        self
    }

    /// Any setting, by its key in the settings file, for example `engine.session_ttl`.
    pub fn set(mut self, key: impl Into<String>, value: impl Into<String>) -> Builder {
        self.flags.push((key.into(), value.into()));
        self
    }

    /// Starts it.
    pub async fn start(self) -> Result<TestServer, Error> {
        let store = match &self.directory {
            Some(directory) => format!("file:{}", directory.display()),
            None => "memory:".to_owned(),
        };
        let mut flags =
            vec![("store.url".to_owned(), store), ("engine.drain_grace".to_owned(), "2s".to_owned())];
        flags.extend(self.flags);
        let sources = Sources { flags, ..Sources::default() };
        let mut settings = settings::load(Profile::Dev, &sources).map_err(|refusals| refusals.lines(true))?;
        // This process is a test; filters of steps run in the real binary, where there is one.
        if let Ok(binary) = crate::process::binary() {
            settings.steps.jq.program = binary;
        }
        let clock = match self.has_real_clock {
            true => None,
            false => Some(self.clock.unwrap_or_else(|| Arc::new(TestClock::new()))),
        };
        let env = match &clock {
            Some(clock) => Env { clock: clock.clone(), dice: Arc::new(SystemDice::new()) },
            None => wiring::system(),
        };
        let main = TcpListener::bind(self.address.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0)))).await?;
        let server = wiring::start(&settings, Listeners { main, metrics: None }, env).await?;
        Ok(TestServer { server, clock, settings })
    }
}

// === impl TestServer ===

impl TestServer {
    /// Starts one with a memory store and a clock that stands still.
    pub async fn start() -> Result<TestServer, Error> {
        TestServer::builder().start().await
    }

    /// Options for one.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Where it listens, as clients write it.
    pub fn addr(&self) -> String {
        format!("http://{}", self.server.address())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// A client of it.
    pub async fn client(&self) -> coretex_sdk::Result<Client> {
        Client::connect(self.addr()).await
    }

    /// The engine behind it.
    pub fn engine(&self) -> &Engine {
        self.server.engine()
    }

    /// Its clock, unless that is the real one.
    pub fn clock(&self) -> Option<&Arc<TestClock>> {
        self.clock.as_ref()
    }

    /// Its settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Moves its time forward; with the real clock, waits that long.
    pub async fn advance(&self, span: Duration) {
        match &self.clock {
            Some(clock) => clock.advance(span).await,
            None => tokio::time::sleep(span).await,
        }
    }

    /// No new jobs and sessions; workers are told to leave.
    pub async fn drain(&self) {
        self.engine().drain().await;
    }

    /// Stops it in good order. Moves its clock as far as that takes. False when it took too long.
    pub async fn stop(self) -> bool {
        let TestServer { server, clock, settings } = self;
        let mut stopping = std::pin::pin!(server.stop());
        let Some(clock) = clock else { return stopping.await };
        let nudge = settings.engine.drain_grace.max(Duration::from_millis(100));
        loop {
            tokio::select! {
                was_tidy = &mut stopping => return was_tidy,
                () = tokio::time::sleep(Duration::from_millis(100)) => clock.advance(nudge).await,
            }
        }
    }

    /// Ends it without a word: nothing is finished, nothing is closed. For a crash as the disk sees it use [`ServerProcess`](crate::ServerProcess).
    pub fn kill(self) {
        self.server.abandon();
    }
}
