//! A worker that does nothing: it answers every assignment with a result at once.

use super::super::client::ClientArgs;
use super::super::shown::note;
use super::frames::{self, LANE, Session, frame};
use super::stream::topic_of;
use crate::outcome::{Failure, Outcome};
use bytes::Bytes;
use coretex_contract::v1::{self, connect_request::Frame as Up, connect_response::Frame as Down};
use std::time::{Duration, Instant};

/// What to serve.
#[derive(Clone, Debug, clap::Args)]
pub struct WorkerArgs {
    /// Topic to serve
    #[arg(long, default_value = "noop")]
    topic: String,
    /// Serve this many topics, named TOPIC.0, TOPIC.1 …; 0: the topic itself
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_000), conflicts_with = "sdk")]
    topics: u32,
    /// Jobs held at a time
    #[arg(long, default_value_t = 4_096, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    slots: u32,
    /// Stop after this long; without it, when told to
    #[arg(long)]
    seconds: Option<f64>,
    /// Serve by the SDK rather than by bare frames
    #[arg(long)]
    sdk: bool,
}

/// Most updates of one report.
const REPORT_MAX: usize = 512;
const RESULT: &[u8] = br#"{"ok":true}"#;
const TTL: Duration = Duration::from_secs(30);

/// Serves until told to stop.
pub(super) async fn run(args: WorkerArgs, options: &ClientArgs) -> Outcome {
    let until = args.seconds.map(|seconds| Instant::now() + Duration::from_secs_f64(seconds));
    let over = async {
        match until {
            Some(until) => tokio::time::sleep_until(until.into()).await,
            None => std::future::pending().await,
        }
    };
    if args.sdk {
        let nothing = |_: coretex_sdk::Ctx, _: coretex_sdk::Payload| async {
            Ok::<_, coretex_sdk::HandlerError>(coretex_sdk::Payload::new(coretex_sdk::JSON, RESULT))
        };
        let worker = coretex_sdk::Worker::builder(options.builder()?)
            .slots(args.slots)
            .bind_fn(args.topic, nothing)
            .build()?;
        let report = worker.run_until(over).await?;
        note(format!("{} jobs", report.finished));
        return Ok(());
    }
    let client = options.connect().await?;
    let worker_id = format!("bench-worker-{}", std::process::id());
    let topics: Vec<String> = match args.topics {
        0 => vec![args.topic],
        topics => (0..u64::from(topics)).map(|n| topic_of(&args.topic, n)).collect(),
    };
    let session = frames::open(&client, worker_id, &topics, args.slots, TTL).await?;
    tokio::select! {
        ended = serve(session, u64::from(args.slots)) => ended,
        () = over => Ok(()),
    }
}

async fn serve(session: Session, slots: u64) -> Outcome {
    let Session { welcome, mut frames, up, .. } = session;
    let closed = || Failure::Machine("the server closed the stream".into());
    let (mut granted, mut seq, mut beats, mut last_assign) = (slots, 0, 0, 0);
    let credit = |granted: u64| {
        let grants = vec![v1::CreditGrant { lane_id: LANE.into(), granted_total: granted, slots_free: 0 }];
        frame(Up::Credit(v1::Credit { grants }))
    };
    up.send(credit(granted)).await.map_err(|_| closed())?;
    let mut beat =
        tokio::time::interval(frames::span(welcome.heartbeat_interval).max(Duration::from_millis(100)));
    loop {
        tokio::select! {
            reply = frames.message() => match reply?.ok_or_else(closed)?.frame {
                Some(Down::Assign(assign)) => {
                    last_assign = assign.assign_no;
                    granted += assign.assignments.iter().map(|assignment| u64::from(assignment.cost)).sum::<u64>();
                    for some in assign.assignments.chunks(REPORT_MAX) {
                        seq += 1;
                        let updates = some.iter().map(done).collect();
                        let report = v1::ConnectRequest { seq, frame: Some(Up::Report(v1::Report { updates })) };
                        up.send(report).await.map_err(|_| closed())?;
                    }
                    up.send(credit(granted)).await.map_err(|_| closed())?;
                }
                Some(Down::SyncRequest(_)) => {
                    let sync = v1::Sync { leases: Vec::new(), last_assign_no: last_assign, last_report_seq: seq };
                    up.send(frame(Up::Sync(sync))).await.map_err(|_| closed())?;
                }
                Some(Down::GoAway(away)) => {
                    note(format!("the server says goodbye: {}", away.message));
                    return Ok(());
                }
                Some(Down::ProtocolError(error)) => note(format!("protocol error: {}", error.message)),
                _ => {}
            },
            _ = beat.tick() => {
                beats += 1;
                let beat = v1::Heartbeat { last_assign_no: last_assign, last_report_seq: seq, ..frames::heartbeat(beats) };
                up.send(frame(Up::Heartbeat(beat))).await.map_err(|_| closed())?;
            }
        }
    }
}

fn done(assignment: &v1::Assignment) -> v1::JobUpdate {
    v1::JobUpdate {
        lease_id: assignment.lease_id,
        lease_token: assignment.lease_token.clone(),
        kind: v1::JobUpdateKind::Succeeded.into(),
        result: Some(v1::Payload::data(coretex_sdk::JSON, Bytes::from_static(RESULT))),
        ..Default::default()
    }
}
