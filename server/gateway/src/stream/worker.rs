//! `WorkerService.Connect`: frames of a worker in, frames of the engine out. It translates, and decides nothing.
//!
//! A reader task takes what the worker sends; the response stream takes what the engine sends, control before data.

mod begin;
mod read;

use crate::api::Replies;
use crate::call::Call;
use crate::connection::InUse;
use crate::gate::Gate;
use crate::status;
use crate::wire::assign::{self, SessionFacts};
use begin::Opened;
use bytes::Bytes;
use coretex_contract::v1::{self as pb, connect_response::Frame};
use coretex_domain::{Reason, Refusal};
use coretex_engine::Outbox;
use coretex_engine::api::ServerFrame;
use futures::stream;
use prost::Message;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tonic::Streaming;

/// Frames of ours that wait beside those of the engine.
const SIDE_MAX: usize = 64;
/// Protocol errors after which a stream is closed.
const ERRORS_MAX: u32 = 1_000;

/// Updates of reports that the gateway rejected by itself, until their report is acknowledged.
#[derive(Default)]
struct Rejections {
    by_seq: Mutex<BTreeMap<u64, Kept>>,
}

#[derive(Default)]
struct Kept {
    indexes: Option<Vec<u32>>,
    rejected: Vec<pb::RejectedUpdate>,
}

impl Rejections {
    fn keep(&self, seq: u64, indexes: Option<Vec<u32>>, rejected: Vec<pb::RejectedUpdate>) {
        if indexes.is_some() || !rejected.is_empty() {
            let mut by_seq = self.by_seq.lock().unwrap_or_else(PoisonError::into_inner);
            by_seq.insert(seq, Kept { indexes, rejected });
        }
    }

    /// Adds what was kept to an acknowledgement, and gives the engine's rejections their index in the report.
    fn join(&self, ack: &mut pb::ReportAck) {
        let mut by_seq = self.by_seq.lock().unwrap_or_else(PoisonError::into_inner);
        if by_seq.is_empty() {
            return;
        }
        for rejected in &mut ack.rejected {
            let indexes = by_seq.get(&rejected.seq).and_then(|kept| kept.indexes.as_ref());
            if let Some(index) = indexes.and_then(|i| i.get(rejected.index as usize)) {
                rejected.index = *index;
            }
        }
        let later = by_seq.split_off(&(ack.durable_up_to_seq.saturating_add(1)));
        for kept in std::mem::replace(&mut *by_seq, later).into_values() {
            let is_new =
                |r: &pb::RejectedUpdate| !ack.rejected.iter().any(|a| (a.seq, a.index) == (r.seq, r.index));
            let fresh: Vec<pb::RejectedUpdate> = kept.rejected.into_iter().filter(is_new).collect();
            ack.rejected.extend(fresh);
        }
    }
}

/// The way from the reader to the response stream.
struct Ways {
    opened: oneshot::Sender<Result<Box<Opened>, Refusal>>,
    side: mpsc::Sender<pb::ProtocolError>,
    end: oneshot::Sender<Refusal>,
    rejections: Arc<Rejections>,
}

enum Phase {
    /// Waits for the first frame.
    Beginning(oneshot::Receiver<Result<Box<Opened>, Refusal>>),
    Open {
        outbox: Box<Outbox>,
        facts: SessionFacts,
    },
    Over,
}

struct Outgoing {
    gate: Arc<Gate>,
    call: Arc<Call>,
    phase: Phase,
    side: mpsc::Receiver<pb::ProtocolError>,
    end: Option<oneshot::Receiver<Refusal>>,
    /// Turns true when the connection is too old; gone once the worker was told.
    leaving: Option<watch::Receiver<bool>>,
    rejections: Arc<Rejections>,
    errors: u32,
    reader: JoinHandle<()>,
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        // Nobody listens any more: the session goes on without a stream.
        self.reader.abort();
    }
}

/// Opens a stream.
pub(crate) fn open(
    gate: Arc<Gate>,
    call: Arc<Call>,
    requests: Streaming<pb::ConnectRequest>,
) -> Replies<Bytes> {
    let (opened, beginning) = oneshot::channel();
    let (side_in, side) = mpsc::channel(SIDE_MAX);
    let (end_in, end) = oneshot::channel();
    let rejections = Arc::new(Rejections::default());
    let ways = Ways { opened, side: side_in, end: end_in, rejections: rejections.clone() };
    let reader = tokio::spawn(read::run(gate.clone(), call.clone(), requests, ways));
    let outgoing = Outgoing {
        leaving: call.link.as_ref().map(InUse::leaving),
        gate,
        call,
        phase: Phase::Beginning(beginning),
        side,
        end: Some(end),
        rejections,
        errors: 0,
        reader,
    };
    Box::pin(stream::unfold(outgoing, |mut outgoing| async move {
        let frame = outgoing.next().await?;
        let frame = frame.map_err(|refusal| outgoing.call.refuse(&refusal));
        if frame.is_err() {
            outgoing.phase = Phase::Over;
        }
        Some((frame, outgoing))
    }))
}

