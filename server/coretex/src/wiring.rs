//! A server put together, in the order its parts depend on each other; taken apart the other way round.

use crate::house::StepHouse;
use crate::settings::{Ack, Place, Profile, Secret, Settings};
use crate::{key_files, policy_file, secrets_file};
use coretex_domain::Span;
use coretex_engine::Engine;
use coretex_engine::clock::{SystemClock, SystemDice};
use coretex_gateway::{Access, ApiKeys, GatewaySettings, Identity, TlsFiles};
use coretex_ports::memory::MemoryStore;
use coretex_ports::{Env, Store, StoreError};
use coretex_store_embedded::{Durability, FileStore};
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How long a stop may take beyond the drain grace, before the process gives up on being tidy.
const STOP_MARGIN: Duration = Duration::from_secs(15);
/// How often the files of certificates are looked at.
const CERTIFICATES_EVERY: Duration = Duration::from_secs(5);
/// A running server.
pub struct Server {
    engine: Engine,
    address: SocketAddr,
    shutdown: oneshot::Sender<()>,
    gateway: JoinHandle<std::io::Result<()>>,
    /// Go with the process; nobody waits for them.
    followers: Vec<JoinHandle<()>>,
    stop_max: Duration,
}

/// The listeners of a server. The first is the one of the contract.
pub struct Listeners {
    /// gRPC, gRPC-Web, health.
    pub main: TcpListener,
    /// Metrics on their own.
    pub metrics: Option<TcpListener>,
}

/// Why a server did not start.
#[derive(Debug)]
pub enum StartError {
    /// The store cannot be opened.
    Store(StoreError),
    /// A file or a listener cannot be used.
    Machine(String),
    /// A production server has no policy of its own.
    NoPolicy,
    /// Callers are to be asked who they are, and nobody could answer.
    NoKey,
    /// So many API keys of the store were hashed with something else than the server was given.
    OtherPepper(usize),
    /// The configuration refers to secrets that no provider has; where, and which.
    Unresolved(Vec<String>),
}

/// The world as it is: the system's clock and chance.
pub fn system() -> Env {
    Env { clock: Arc::new(SystemClock::new()), dice: Arc::new(SystemDice::new()) }
}

/// Opens the store, starts the engine, opens the mouth. Returns once requests are answered.
pub async fn start(settings: &Settings, listeners: Listeners, env: Env) -> Result<Server, StartError> {
    let address = listeners.main.local_addr().map_err(|error| StartError::Machine(error.to_string()))?;
    let store = open_store(settings).await?;
    let token_key = key_files::token_key(settings, &env)?;
    let pepper = key_files::pepper(settings)?;
    let engine = Engine::start(store, env, engine_settings(settings)).await?;
    secrets_file::warn_of_short(&settings.secrets);
    if let Err(error) = check_references(settings, &engine) {
        engine.stop().await;
        return Err(error);
    }
    let secrets = settings.secrets.file.clone();
    let secrets = secrets.map(|path| tokio::spawn(secrets_file::follow(settings.secrets.clone(), path)));
    let mut policy = None;
    if let Some(file) = &settings.policy.file {
        // Before anybody is served.
        let taken = policy_file::apply(&engine, file).await;
        taken.map_err(|refusal| StartError::Machine(format!("{}: {refusal}", file.path.display())))?;
        policy = Some(tokio::spawn(policy_file::follow(engine.clone(), file.clone())));
    }
    let unfit = match settings.profile == Profile::Production && !engine.has_own_policy() {
        true => Some(StartError::NoPolicy),
        false => key_files::check_keys(settings, &engine, pepper.as_deref()).err(),
    };
    if let Some(error) = unfit {
        engine.stop().await;
        return Err(error);
    }
    let gateway_settings =
        GatewaySettings { key_pepper: pepper, ..gateway_settings(settings, address, token_key) };
    let metrics = listeners.metrics.map(|listener| {
        // Goes with the process: a scrape that is cut off is repeated.
        let counts = gateway_settings.counts.clone();
        let serving =
            coretex_gateway::serve_metrics(listener, engine.clone(), counts, std::future::pending());
        tokio::spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the listener of the metrics failed");
            }
        })
    });
    let (shutdown, asked) = oneshot::channel::<()>();
    let gateway =
        tokio::spawn(coretex_gateway::serve(listeners.main, engine.clone(), gateway_settings, async move {
            // A server that was dropped is told to stop as well.
            let _ = asked.await;
        }));
    let stop_max = settings.engine.drain_grace + STOP_MARGIN;
    let followers = [metrics, policy, secrets].into_iter().flatten().collect();
    Ok(Server { engine, address, shutdown, gateway, followers, stop_max })
}

