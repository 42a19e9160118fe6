//! What the transport says: limits, encodings, malformed requests, credentials, plain routes.

use crate::access::keys;
use crate::running_server::{Server, reason, spec};
use coretex_contract::v1 as pb;
use coretex_contract::v1::job_service_client::JobServiceClient;
use coretex_domain::access::Role;
use coretex_gateway::{Access, GatewaySettings};
use http::uri::PathAndQuery;
use tonic::codec::{CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Request, Status};

/// Sends bytes as they are.
#[derive(Clone, Default)]
pub(crate) struct Raw;

impl tonic::codec::Codec for Raw {
    type Encode = bytes::Bytes;
    type Decode = bytes::Bytes;
    type Encoder = Raw;
    type Decoder = Raw;
    fn encoder(&mut self) -> Raw {
        Raw
    }
    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = bytes::Bytes;
    type Error = Status;
    fn encode(&mut self, item: bytes::Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put(into, item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = bytes::Bytes;
    type Error = Status;
    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<bytes::Bytes>, Status> {
        let len = bytes::Buf::remaining(from);
        Ok(Some(bytes::Buf::copy_to_bytes(from, len)))
    }
}

pub(crate) async fn raw(server: &Server, path: &'static str, body: &'static [u8]) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(server.channel.clone());
    client.ready().await.expect("a connection");
    let body = bytes::Bytes::from_static(body);
    client.unary(Request::new(body), PathAndQuery::from_static(path), Raw).await.map(|_| ())
}

#[tokio::test]
async fn malformed_requests_are_invalid_and_the_connection_lives() {
    let server = Server::start().await;
    let path = "/coretex.v1.JobService/SubmitJob";
    for body in [
        &b"\x0a\x05\x0a\x03ab"[..],                      // a string that ends early
        b"\x0a\x04\x0a\x02\xff\xfe",                     // a string that is not UTF-8
        b"\x08\x01",                                     // a number where a message belongs
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", // an overlong varint
        b"\x0b",                                         // a group
    ] {
        let status = raw(&server, path, body).await.expect_err("malformed");
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::InvalidArgument, "MALFORMED_REQUEST"),
            "{body:?}"
        );
    }
    let status = raw(&server, "/coretex.v1.JobService/Nope", b"").await.expect_err("unknown");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unimplemented, "UNKNOWN_METHOD"));
    let status = raw(&server, "/coretex.v1.NopeService/Nope", b"").await.expect_err("unknown");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unimplemented, "UNKNOWN_METHOD"));
    let status = raw(&server, "/coretex.v1.JobService//SubmitJob", b"").await.expect_err("unknown");
    assert_eq!(status.code(), Code::Unimplemented);
    server.submit(spec("a")).await.expect("the connection lives");
    server.stop().await;
}

#[tokio::test]
async fn messages_over_the_limit_name_both_sizes() {
    let server = Server::start().await;
    let large = pb::JobSpec { payload: Some(pb::Payload::data("", vec![0; 5 << 20])), ..spec("a") };
    let status = server.submit(large).await.expect_err("too large");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "MESSAGE_TOO_LARGE"));
    assert!(status.message().contains("4194304"), "{}", status.message());
    // 64 MiB of zeros are a few KiB on the wire.
    let bomb = pb::JobSpec { payload: Some(pb::Payload::data("", vec![0; 64 << 20])), ..spec("a") };
    for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Zstd] {
        let mut jobs = server.jobs().send_compressed(encoding).accept_compressed(encoding);
        let request = pb::SubmitJobRequest { spec: Some(bomb.clone()), ..Default::default() };
        let status = jobs.submit_job(request).await.expect_err("too large");
        assert_eq!(reason(&status), "MESSAGE_TOO_LARGE", "{status:?}");
        let small = pb::SubmitJobRequest { spec: Some(spec("a")), ..Default::default() };
        jobs.submit_job(small).await.expect("compressed and accepted");
    }
    server.stop().await;
}

#[tokio::test]
async fn unknown_encodings_are_named() {
    let server = Server::start().await;
    let mut jobs = JobServiceClient::with_interceptor(server.channel.clone(), |mut request: Request<()>| {
        request.metadata_mut().insert("grpc-encoding", "br".parse().expect("a value"));
        Ok(request)
    });
    let status = jobs.get_job(pb::GetJobRequest::default()).await.expect_err("refused");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unimplemented, "UNSUPPORTED_ENCODING"));
    server.stop().await;
}

