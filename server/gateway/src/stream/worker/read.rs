//! The reader of a worker stream: every frame goes to the engine; what breaks a rule is answered or ends the stream.

use super::begin::{Session, begin, grants, held};
use super::{Rejections, Ways, broken};
use crate::api::check_output_name;
use crate::call::Call;
use crate::gate::Gate;
use crate::wire::assign::protocol_error;
use crate::wire::spec::SpecReader;
use crate::wire::{Faults, ask as wire_ask, report, worker};
use coretex_contract::v1::{self as pb, connect_request::Frame};
use coretex_domain::{Reason, Refusal};
use coretex_engine::OutputPiece;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tonic::Streaming;

/// Within which the first frame must come.
const FIRST_FRAME_WITHIN: Duration = Duration::from_secs(10);
/// Chunks of one output frame.
const CHUNKS_MAX: usize = 1_024;

pub(super) async fn run(
    gate: Arc<Gate>,
    call: Arc<Call>,
    mut requests: Streaming<pb::ConnectRequest>,
    ways: Ways,
) {
    let Ways { opened, side, end, rejections } = ways;
    let began = match tokio::time::timeout(FIRST_FRAME_WITHIN, requests.message()).await {
        Err(_late) => Err(Refusal::new(Reason::HelloRequired, "no Hello or Resume came within 10 s")),
        Ok(Ok(None)) => Err(Refusal::new(Reason::HelloRequired, "the stream ended before Hello or Resume")),
        Ok(Err(status)) => match broken(&status) {
            Some(refusal) => Err(refusal),
            None => return,
        },
        Ok(Ok(Some(first))) => begin(&gate, &call, first.frame).await,
    };
    let session = match began {
        Ok((response, session)) => {
            // Fails when the response side is gone; then the session goes on without a stream.
            if opened.send(Ok(response)).is_err() {
                return;
            }
            session
        }
        Err(refusal) => {
            let _ = opened.send(Err(refusal));
            return;
        }
    };
    let mut reader = Reader { gate, session, side, rejections };
    if let Err(refusal) = reader.read_all(&mut requests).await {
        let _ = end.send(refusal);
    }
}

struct Reader {
    gate: Arc<Gate>,
    session: Session,
    side: mpsc::Sender<pb::ProtocolError>,
    rejections: Arc<Rejections>,
}

impl Reader {
    async fn read_all(&mut self, requests: &mut Streaming<pb::ConnectRequest>) -> Result<(), Refusal> {
        loop {
            match requests.message().await {
                Ok(Some(request)) => self.take(request).await?,
                Ok(None) => return Ok(()),
                Err(status) => return broken(&status).map_or(Ok(()), Err),
            }
        }
    }

    async fn take(&mut self, request: pb::ConnectRequest) -> Result<(), Refusal> {
        let handle = &self.session.handle;
        match request.frame {
            Some(Frame::Hello(_) | Frame::Resume(_)) => {
                return Err(Refusal::new(Reason::DuplicateHello, "this stream has a session already"));
            }
            Some(Frame::Credit(credit)) => handle.credit(grants(credit.grants)),
            Some(Frame::Heartbeat(beat)) => {
                beat.load.iter().for_each(|load| handle.load(worker::load(load)));
                handle.heartbeat(
                    beat.heartbeat_no,
                    beat.held_count,
                    beat.held_digest,
                    beat.last_assign_no,
                    beat.last_report_seq,
                );
            }
            Some(Frame::AssignAck(ack)) => self.acked(ack).await,
            Some(Frame::Report(report)) => self.report(request.seq, report).await?,
            Some(Frame::Output(output)) => self.output(output).await,
            Some(Frame::Ask(ask)) => self.ask(ask),
            Some(Frame::Drain(drain)) => self.drain(drain).await,
            Some(Frame::UpdateRegistration(update)) => self.register(update).await?,
            Some(Frame::Sync(sync)) => {
                let mut faults = Faults::default();
                let held = held(&mut faults, "sync.leases", sync.leases);
                match faults.into_result() {
                    Ok(()) => handle.sync(held).await?,
                    Err(refusal) => self.complain(&refusal, 13, 0),
                }
            }
            // An unknown frame that nobody waits for is no fault.
            None if request.seq == 0 => {}
            None => {
                let refusal = Refusal::new(Reason::FeatureNotNegotiated, "an unknown reliable frame");
                self.complain(&refusal, 0, request.seq);
            }
        }
        Ok(())
    }