/// What comes next.
enum Next {
    Engine(Option<ServerFrame>),
    Side(pb::ProtocolError),
    Leave,
    End(Refusal),
}

impl Outgoing {
    async fn next(&mut self) -> Option<Result<Bytes, Refusal>> {
        match &mut self.phase {
            Phase::Over => None,
            Phase::Beginning(beginning) => match beginning.await {
                Ok(Ok(opened)) => {
                    let Opened { first, outbox, facts } = *opened;
                    self.phase = Phase::Open { outbox: Box::new(outbox), facts };
                    Some(Ok(first.encode_to_vec().into()))
                }
                Ok(Err(refusal)) => Some(Err(refusal)),
                // The reader ended without a word: the worker went away.
                Err(_) => None,
            },
            Phase::Open { outbox, facts } => {
                let frame = match next_of(outbox, &mut self.side, &mut self.end, &mut self.leaving).await {
                    Next::Engine(None) => {
                        // The session is over, or its worker half-closed: the stream ends with OK.
                        self.phase = Phase::Over;
                        return None;
                    }
                    Next::Engine(Some(ServerFrame::Assign { assign_no, assignments })) => {
                        return Some(Ok(assign::assign(assign_no, &assignments, self.gate.now())));
                    }
                    Next::Engine(Some(frame)) => assign::frame(frame, facts, self.gate.now()),
                    Next::Side(error) => {
                        pb::ConnectResponse { seq: 0, frame: Some(Frame::ProtocolError(error)) }
                    }
                    Next::Leave => {
                        let grace = self.gate.settings.connection_age_grace;
                        let farewell = Frame::GoAway(assign::too_old(grace));
                        pb::ConnectResponse { seq: 0, frame: Some(farewell) }
                    }
                    Next::End(refusal) => return Some(Err(refusal)),
                };
                self.last_look(frame)
            }
        }
    }

    fn last_look(&mut self, mut frame: pb::ConnectResponse) -> Option<Result<Bytes, Refusal>> {
        match &mut frame.frame {
            Some(Frame::ReportAck(ack)) => self.rejections.join(ack),
            Some(Frame::ProtocolError(_)) => {
                self.errors += 1;
                if self.errors > ERRORS_MAX {
                    let message = format!("more than {ERRORS_MAX} frames broke the protocol");
                    return Some(Err(Refusal::new(Reason::WorkerFlood, message)));
                }
            }
            _ => {}
        }
        Some(Ok(frame.encode_to_vec().into()))
    }
}

async fn next_of(
    outbox: &mut Outbox,
    side: &mut mpsc::Receiver<pb::ProtocolError>,
    end: &mut Option<oneshot::Receiver<Refusal>>,
    leaving: &mut Option<watch::Receiver<bool>>,
) -> Next {
    loop {
        let ended = async {
            match end {
                Some(end) => end.await.ok(),
                None => std::future::pending().await,
            }
        };
        let too_old = async {
            match leaving {
                Some(leaving) => leaving.wait_for(|is_leaving| *is_leaving).await.is_ok(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            is_leaving = too_old => {
                *leaving = None;
                if is_leaving {
                    return Next::Leave;
                }
            }
            refusal = ended => match refusal {
                Some(refusal) => return Next::End(refusal),
                // The worker has no more to say: what the engine still has goes out, and that is the end.
                None => *end = None,
            },
            Some(error) = side.recv() => return Next::Side(error),
            frame = outbox.next() => return Next::Engine(frame),
        }
    }
}

/// What is wrong with an incoming frame, or `None` when its sender went away.
fn broken(status: &tonic::Status) -> Option<Refusal> {
    let refusal = status::inbound(status);
    match refusal.reason {
        Reason::MessageTooLarge => Some(Refusal { reason: Reason::FrameTooLarge, ..refusal }),
        Reason::CallCancelled => None,
        _ => Some(refusal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejected(seq: u64, index: u32) -> pb::RejectedUpdate {
        pb::RejectedUpdate { seq, index, ..pb::RejectedUpdate::default() }
    }

    #[test]
    fn rejections_wait_for_the_ack_of_their_report() {
        let rejections = Rejections::default();
        rejections.keep(2, Some(vec![0, 2]), vec![rejected(2, 1)]);
        rejections.keep(3, None, vec![rejected(3, 0)]);
        let mut ack = pb::ReportAck { durable_up_to_seq: 2, rejected: vec![rejected(2, 1)] };
        rejections.join(&mut ack);
        let found: Vec<(u64, u32)> = ack.rejected.iter().map(|r| (r.seq, r.index)).collect();
        assert_eq!(found, [(2, 2), (2, 1)], "the engine's second update is the report's third");
        let mut ack = pb::ReportAck { durable_up_to_seq: 9, rejected: Vec::new() };
        rejections.join(&mut ack);
        assert_eq!(ack.rejected.len(), 1);
    }
}
