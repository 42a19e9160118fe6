//! Frames on their way out. Reports are written once, when they are made: a report is sent again byte for byte after a break.

use crate::raw::{MESSAGE_MAX, Wire, pb};
use bytes::{Buf as _, BufMut as _, Bytes};
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Request, Status, Streaming};

/// Field numbers of `ConnectRequest`, checked against the contract in the tests.
const SEQ: u32 = 1;
const REPORT: u32 = 7;

/// Something to write to the stream.
#[derive(Clone, Debug)]
pub(crate) enum Frame {
    Message(Box<pb::ConnectRequest>),
    /// An encoded `Report`, with what it takes off the set of held leases.
    Report {
        seq: u64,
        body: Bytes,
        ended: u32,
        digest: u64,
    },
}

// === impl Frame ===

impl Frame {
    pub(crate) fn message(frame: pb::connect_request::Frame) -> Self {
        Self::Message(Box::new(pb::ConnectRequest { seq: 0, frame: Some(frame) }))
    }

    /// Bytes of output it carries.
    pub(crate) fn output_len(&self) -> Option<usize> {
        match self {
            Self::Message(message) => match &message.frame {
                Some(pb::connect_request::Frame::Output(output)) => {
                    Some(output.chunks.iter().map(Bytes::len).sum())
                }
                _ => None,
            },
            Self::Report { .. } => None,
        }
    }

    pub(crate) fn is_heartbeat(&self) -> bool {
        match self {
            Self::Message(message) => matches!(message.frame, Some(pb::connect_request::Frame::Heartbeat(_))),
            Self::Report { .. } => false,
        }
    }
}

/// Opens a worker stream.
pub(crate) async fn connect(
    wire: Wire,
    frames: impl futures::Stream<Item = Frame> + Send + 'static,
) -> Result<Streaming<pb::ConnectResponse>, Status> {
    let mut grpc = tonic::client::Grpc::new(wire).max_decoding_message_size(MESSAGE_MAX);
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = tonic::codegen::http::uri::PathAndQuery::from_static("/coretex.v1.WorkerService/Connect");
    let mut request = Request::new(frames);
    request.extensions_mut().insert(tonic::GrpcMethod::new("coretex.v1.WorkerService", "Connect"));
    Ok(grpc.streaming(request, path, ConnectCodec).await?.into_inner())
}

#[derive(Clone, Copy, Debug, Default)]
struct ConnectCodec;

impl Codec for ConnectCodec {
    type Encode = Frame;
    type Decode = pb::ConnectResponse;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for ConnectCodec {
    type Item = Frame;
    type Error = Status;

    fn encode(&mut self, frame: Frame, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        match frame {
            Frame::Message(message) => {
                message.encode(buf).map_err(|error| Status::internal(error.to_string()))?;
            }
            Frame::Report { seq, body, .. } => {
                encode_key(SEQ, WireType::Varint, buf);
                encode_varint(seq, buf);
                encode_key(REPORT, WireType::LengthDelimited, buf);
                encode_varint(body.len() as u64, buf);
                buf.put(body);
            }
        }
        Ok(())
    }
}

impl Decoder for ConnectCodec {
    type Item = pb::ConnectResponse;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<pb::ConnectResponse>, Status> {
        let frame = pb::ConnectResponse::decode(buf.copy_to_bytes(buf.remaining()));
        frame
            .map(Some)
            .map_err(|error| Status::data_loss(format!("a frame of the server cannot be read: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_written_as_the_contract_says() {
        let update = pb::JobUpdate { lease_id: 7, ..Default::default() };
        let report = pb::Report { updates: vec![update] };
        let mut written = Vec::new();
        encode_key(SEQ, WireType::Varint, &mut written);
        encode_varint(3, &mut written);
        encode_key(REPORT, WireType::LengthDelimited, &mut written);
        encode_varint(report.encoded_len() as u64, &mut written);
        written.extend(report.encode_to_vec());
        let read = pb::ConnectRequest::decode(&*written).expect("readable");
        assert_eq!(
            read,
            pb::ConnectRequest { seq: 3, frame: Some(pb::connect_request::Frame::Report(report)) }
        );
    }
}
