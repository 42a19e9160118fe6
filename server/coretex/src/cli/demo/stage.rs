//! Where the demo plays: a directory, a server, workers, and a line of progress.

use super::cast::Cast;
use crate::outcome::{Failure, Outcome};
use crate::settings::{self, Profile, Sources};
use crate::wiring::{self, Listeners, Server};
use coretex_sdk::Client;
use indicatif::{ProgressBar, ProgressStyle};
use std::cell::Cell;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tokio::net::TcpListener;

/// Sessions are short here, so that a lost worker is noticed while one looks on.
const SESSION_TTL: &str = "3s";
const HEARTBEAT: &str = "500ms";

/// A server of the demo's own.
pub(super) struct Stage {
    directory: PathBuf,
    server: Option<Server>,
    client: Client,
    addr: String,
    /// The worker processes.
    pub cast: Cast,
    is_kept: bool,
}

impl Stage {
    /// Makes the directory, starts the server on a free port.
    pub(super) async fn open(is_kept: bool) -> Outcome<Stage> {
        let directory = make_directory()?;
        let store = format!("file:{}", directory.join("store").display());
        let own = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let flags = vec![
            own("store.url", &store),
            own("engine.session_ttl", SESSION_TTL),
            own("engine.heartbeat", HEARTBEAT),
            own("engine.drain_grace", "5s"),
        ];
        let settings = settings::load(Profile::Dev, &Sources { flags, ..Sources::default() })?;
        let main = TcpListener::bind("127.0.0.1:0")
            .await
            .map_err(|error| Failure::machine("cannot listen", error))?;
        let listeners = Listeners { main, metrics: None };
        let started = wiring::start(&settings, listeners, wiring::system()).await;
        let server = started.map_err(|error| Failure::machine("cannot start the server", error))?;
        let addr = format!("http://{}", server.address());
        let client = Client::connect(&addr).await?;
        let cast = Cast::new(&directory)?;
        Ok(Stage { directory, server: Some(server), client, addr, cast, is_kept })
    }

    /// Where everything is kept.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Address of the server.
    pub(super) fn addr(&self) -> &str {
        &self.addr
    }

    /// A client of the server.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Sends the workers home, stops the server, removes the directory if all went well.
    pub(super) async fn close(&mut self, is_good: bool) {
        self.cast.leave().await;
        if let Some(server) = self.server.take() {
            server.stop().await;
        }
        if is_good && !self.is_kept {
            // What cannot be removed is in the system's directory for such things.
            let _ = std::fs::remove_dir_all(&self.directory);
        }
    }
}

fn make_directory() -> Outcome<PathBuf> {
    use std::os::unix::fs::DirBuilderExt as _;
    let stamp = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
    let path = std::env::temp_dir().join(format!("coretex-demo-{}-{stamp}", std::process::id()));
    let made = std::fs::DirBuilder::new().mode(0o700).create(&path);
    made.map_err(|error| Failure::machine(format!("cannot make {}", path.display()), error))?;
    Ok(path)
}

/// Progress: a bar on a terminal, lines elsewhere.
pub(super) struct Show {
    bar: Option<ProgressBar>,
    last_tenth: Cell<u64>,
}

impl Show {
    /// A bar that waits for its length.
    pub(super) fn new() -> Show {
        let style =
            ProgressStyle::with_template("{spinner} {bar:32} {pos}/{len} files  {per_sec}  {elapsed}");
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            if let Ok(style) = style {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Show { bar, last_tenth: Cell::new(0) }
    }

    /// Says what happens, above the bar.
    pub(super) fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(format!("• {text}")),
            None => super::note(format!("• {text}")),
        }
    }

    /// Shows how far the files are.
    pub(super) fn files(&self, done: u64, all: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(all);
            bar.set_position(done);
        } else if all > 0 && done * 5 / all > self.last_tenth.get() {
            self.last_tenth.set(done * 5 / all);
            super::note(format!("  {done} of {all} files"));
        }
    }

    /// Takes the bar away.
    pub(super) fn done(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
