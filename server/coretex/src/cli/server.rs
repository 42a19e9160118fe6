//! `coretex dev` and `coretex server`: the processes that serve.

use super::shown::{is_terminal, note, out};
use crate::outcome::{Failure, Outcome, REFUSED};
use crate::settings::{self, LogFormat, Place, Profile, Refusal, Refusals, Settings, Sources};
use crate::wiring::{self, Listeners, Server, StartError};
use crate::{logging, settings::raise_files};
use coretex_ports::StoreError;
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Settings that both kinds of server take from the command line.
#[derive(Debug, clap::Args)]
pub(super) struct CommonArgs {
    /// Address to listen on [env: CORETEX_LISTEN] [default: 127.0.0.1:7070]
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Where jobs are kept: file:PATH or memory: [env: CORETEX_STORE]
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// How log lines look [env: CORETEX_LOG_FORMAT]
    #[arg(long, value_enum, value_name = "FORMAT")]
    log: Option<LogFormat>,
    /// YAML file with settings
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Any other setting, for example engine.loops=2; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = super::input::pair)]
    set: Vec<(String, String)>,
    /// Show how to mend what keeps the server from starting
    #[arg(long)]
    explain: bool,
}

/// Settings of `coretex dev`.
#[derive(Debug, clap::Args)]
pub(super) struct DevArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Keep nothing: jobs are gone with the process
    #[arg(long, conflicts_with = "store")]
    memory: bool,
}

/// Settings of `coretex server`.
#[derive(Debug, clap::Args)]
pub(super) struct ServerArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// Check the settings and stop
    #[arg(long)]
    check: bool,
}

/// Commands about the policy kernel as a process of its own.
#[derive(Debug, clap::Subcommand)]
pub(super) enum SafetyCommand {
    /// Start a policy kernel: it judges the jobs of servers that name it as `policy.kernel`, and nothing else
    Serve(Box<SafetyArgs>),
}

/// Settings of `coretex safety serve`.
#[derive(Debug, clap::Args)]
pub(super) struct SafetyArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// For the person at this machine: on loopback, without a login
    #[arg(long)]
    dev: bool,
}

// === impl CommonArgs ===

impl CommonArgs {
    fn sources(self) -> Sources {
        let named = |key: &str, value: Option<String>| value.map(|value| (key.to_owned(), value));
        let format = self.log.map(|format| match format {
            LogFormat::Json => "json".to_owned(),
            LogFormat::Text => "text".to_owned(),
        });
        let mut flags = self.set;
        flags.extend(named("listen.address", self.listen));
        flags.extend(named("store.url", self.store));
        flags.extend(named("log.format", format));
        Sources { config: self.config, flags, ..Sources::of_process() }
    }
}

/// Starts a server for the person at this machine.
pub(super) fn dev(args: DevArgs) -> Outcome {
    let mut sources = args.common.sources();
    sources.defaults = vec![
        ("store.url", "file:./.coretex".into()),
        ("log.format", "text".into()),
        ("log.level", "warn".into()),
    ];
    if args.memory {
        sources.flags.push(("store.url".into(), "memory:".into()));
    }
    serve(&settings::load(Profile::Dev, &sources)?)
}

/// Starts a server for others.
pub(super) fn server(args: ServerArgs) -> Outcome {
    let is_check = args.check;
    let settings = settings::load(Profile::Production, &args.common.sources())?;
    if is_check {
        note("the settings are good");
        return Ok(());
    }
    serve(&settings)
}

/// Starts a policy kernel. Policies that are applied to it are kept in its store.
pub(super) fn safety(command: SafetyCommand) -> Outcome {
    let SafetyCommand::Serve(args) = command;
    let profile = if args.dev { Profile::Dev } else { Profile::Production };
    let mut sources = args.common.sources();
    sources.defaults =
        vec![("listen.address", "127.0.0.1:7171".into()), ("store.url", "file:./data-safety".into())];
    let mut settings = settings::load(profile, &sources)?;
    if settings.policy.kernel.is_some() {
        return Err(Failure::Usage(
            "a policy kernel judges by itself; policy.kernel is for the servers it judges for".into(),
        ));
    }
    settings.only_safety = true;
    serve(&settings)
}

fn serve(settings: &Settings) -> Outcome {
    logging::start(&settings.log);
    raise_files();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("coretex")
        .build()
        .map_err(|error| Failure::machine("cannot start", error))?;
    let outcome = runtime.block_on(run(settings));
    runtime.shutdown_background();
    outcome
}