/// A server for others does not start while its own configuration refers to secrets that are not there. What tenants refer to
/// is theirs: they must not keep it from starting.
fn check_references(settings: &Settings, engine: &Engine) -> Result<(), StartError> {
    let found = engine.unresolved_secrets().map_err(|refusal| StartError::Machine(refusal.to_string()))?;
    let (own, others): (Vec<_>, Vec<_>) = found.into_iter().partition(|one| one.is_of_system);
    for one in &others {
        let (namespace, scope, name) = (&one.namespace, &one.scope, &one.name);
        tracing::warn!(%namespace, %scope, %name, "configuration refers to a secret that no provider has");
    }
    let line = |one: &coretex_engine::Unresolved| {
        format!("the configuration of {} refers to secret://{}, which no provider has", one.scope, one.name)
    };
    match own.is_empty() || settings.profile == Profile::Dev {
        true => Ok(()),
        false => Err(StartError::Unresolved(own.iter().map(line).collect())),
    }
}

async fn open_store(settings: &Settings) -> Result<Arc<dyn Store>, StartError> {
    let Place::File(directory) = &settings.store.place else {
        return Ok(Arc::new(MemoryStore::default()));
    };
    let mut wanted = coretex_store_embedded::Settings::new(directory);
    wanted.durability = match settings.store.ack {
        Ack::Durable => Durability::Durable,
        Ack::Relaxed => Durability::Relaxed,
    };
    wanted.bytes_max = settings.store.max_bytes;
    let opened = tokio::task::spawn_blocking(move || FileStore::open(wanted)).await;
    let store =
        opened.map_err(|error| StartError::Machine(format!("opening the store ended with {error}")))??;
    Ok(Arc::new(store))
}

fn engine_settings(settings: &Settings) -> coretex_engine::api::Settings {
    let engine = &settings.engine;
    coretex_engine::api::Settings {
        node_id: engine.node_id.clone(),
        loops: engine.loops,
        mailbox_max: engine.mailbox_max,
        session_ttl: span(engine.session_ttl),
        heartbeat: span(engine.heartbeat),
        drain_grace: span(engine.drain_grace),
        open_jobs_max: engine.open_jobs_max,
        // Checked when the settings were read.
        remote_kernel: settings
            .policy
            .kernel
            .as_ref()
            .and_then(|kernel| kernel.client().ok())
            .map(|client| Arc::new(client) as Arc<dyn coretex_engine::RemoteKernel>),
        audit_retention: span(settings.audit.retention),
        secrets: settings.secrets.vault.clone(),
        house: Some(Arc::new(StepHouse::new(&settings.steps, settings.limits.payload_max))),
        ..coretex_engine::api::Settings::default()
    }
}