#[tokio::test]
async fn keys_open_what_they_may() {
    let all = ("ctx_all", "root", &[][..], Role::Admin);
    let access = Access::closed().keys(keys(&[all, ("ctx_a", "team-a", &["a"], Role::Submitter)]));
    let server = Server::with(GatewaySettings { access, ..Default::default() }).await;
    let call = |header: &'static str, value: &'static str, namespace: &'static str| {
        let mut jobs = server.jobs();
        async move {
            let mut request =
                Request::new(pb::SubmitJobRequest { spec: Some(spec("job.k")), ..Default::default() });
            if !header.is_empty() {
                request.metadata_mut().insert(header, value.parse().expect("a value"));
            }
            request.metadata_mut().insert("coretex-namespace", namespace.parse().expect("a value"));
            jobs.submit_job(request).await
        }
    };
    let refused = call("", "", "a").await.expect_err("no key");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unauthenticated, "CREDENTIAL_REQUIRED"));
    for wrong in ["ctx_al", "ctx_all ", "", "ctx_b"] {
        let refused = call("x-api-key", wrong, "a").await.expect_err("a wrong key");
        assert_eq!(reason(&refused), "CREDENTIAL_INVALID", "{wrong:?}");
    }
    let refused = call("x-api-key", "ctx_a", "b").await.expect_err("another namespace");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "PERMISSION_DENIED"));
    let refused = call("x-api-key", "ctx_all", "Not A Namespace").await.expect_err("no namespace");
    assert_eq!(refused.code(), Code::InvalidArgument);
    let job =
        call("authorization", "Bearer ctx_a", "a").await.expect("accepted").into_inner().job.expect("a job");
    let get = |namespace: &'static str| {
        let mut jobs = server.jobs();
        let job_id = job.job_id.clone();
        async move {
            let mut request = Request::new(pb::GetJobRequest { job_id, ..Default::default() });
            request.metadata_mut().insert("x-api-key", "ctx_all".parse().expect("a value"));
            request.metadata_mut().insert("coretex-namespace", namespace.parse().expect("a value"));
            jobs.get_job(request).await
        }
    };
    let found = get("a").await.expect("there").into_inner().job.expect("a job");
    assert_eq!((found.submitter.as_str(), found.namespace.as_str()), ("team-a", "a"));
    assert_eq!(get("b").await.expect_err("elsewhere").code(), Code::NotFound);
    server.stop().await;
}

#[tokio::test]
async fn request_ids_are_echoed() {
    let server = Server::start().await;
    let mut request = Request::new(pb::GetJobRequest { job_id: "nope".into(), ..Default::default() });
    request.metadata_mut().insert("x-request-id", "abc-1".parse().expect("a value"));
    let status = server.jobs().get_job(request).await.expect_err("missing");
    assert_eq!(status.metadata().get("x-request-id").and_then(|v| v.to_str().ok()), Some("abc-1"));
    let answer = server.admin().get_server_info(pb::GetServerInfoRequest {}).await.expect("info");
    assert!(answer.metadata().get("x-request-id").is_some_and(|v| v.len() == 16));
    let info = answer.into_inner().server.expect("a server");
    assert!(info.ready && info.limits.is_some_and(|l| l.submit_batch_max == 10_000));
    server.stop().await;
}

#[tokio::test]
async fn a_stream_ends_with_its_deadline() {
    let server = Server::start().await;
    let request = "POST /coretex.v1.EventService/WatchEvents HTTP/1.1\r\nHost: localhost\r\n\
        Content-Type: application/grpc-web+proto\r\ngrpc-timeout: 50m\r\nContent-Length: 5\r\nConnection: close\r\n\r\n\0\0\0\0\0";
    let answer = server.http_lossy(request).await;
    assert!(answer.contains("grpc-status:4") && answer.contains("before%20the%20answer"), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn plain_routes_and_strangers() {
    let allowed_hosts = Some(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]);
    let server = Server::with(GatewaySettings { allowed_hosts, ..Default::default() }).await;
    let get = |path: &str, host: &str, more: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}Connection: close\r\n\r\n")
    };
    for path in ["/healthz", "/readyz", "/livez"] {
        let answer = server.http(&get(path, "localhost:7070", "")).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
    server.submit(spec("job.m")).await.expect("accepted");
    let metrics = server.http(&get("/metrics", "localhost", "")).await;
    for name in [
        "coretex_jobs_submitted_total 1",
        "coretex_job_queue_depth{topic=\"job.m\"} 1",
        "method=\"SubmitJob\",code=\"Ok\"",
        "coretex_panics_total 0",
        "coretex_invariant_violations_total 0",
        "# EOF",
    ] {
        assert!(metrics.contains(name), "{name}: {metrics}");
    }
    assert!(server.http(&get("/healthz", "evil.example", "")).await.starts_with("HTTP/1.1 421"));
    let foreign = server.http(&get("/healthz", "localhost", "Origin: http://evil.example\r\n")).await;
    assert!(foreign.starts_with("HTTP/1.1 403"), "{foreign}");
    let own = server.http(&get("/healthz", "localhost:7070", "Origin: http://localhost:7070\r\n")).await;
    assert!(own.starts_with("HTTP/1.1 200"), "{own}");
    assert!(server.http(&get("/nope", "localhost", "")).await.starts_with("HTTP/1.1 404"));
    server.stop().await;
}

#[tokio::test]
async fn grpc_web_works_over_http_1() {
    let server = Server::start().await;
    let request = "POST /coretex.v1.AdminService/GetServerInfo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/grpc-web+proto\r\n\
        Content-Length: 5\r\nConnection: close\r\n\r\n\0\0\0\0\0";
    let answer = server.http_lossy(request).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("grpc-status:0"), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn health_follows_the_engine() {
    let server = Server::start().await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(server.channel.clone());
    let mut check = async |service: &str| {
        let request = tonic_health::pb::HealthCheckRequest { service: service.into() };
        health.check(request).await.ok().map(|r| r.into_inner().status())
    };
    use tonic_health::pb::health_check_response::ServingStatus;
    let mut tries = 0;
    while check("coretex.v1.JobService").await != Some(ServingStatus::Serving) && tries < 100 {
        tries += 1;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(check("coretex.v1.WorkerService").await, Some(ServingStatus::Serving));
    server.admin().drain_node(pb::DrainNodeRequest::default()).await.expect("drains");
    tries = 0;
    while check("").await != Some(ServingStatus::NotServing) && tries < 100 {
        tries += 1;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(tries < 100, "a draining node is not serving");
    let refused = server.submit(spec("a")).await.expect_err("draining");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unavailable, "SHUTTING_DOWN"));
    server.stop().await;
}