    async fn drain(&self, given: pb::Drain) {
        let mut faults = Faults::default();
        let order = worker::drain(&mut faults, given.mode, given.deadline, &given.reason);
        match faults.into_result() {
            Ok(()) => self.session.handle.drain(order).await,
            Err(refusal) => self.complain(&refusal, 10, 0),
        }
    }

    async fn acked(&self, ack: pb::AssignAck) {
        if !ack.controls_acked.is_empty() {
            self.session.handle.controls_acked(&ack.controls_acked);
        }
        if ack.accepted.is_empty() && ack.rejected.is_empty() {
            return;
        }
        let refused =
            ack.rejected.iter().map(|lease| (lease.lease_id, refusal_name(lease.reason()))).collect();
        self.session.handle.acked(ack.accepted, refused).await;
    }

    async fn report(&self, seq: u64, report: pb::Report) -> Result<(), Refusal> {
        if seq == 0 {
            let refusal = Refusal::field("seq", "a report needs a number from 1");
            self.complain(&refusal, 7, 0);
            return Ok(());
        }
        let read = report::read(report.updates, seq, self.gate.settings.payload_max, false)
            .map_err(|refusal| Refusal { reason: Reason::FrameTooLarge, ..refusal })?;
        self.rejections.keep(seq, read.indexes, read.rejected);
        self.session.handle.report(seq, read.updates).await
    }

    async fn output(&self, output: pb::Output) {
        let checked = if !self.session.has("output") {
            Err(Refusal::new(Reason::FeatureNotNegotiated, "feature `output` is not in Welcome"))
        } else if output.chunks.len() > CHUNKS_MAX {
            let message = format!("at most {CHUNKS_MAX} in one frame, got {}", output.chunks.len());
            Err(Refusal::field("output.chunks", message))
        } else {
            check_output_name(&output.stream).map_err(|message| Refusal::field("output.stream", message))
        };
        if let Err(refusal) = checked {
            return self.complain(&refusal, 8, 0);
        }
        let is_durable = output.durability() == pb::OutputDurability::Durable;
        let piece = OutputPiece {
            first_offset: output.first_offset,
            // Copies: a ring of small chunks must not hold whole frames.
            chunks: output.chunks.iter().map(|c| bytes::Bytes::copy_from_slice(c)).collect(),
            is_durable,
            is_end: output.end,
            dropped: output.dropped,
        };
        self.session.handle.output(output.lease_id, output.stream.into(), piece).await;
    }

    /// A question that cannot be read is answered too: its handler waits for it.
    fn ask(&self, given: pb::Ask) {
        let (lease_id, ask_id) = (given.lease_id, given.ask_id);
        if let Some(feature) = wire_ask::feature(&given).filter(|feature| !self.session.has(feature)) {
            let message = format!("feature `{feature}` is not in Welcome");
            return self.complain(&Refusal::new(Reason::FeatureNotNegotiated, message), 9, 0);
        }
        // Children without a trace of their own have that of their parent, not that of the stream.
        let mut reader = SpecReader::new(self.gate.now(), self.gate.settings.payload_max, None);
        match wire_ask::read(given, &mut reader) {
            Ok(ask) => self.session.handle.ask(ask),
            Err(refusal) => self.session.handle.refuse_ask(lease_id, ask_id, refusal),
        }
    }

    async fn register(&self, update: pb::UpdateRegistration) -> Result<(), Refusal> {
        let handle = &self.session.handle;
        match worker::updated(handle.lanes(), handle.labels(), update) {
            Ok((lanes, labels)) => match handle.update_registration(lanes, labels).await {
                // The worker asked for what is not its own; what it had before it keeps.
                Err(refusal) if refusal.reason == Reason::TopicReserved => {
                    self.complain(&refusal, 11, 0);
                    Ok(())
                }
                done => done,
            },
            Err(refusal) => {
                self.complain(&refusal, 11, 0);
                Ok(())
            }
        }
    }

    /// Says that a frame was ignored. A worker that does not read these is not told all of them.
    fn complain(&self, refusal: &Refusal, frame_no: u32, seq: u64) {
        let error = protocol_error(refusal.reason.name(), refusal.message.clone());
        let _ = self.side.try_send(pb::ProtocolError { frame_no, seq, ..error });
    }
}

fn refusal_name(reason: pb::LeaseRefusal) -> &'static str {
    match reason {
        pb::LeaseRefusal::NoSuchTopic => "NO_SUCH_TOPIC",
        pb::LeaseRefusal::Schema => "SCHEMA",
        pb::LeaseRefusal::Unspecified | pb::LeaseRefusal::Overloaded => "OVERLOADED",
        pb::LeaseRefusal::Draining => "DRAINING",
        pb::LeaseRefusal::Decode => "DECODE",
    }
}
