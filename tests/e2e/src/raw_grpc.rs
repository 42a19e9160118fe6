//! gRPC without messages: bytes in place of them, and requests no client library would send.

use crate::api::Api;
use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use http_body_util::BodyExt;
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Request, Status, Streaming};

/// Passes bytes through.
#[derive(Clone, Copy, Debug, Default)]
pub struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = RawCodec;
    type Decoder = RawCodec;

    fn encoder(&mut self) -> RawCodec {
        RawCodec
    }

    fn decoder(&mut self) -> RawCodec {
        RawCodec
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// A unary call with these bytes as its message. `method` is `Service/Method` of `coretex.v1`.
pub async fn unary(api: &Api, method: &str, message: impl Into<Bytes>) -> Result<Bytes, Status> {
    let mut client = tonic::client::Grpc::new(api.channel());
    client.ready().await.expect("a connection");
    let reply = client.unary(Request::new(message.into()), path(method), RawCodec).await?;
    Ok(reply.into_inner())
}

/// A stream of such messages both ways.
pub async fn streaming(
    api: &Api,
    method: &str,
    messages: impl futures::Stream<Item = Bytes> + Send + 'static,
) -> Result<Streaming<Bytes>, Status> {
    let mut client = tonic::client::Grpc::new(api.channel());
    client.ready().await.expect("a connection");
    Ok(client.streaming(Request::new(messages), path(method), RawCodec).await?.into_inner())
}

fn path(method: &str) -> PathAndQuery {
    format!("/coretex.v1.{method}").parse().expect("a path")
}

/// A request with a body that is not even framed by a library. The gRPC status of its answer.
pub async fn posted(api: &Api, method: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Code {
    let mut request = http::Request::post(format!("http://localhost/coretex.v1.{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = Body::new(http_body_util::Full::new(Bytes::from(body)).map_err(|never| match never {}));
    let mut channel = api.channel();
    std::future::poll_fn(|cx| tower_ready(&mut channel, cx)).await;
    let answer = tonic::client::GrpcService::call(&mut channel, request.body(body).expect("a request")).await;
    let answer = answer.expect("an answer");
    let in_headers = answer.headers().get("grpc-status").cloned();
    let collected = answer.into_body().collect().await.expect("the answer has an end");
    let in_trailers = collected.trailers().and_then(|trailers| trailers.get("grpc-status")).cloned();
    Code::from_bytes(in_headers.or(in_trailers).expect("a gRPC status").as_bytes())
}

fn tower_ready(
    channel: &mut tonic::transport::Channel,
    cx: &mut std::task::Context<'_>,
) -> std::task::Poll<()> {
    tonic::client::GrpcService::<Body>::poll_ready(channel, cx).map(|ready| ready.expect("a connection"))
}