async fn run(settings: &Settings) -> Outcome {
    let listeners = listen(settings).await?;
    let mut server = wiring::start(settings, listeners, wiring::system())
        .await
        .map_err(|error| refusal(settings, &error))?;
    let (address, store) = (server.address(), settings.store.place.to_string());
    tracing::info!(%address, %store, profile = settings.profile.name(), version = env!("CARGO_PKG_VERSION"), "serving");
    if settings.only_safety {
        out(&format!("The policy kernel judges on {address}.\n"))?;
    } else if settings.profile == Profile::Dev {
        welcome(address, settings)?;
    }
    let caught = |kind| signal(kind).map_err(|error| Failure::machine("cannot catch signals", error));
    let (mut interrupt, mut terminate) = (caught(SignalKind::interrupt())?, caught(SignalKind::terminate())?);
    tokio::select! {
        why = server.failed() => {
            tracing::error!(%why, "the server cannot go on");
            return Err(Failure::Machine(why));
        }
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    if is_terminal() {
        note("stopping; once more to stop at once");
    }
    tracing::info!("stopping");
    tokio::select! {
        was_tidy = Server::stop(server) => match was_tidy {
            true => Ok(()),
            false => {
                tracing::warn!("the stop took too long; what was acknowledged is in the store");
                Err(Failure::Said(REFUSED))
            }
        },
        _ = interrupt.recv() => Err(Failure::Said(REFUSED)),
        _ = terminate.recv() => Err(Failure::Said(REFUSED)),
    }
}

async fn listen(settings: &Settings) -> Result<Listeners, Refusals> {
    let main = bind("listen.address", settings.listen.address).await?;
    let metrics = match settings.metrics.listen {
        Some(address) => Some(bind("metrics.listen", address).await?),
        None => None,
    };
    Ok(Listeners { main, metrics })
}

async fn bind(key: &str, address: SocketAddr) -> Result<TcpListener, Refusals> {
    TcpListener::bind(address).await.map_err(|error| {
        let (message, mend) = match error.kind() {
            std::io::ErrorKind::AddrInUse => (
                format!("port {} of {} is in use by another process", address.port(), address.ip()),
                format!(
                    "stop that process, or choose another port: --listen {}:{}",
                    address.ip(),
                    address.port().wrapping_add(1)
                ),
            ),
            std::io::ErrorKind::PermissionDenied => {
                (format!("this user may not listen on {address}"), "choose a port above 1023".to_owned())
            }
            _ => {
                (format!("cannot listen on {address}: {error}"), "name an address of this machine".to_owned())
            }
        };
        Refusals::from(Refusal::new("V1", message, mend).at(key))
    })
}

/// What keeps a store from opening, as a reason not to start where the operator can mend it.
fn refusal(settings: &Settings, error: &StartError) -> Failure {
    let place = settings.store.place.to_string();
    match error {
        StartError::Store(StoreError::InUse { by }) => {
            let mend = "stop the other server, or name another directory with --store file:PATH";
            Refusals::from(Refusal::new("R12", format!("{place} is in use by {by}"), mend).at("store.url"))
                .into()
        }
        StartError::Store(error @ StoreError::Newer { .. }) => {
            let mend = "start the release that wrote it, or a later one; an older one needs a backup from before, restored into another directory";
            let message = format!("{place} cannot be opened: {error}");
            Refusals::from(Refusal::new("R13", message, mend).at("store.url")).into()
        }
        StartError::Store(error) => Failure::machine(format!("cannot open {place}"), error),
        StartError::NoPolicy => {
            let message = "only the built-in policy would judge, which allows nearly everything";
            let mend = "write a bundle and name it: --set policy.file=FILE (or policy.kernel); once applied it stays in force";
            Refusals::from(Refusal::new("R10", message, mend).at("policy.file")).into()
        }
        StartError::NoKey => {
            let message = "auth.required is set, and neither the settings nor the store have a key";
            let mend =
                "start once without it and make one: coretex admin keys create --name NAME --role admin";
            Refusals::from(Refusal::new("R2", message, mend).at("auth.required")).into()
        }
        StartError::OtherPepper(count) => {
            let message = format!(
                "{count} API keys of {place} were hashed with another pepper than the server was given"
            );
            let mend = "set auth.pepper_file to the file they were made with; if it is lost, open the store with `coretex dev` and revoke or rotate them";
            Refusals::from(Refusal::new("R17", message, mend).at("auth.pepper_file")).into()
        }
        StartError::Unresolved(places) => {
            let one = |place: &String| settings::secrets::unresolved(place.clone()).at("secrets.file");
            Refusals(places.iter().map(one).collect()).into()
        }
        StartError::Machine(message) => Failure::Machine(message.clone()),
    }
}

fn welcome(address: SocketAddr, settings: &Settings) -> Outcome {
    let kept = match &settings.store.place {
        Place::Memory => "in memory: gone when this process ends".to_owned(),
        Place::File(path) => format!("in {}", path.display()),
    };
    let scheme = if settings.tls.is_some() { "https" } else { "http" };
    let option = if address.port() == 7070 { String::new() } else { format!(" --addr {scheme}://{address}") };
    out(&format!(
        "Coretex {version} is ready. Jobs are kept {kept}.\n\n  \
         gRPC, gRPC-Web         {scheme}://{address}\n  \
         health, metrics        {scheme}://{address}/readyz  {scheme}://{address}/metrics\n\n\
         A first job, in two other terminals:\n\n  \
         coretex worker run --topic job.echo --echo{option}\n  \
         coretex job submit --topic job.echo --data '{{\"prompt\":\"hi\"}}' --wait{option}\n",
        version = env!("CARGO_PKG_VERSION"),
    ))
}
