//! Process settings of a server: one file per section, each with `build` and `validate`.
//!
//! In: defaults, a file, the environment, flags; the later wins. Out: [`Settings`], or every reason not to start at once.

mod audit;
pub(crate) mod auth;
pub mod catalog;
mod clock;
mod engine;
mod file;
mod file_system;
pub mod layers;
mod limits;
mod listen;
mod log;
mod metrics;
mod namespaces;
mod policy;
mod refusal;
pub(crate) mod secrets;
mod steps;
mod store;
mod tls;

pub use audit::Audit;
pub use auth::{Auth, Key, Secret};
pub use engine::Engine;
pub use layers::{Layers, Sources};
pub use limits::{Limits, raise_files};
pub use listen::Listen;
pub use log::{Log, LogFormat};
pub use metrics::Metrics;
pub use namespaces::Namespaces;
pub use policy::Policy;
pub use refusal::{Origin, Refusal, Refusals};
pub use secrets::Secrets;
pub use steps::Steps;
pub use store::{Ack, Place, Store};
pub use tls::Tls;

/// How strict a server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// On loopback, for the person at this machine.
    Dev,
    /// For others: refuses to start insecurely.
    Production,
}

/// Everything a server is told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    pub profile: Profile,
    pub listen: Listen,
    pub store: Store,
    pub engine: Engine,
    pub auth: Auth,
    pub audit: Audit,
    pub tls: Option<Tls>,
    pub limits: Limits,
    pub log: Log,
    pub metrics: Metrics,
    pub namespaces: Namespaces,
    pub policy: Policy,
    pub secrets: Secrets,
    pub steps: Steps,
    /// Serve the policy kernel and nothing else.
    pub only_safety: bool,
}

impl Profile {
    /// Its name in `GetServerInfo`.
    pub fn name(self) -> &'static str {
        match self {
            Profile::Dev => "dev",
            Profile::Production => "production",
        }
    }
}

/// Reads, builds and validates.
pub fn load(profile: Profile, sources: &Sources) -> Result<Settings, Refusals> {
    let mut layers = Layers::read(sources);
    let secrets = Secrets::build(&mut layers);
    let listen = Listen::build(&mut layers);
    let store = Store::build(&mut layers);
    let engine = Engine::build(&mut layers);
    let auth = Auth::build(profile, &mut layers);
    let audit = Audit::build(&mut layers);
    let tls = Tls::build(&mut layers);
    let limits = Limits::build(&mut layers);
    let log = Log::build(&mut layers);
    let metrics = Metrics::build(&mut layers);
    let namespaces = Namespaces::build(profile, &mut layers);
    let policy = Policy::build(&mut layers);
    let steps = Steps::build(profile, &mut layers);
    if let Some(listen) = &listen {
        listen.validate(profile, tls.is_some() || layers.value("tls.cert").is_some(), &mut layers);
        if let Some(metrics) = &metrics {
            metrics.validate(listen, &mut layers);
        }
    }
    if let Some(store) = &store {
        store.validate(profile, &mut layers);
    }
    auth.validate(profile, &mut layers);
    clock::validate(profile, &mut layers);
    if let Some(limits) = &limits {
        limits.validate(profile, &mut layers);
    }
    if let Some(policy) = &policy {
        policy.validate(profile, &mut layers);
        secrets.validate(profile, policy, &mut layers);
    }
    layers.finish()?;
    let (Some(listen), Some(store), Some(engine), Some(audit)) = (listen, store, engine, audit) else {
        unreachable!("a section that is not built has left its reason in the layers");
    };
    let (Some(limits), Some(log), Some(metrics), Some(namespaces), Some(policy), Some(steps)) =
        (limits, log, metrics, namespaces, policy, steps)
    else {
        unreachable!("a section that is not built has left its reason in the layers");
    };
    Ok(Settings {
        profile,
        listen,
        store,
        engine,
        auth,
        audit,
        tls,
        limits,
        log,
        metrics,
        namespaces,
        policy,
        secrets,
        steps,
        only_safety: false,
    })
}

#[cfg(test)]
mod tests;
