//! The two streams whose replies are written by hand. They take the place of the generated handlers on the port;
//! everything else goes to those.

use crate::api::{Replies, submit_stream};
use crate::call::Call;
use crate::gate::Gate;
use crate::stream::worker;
use bytes::{BufMut, Bytes};
use coretex_contract::v1 as pb;
use futures::future::BoxFuture;
use http::{Request, Response};
use std::convert::Infallible;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context, Poll};
use tonic::body::Body;
use tonic::codec::CompressionEncoding::{Gzip, Zstd};
use tonic::codec::{Codec, EnabledCompressionEncodings, EncodeBuf, Encoder};
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Status, Streaming};
use tower::Service;

/// A generated service, one of whose streams is served here.
#[derive(Clone)]
pub(crate) struct Hot<S> {
    rest: S,
    path: &'static str,
    open: fn(Arc<Gate>, Request<Body>) -> BoxFuture<'static, Response<Body>>,
    gate: Arc<Gate>,
}

impl<S> Hot<S> {
    pub(crate) fn submits(gate: Arc<Gate>, rest: S) -> Hot<S> {
        let open = |gate: Arc<Gate>, request| -> BoxFuture<'static, Response<Body>> {
            Box::pin(async move { answer(&gate, request, Submits(gate.clone())).await })
        };
        Hot { rest, path: "/coretex.v1.JobService/SubmitJobStream", open, gate }
    }

    pub(crate) fn workers(gate: Arc<Gate>, rest: S) -> Hot<S> {
        let open = |gate: Arc<Gate>, request| -> BoxFuture<'static, Response<Body>> {
            Box::pin(async move { answer(&gate, request, Workers(gate.clone())).await })
        };
        Hot { rest, path: "/coretex.v1.WorkerService/Connect", open, gate }
    }
}

impl<S: NamedService> NamedService for Hot<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Hot<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.rest.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if request.uri().path() == self.path {
            let answering = (self.open)(self.gate.clone(), request);
            return Box::pin(async move { Ok(answering.await) });
        }
        Box::pin(self.rest.call(request))
    }
}

async fn answer<M, S>(gate: &Gate, request: Request<Body>, service: S) -> Response<Body>
where
    M: prost::Message + Default + Send + 'static,
    S: StreamingService<M, Response = Bytes> + Send,
    S::Future: Send,
    S::ResponseStream: Send + 'static,
{
    let mut encodings = EnabledCompressionEncodings::default();
    encodings.enable(Zstd);
    encodings.enable(Gzip);
    // Many clients say they take gzip without being asked: these streams answer as they are spoken to.
    let said = request.headers().get("grpc-encoding").map(http::HeaderValue::as_bytes);
    let is_plain = said.is_none_or(|name| name == b"identity");
    let sending = if is_plain { EnabledCompressionEncodings::default() } else { encodings };
    let most = Some(gate.settings.message_max);
    Grpc::new(Written::<M>(PhantomData))
        .apply_compression_config(encodings, sending)
        .apply_max_message_size_config(most, most)
        .streaming(service, request)
        .await
}

struct Submits(Arc<Gate>);

impl StreamingService<pb::SubmitJobStreamRequest> for Submits {
    type Response = Bytes;
    type ResponseStream = Replies<Bytes>;
    type Future = BoxFuture<'static, Result<tonic::Response<Replies<Bytes>>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<pb::SubmitJobStreamRequest>>) -> Self::Future {
        let gate = self.0.clone();
        Box::pin(async move {
            let call = Call::of(&request);
            gate.learn_paused(&call.namespace).await;
            Ok(tonic::Response::new(submit_stream::open(gate, call, request.into_inner())))
        })
    }
}

struct Workers(Arc<Gate>);

impl StreamingService<pb::ConnectRequest> for Workers {
    type Response = Bytes;
    type ResponseStream = Replies<Bytes>;
    type Future = std::future::Ready<Result<tonic::Response<Replies<Bytes>>, Status>>;

    fn call(&mut self, request: tonic::Request<Streaming<pb::ConnectRequest>>) -> Self::Future {
        let call = Call::of(&request);
        let replies = worker::open(self.0.clone(), call, request.into_inner());
        std::future::ready(Ok(tonic::Response::new(replies)))
    }
}

/// Reads messages of prost, writes bytes that are messages already.
struct Written<M>(PhantomData<fn() -> M>);

impl<M: prost::Message + Default + Send + 'static> Codec for Written<M> {
    type Encode = Bytes;
    type Decode = M;
    type Encoder = AsIs;
    type Decoder = tonic_prost::ProstDecoder<M>;

    fn encoder(&mut self) -> AsIs {
        AsIs
    }

    fn decoder(&mut self) -> Self::Decoder {
        tonic_prost::ProstDecoder::default()
    }
}

struct AsIs;

impl Encoder for AsIs {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}
