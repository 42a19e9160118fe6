//! Many worker sessions over few connections.

use super::super::client::ClientArgs;
use super::frames::{self, Session, frame};
use super::meter::Meter;
use crate::outcome::{Failure, Outcome};
use coretex_contract::v1::{connect_request::Frame as Up, connect_response::Frame as Down};
use coretex_sdk::Client;
use futures::StreamExt as _;
use std::time::{Duration, Instant};

/// How many, and for how long.
#[derive(Clone, Debug, clap::Args)]
pub struct SessionsArgs {
    /// Sessions to open
    #[arg(long, default_value_t = 10_000)]
    streams: usize,
    /// Connections they are spread over
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// How long to keep them
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Topic they serve
    #[arg(long, default_value = "idle")]
    topic: String,
}

/// Sessions opened at a time.
const OPENING_MAX: usize = 256;
/// A session that cannot be renewed for so long is lost.
const TTL: Duration = Duration::from_secs(60);

/// Opens and keeps sessions.
pub(super) async fn run(args: SessionsArgs, options: &ClientArgs) -> Outcome {
    let mut clients = Vec::new();
    for _ in 0..args.connections {
        clients.push(options.connect().await?);
    }
    let start = Instant::now();
    let stamp = std::process::id();
    let opening = (0..args.streams).map(|index| {
        let client: Client = clients[index % clients.len()].clone();
        let topic = args.topic.clone();
        async move {
            frames::open(&client, format!("bench-{stamp}-{index}"), std::slice::from_ref(&topic), 1, TTL)
                .await
        }
    });
    let mut opened = futures::stream::iter(opening).buffer_unordered(OPENING_MAX);
    let (mut meter, mut sessions) = (Meter::new(), Vec::with_capacity(args.streams));
    while let Some(session) = opened.next().await {
        let session = session?;
        meter.record(session.took);
        sessions.push(session);
    }
    let what = format!("sessions open streams={} connections={}", args.streams, args.connections);
    meter.report(&what, meter.count(), start.elapsed())?;
    let (kept, until) = (Instant::now(), Instant::now() + Duration::from_secs_f64(args.seconds));
    let keepers: Vec<_> = sessions
        .into_iter()
        .enumerate()
        .map(|(index, session)| tokio::spawn(keep(session, index, until)))
        .collect();
    let (mut beats, mut lost) = (Meter::new(), 0);
    for keeper in keepers {
        match keeper.await.map_err(|error| Failure::machine("a session ended", error))? {
            Ok(meter) => beats.add(&meter),
            Err(_) => lost += 1,
        }
    }
    beats.report("sessions heartbeat", beats.count(), kept.elapsed())?;
    match lost {
        0 => Ok(()),
        lost => Err(Failure::Machine(format!("{lost} of {} sessions were lost", args.streams))),
    }
}

/// Sends heartbeats and measures their acknowledgement, until the time is over.
async fn keep(session: Session, index: usize, until: Instant) -> Outcome<Meter> {
    let Session { welcome, mut frames, up, .. } = session;
    let every = frames::span(welcome.heartbeat_interval).max(Duration::from_millis(100));
    // Spread out, so that beats do not march in step.
    let phase = every.mul_f64((index % 1_000) as f64 / 1_000.0);
    let mut next = Instant::now() + phase;
    let (mut number, mut sent, mut meter) = (0, Instant::now(), Meter::new());
    let closed = || Failure::Machine("the stream was closed".into());
    loop {
        tokio::select! {
            () = tokio::time::sleep_until(until.into()) => return Ok(meter),
            () = tokio::time::sleep_until(next.into()) => {
                (number, sent, next) = (number + 1, Instant::now(), next + every);
                up.send(frame(Up::Heartbeat(frames::heartbeat(number)))).await.map_err(|_| closed())?;
            }
            reply = frames.message() => match reply?.ok_or_else(closed)?.frame {
                Some(Down::HeartbeatAck(ack)) if ack.heartbeat_no == number => meter.record(sent.elapsed()),
                Some(Down::GoAway(away)) => return Err(Failure::Machine(away.message)),
                _ => {}
            },
        }
    }
}