fn span(span: Duration) -> Span {
    Span(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}

fn gateway_settings(settings: &Settings, address: SocketAddr, token_key: [u8; 32]) -> GatewaySettings {
    let is_dev = settings.profile == Profile::Dev;
    let tls = settings.tls.as_ref().map(|tls| coretex_gateway::Tls {
        cert_pem: tls.cert_pem.clone(),
        key_pem: tls.key_pem.clone(),
        client_ca_pem: tls.client_ca_pem.clone(),
        files: Some(TlsFiles {
            cert: tls.cert.clone(),
            key: tls.key.clone(),
            client_ca: tls.client_ca.clone(),
            every: CERTIFICATES_EVERY,
        }),
    });
    GatewaySettings {
        token_key,
        version: env!("CARGO_PKG_VERSION").into(),
        profile: settings.profile.name().into(),
        listen: address.to_string(),
        cluster_id: installation(&token_key),
        payload_max: settings.limits.payload_max,
        message_max: settings.limits.message_max,
        store_max_bytes: settings.store.max_bytes.unwrap_or_default(),
        tls,
        access: access(settings, &token_key),
        allowed_hosts: Some(settings.listen.hosts()),
        reflection: is_dev,
        only_safety: settings.only_safety,
        metrics: is_dev,
        connections_max: settings.limits.connections_max,
        connections_per_address_max: settings.limits.connections_per_address_max,
        connection_idle_max: settings.limits.connection_idle_max,
        connection_age_max: settings.limits.connection_age_max,
        streams_max: settings.limits.streams_max,
        namespaces_declared: settings.namespaces.must_be_declared,
        watches_max: settings.limits.watches_max,
        backup_root: settings.store.backup_root.clone(),
        shutdown_grace: settings.engine.drain_grace,
        ..GatewaySettings::default()
    }
}

/// Who may call. Where nobody is named everybody may: the settings allow that on loopback only.
fn access(settings: &Settings, token_key: &[u8; 32]) -> Access {
    let (auth, limits) = (&settings.auth, &settings.limits);
    let pepper = auth.pepper.as_deref().unwrap_or(token_key);
    let keys = auth.keys.iter().fold(ApiKeys::new(pepper), |keys, key| {
        let identity = Identity {
            name: key.name.clone(),
            namespaces: key.namespaces.clone(),
            roles: key.roles,
            expires: key.expires,
        };
        match &key.secret {
            Secret::Plain(secret) => keys.with(secret, identity),
            Secret::Hash(hash) => keys.with_hash(hash, identity),
        }
    });
    let mut access = match auth.is_open() {
        true => Access::open(),
        false => {
            Access::closed().keys(keys).issuers(auth.issuers.clone()).certificates(auth.certificates.clone())
        }
    };
    access.calls_per_second = limits.calls_per_second;
    access.failed_logins_max = limits.failed_logins_per_minute;
    access
}

/// The name of an installation: as lasting as its token key, and telling nothing about it.
fn installation(token_key: &[u8; 32]) -> String {
    use sha2::Digest as _;
    let digest = sha2::Sha256::new().chain_update(b"coretex installation").chain_update(token_key).finalize();
    digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

// === impl Server ===

impl Server {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The engine behind it.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Completes when the server cannot go on, with the reason.
    pub async fn failed(&mut self) -> String {
        tokio::select! {
            () = self.engine.failed() => "the store failed for good; the log says how".to_owned(),
            ended = &mut self.gateway => match ended {
                Ok(Ok(())) => "the listener was closed".to_owned(),
                Ok(Err(error)) => format!("the listener failed: {error}"),
                Err(error) => format!("the listener ended with {error}"),
            },
        }
    }

    /// Lets workers and callers go, finishes what runs within the grace, closes the store. False when that took too long.
    pub async fn stop(self) -> bool {
        let Server { engine, shutdown, gateway, followers, stop_max, .. } = self;
        let tidy = async {
            // The order of starting, backwards. The mouth tells workers to leave, and waits for them within its grace.
            // It may have ended by itself.
            let _ = shutdown.send(());
            let _ = gateway.await;
            engine.stop().await;
        };
        let was_tidy = tokio::time::timeout(stop_max, tidy).await.is_ok();
        followers.iter().for_each(JoinHandle::abort);
        was_tidy
    }

    /// Ends it as a power cut would: nothing is finished, nothing is said. What was acknowledged is in the store.
    pub fn abandon(self) {
        self.gateway.abort();
        self.followers.iter().for_each(JoinHandle::abort);
    }
}

// === offline ===

/// What a check of a store found.
#[derive(Debug)]
pub struct Checked {
    /// How much was looked at, by kind.
    pub counts: Vec<(&'static str, u64)>,
    /// What is damaged.
    pub problems: Vec<String>,
}

/// Checks every record of a store that no server has open.
pub async fn check_store(directory: &Path) -> Result<Checked, StoreError> {
    let directory = directory.to_owned();
    let checked = tokio::task::spawn_blocking(move || coretex_store_embedded::fsck(&directory)).await;
    let report = checked.map_err(|error| StoreError::Unavailable(error.to_string()))??;
    let counts = vec![
        ("jobs", report.jobs),
        ("open jobs", report.open),
        ("history entries", report.events),
        ("idempotency keys", report.keys),
        ("dead letters", report.dead_letters),
        ("log segments", report.segments),
        ("log frames", report.frames),
        ("jobs compared", report.compared),
        ("findings", report.findings_total),
    ];
    Ok(Checked { counts, problems: report.findings })
}

/// Checks the chain of audit records of a store that no server has open.
pub async fn verify_audit(directory: &Path) -> Result<coretex_engine::audit::Verified, StartError> {
    if !directory.join("index.db").exists() {
        return Err(StartError::Machine("there is no store".into()));
    }
    let settings = coretex_store_embedded::Settings::new(directory);
    let opened = tokio::task::spawn_blocking(move || FileStore::open(settings)).await;
    let store = opened.map_err(|error| StartError::Machine(error.to_string()))??;
    let verified = coretex_engine::audit::verify_store(&store).await;
    store.close().await?;
    verified.map_err(|refusal| StartError::Machine(refusal.to_string()))
}

/// Makes a store from a backup. Says how many bytes and jobs it has.
pub async fn restore_store(backup: &Path, directory: &Path) -> Result<(u64, u64), StoreError> {
    let (backup, directory) = (backup.to_owned(), directory.to_owned());
    let restored =
        tokio::task::spawn_blocking(move || coretex_store_embedded::restore(&backup, &directory)).await;
    let report = restored.map_err(|error| StoreError::Unavailable(error.to_string()))??;
    Ok((report.bytes, report.jobs))
}

// === impl StartError ===

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> StartError {
        StartError::Store(error)
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Store(error) => write!(f, "{error}"),
            StartError::Machine(message) => f.write_str(message),
            StartError::NoPolicy => f.write_str("no policy of one's own is in force"),
            StartError::NoKey => f.write_str("nobody could say who they are"),
            StartError::OtherPepper(count) => write!(f, "{count} API keys were hashed with another pepper"),
            StartError::Unresolved(where_to) => f.write_str(&where_to.join("; ")),
        }
    }
}

impl std::error::Error for StartError {}
