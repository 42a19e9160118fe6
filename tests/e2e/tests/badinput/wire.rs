//! Rows 6 to 9, 32, 33, 58, 61: bytes, headers and connections that no library would make.

use crate::{Expected, Target, check, refusal};
use bytes::Bytes;
use coretex_contract::v1 as pb;
use coretex_e2e::api::{Api, Refused, spec};
use coretex_e2e::faults::{Proxy, Way};
use coretex_e2e::process::Setup;
use coretex_e2e::raw_h2::Connection;
use coretex_e2e::{http1, raw_grpc};
use std::time::Duration;
use tonic::codec::CompressionEncoding;
use tonic::{Code, Request};

const SUBMIT: &str = "JobService/SubmitJob";

#[tokio::test(flavor = "multi_thread")]
async fn row_6_bytes_that_are_no_message() {
    let mut target = Target::start().await;
    target.mark().await;
    let malformed = Expected { code: Code::InvalidArgument, reasons: &["MALFORMED_REQUEST"], names: "" };
    let rows: [(&str, &[u8]); 8] = [
        ("a string that is no UTF-8", &[0x0a, 4, 0x0a, 2, 0xff, 0xfe]),
        ("an overlong varint", &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        ("a message sent as a number", &[0x08, 1]),
        ("a length beyond the end", &[0x0a, 100, 1]),
        ("an end of group without a start", &[0x0c]),
        ("field number 0", &[0x00, 1]),
        ("a truncated tag", &[0x8a]),
        ("noise", &[0xde, 0xad, 0xbe, 0xef, 0x99, 0x42]),
    ];
    for (what, bytes) in rows {
        let status = raw_grpc::unary(&target.api, SUBMIT, bytes.to_vec()).await.expect_err(what);
        check(6, what, &status, malformed);
    }
    let deep = (0..500).fold(Vec::new(), |inner: Vec<u8>, _| {
        // spec.payload.json.list_value.values: each level wraps the one before.
        let mut value = vec![0x32, 0];
        value.splice(1.., prost_length(inner.len()));
        value.extend(inner);
        value
    });
    let answer = raw_grpc::unary(&target.api, SUBMIT, deep).await;
    assert!(answer.is_err());
    let view = pb::GetJobRequest { job_id: "no-such-job".into(), view: 99, payload_format: 0 };
    let status = target.api.jobs().get_job(view).await.expect_err("an unknown enum value");
    check(6, "an enum of the future", &status, refusal(Code::InvalidArgument, &["INVALID_FIELD"]));
    // All on one connection, which still serves.
    target.unharmed(1).await;
}

fn prost_length(length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::encode_varint(length as u64, &mut bytes);
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_7_and_8_messages_too_large_and_encodings_nobody_knows() {
    let mut target = Target::start().await;
    target.mark().await;
    let payload = |bytes: usize| pb::Payload::data("application/octet-stream", vec![0; bytes]);
    let large = pb::JobSpec { payload: Some(payload(5 << 20)), ..spec("job.large") };
    let status = target.api.try_submit(large).await.expect_err("5 MiB");
    check(7, "5 MiB", &status, refusal(Code::ResourceExhausted, &["MESSAGE_TOO_LARGE"]));
    let refused = Refused::of(&status);
    assert!(refused.message.contains("4194304"), "the limit is not named: {}", refused.message);
    assert_eq!(refused.retry_after, None, "it is not worth repeating");
    let over = pb::JobSpec { payload: Some(payload((1 << 20) + 1)), ..spec("job.large") };
    let status = target.api.try_submit(over).await.expect_err("a byte over 1 MiB");
    check(
        7,
        "a payload of 1 MiB and a byte",
        &status,
        refusal(Code::ResourceExhausted, &["PAYLOAD_TOO_LARGE"]),
    );
    let bomb = pb::JobSpec { payload: Some(payload(64 << 20)), ..spec("job.bomb") };
    let mut zipping = target.api.jobs().send_compressed(CompressionEncoding::Gzip);
    let request = pb::SubmitJobRequest { spec: Some(bomb), request_id: String::new() };
    let status = zipping.submit_job(request).await.expect_err("64 MiB of zeros in 64 KiB");
    check(8, "a gzip bomb", &status, refusal(Code::ResourceExhausted, &["MESSAGE_TOO_LARGE"]));
    let framed = vec![1, 0, 0, 0, 2, 1, 2];
    let code = raw_grpc::posted(&target.api, SUBMIT, &[("grpc-encoding", "br")], framed.clone()).await;
    assert_eq!(code, Code::Unimplemented, "row 8, brotli");
    let code = raw_grpc::posted(&target.api, SUBMIT, &[("grpc-encoding", "gzip")], framed).await;
    assert_eq!(code, Code::InvalidArgument, "row 8, gzip that is none");
    let cut = vec![0, 0, 0, 1, 0, 1, 2, 3];
    let code = raw_grpc::posted(&target.api, SUBMIT, &[], cut).await;
    assert!(!matches!(code, Code::Ok | Code::Unknown | Code::Internal), "row 8, a frame cut short: {code:?}");
    let code = raw_grpc::posted(&target.api, SUBMIT, &[], Vec::new()).await;
    assert_eq!(code, Code::InvalidArgument, "row 8, no message at all");
    crate::EVIDENCE.add("cases", 4);
    target.unharmed(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_9_http_that_is_no_call() {
    let mut target = Target::start().await;
    target.mark().await;
    let addr = target.server.addr();
    let path = "/coretex.v1.JobService/SubmitJob";
    let grpc = ("content-type", "application/grpc-web+proto");
    type Row<'a> = (&'a str, &'a str, &'a str, Vec<(&'a str, &'a str)>);
    let rows: Vec<Row<'_>> = vec![
        ("a table to a method", "POST", path, vec![("content-type", "text/csv")]),
        ("GET on a method", "GET", path, vec![]),
        ("an encoded dot-dot", "GET", "/%2e%2e/etc/passwd", vec![]),
        ("a double-encoded path", "GET", "/metrics%252f..", vec![]),
        ("a slash too many", "POST", "/coretex.v1.JobService/SubmitJob/", vec![grpc]),
        ("a method override", "POST", "/livez", vec![("x-http-method-override", "GET")]),
        ("DELETE on a probe", "DELETE", "/readyz", vec![]),
        ("a path of 20,000 characters", "GET", LONG_PATH.as_str(), vec![]),
    ];
    for (what, method, path, headers) in rows {
        let reply = http1::request(addr, method, path, &headers, b"").await;
        let status = reply.map(|reply| reply.status).unwrap_or_default();
        assert!((400..500).contains(&status), "row 9, {what}: {status}");
        crate::EVIDENCE.add("cases", 1);
    }
    for (what, bytes) in [
        ("noise", &b"\x00\x01\x02 nonsense \r\n\r\n"[..]),
        ("a header without end", b"GET /livez HTTP/1.1\r\nhost: localhost\r\nx"),
        (
            "two lengths",
            b"POST /livez HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        ),
    ] {
        if let Ok(answer) =
            tokio::time::timeout(Duration::from_millis(500), http1::exchange(addr, bytes)).await
        {
            let text = String::from_utf8_lossy(&answer.unwrap_or_default()).into_owned();
            assert!(
                !text.starts_with("HTTP/1.1 5") && !text.starts_with("HTTP/1.1 2"),
                "row 9, {what}: {text}"
            );
        }
    }
    target.unharmed(1).await;
}

static LONG_PATH: std::sync::LazyLock<String> =
    std::sync::LazyLock::new(|| format!("/{}", "x".repeat(20_000)));

#[tokio::test(flavor = "multi_thread")]
async fn row_32_one_stream_or_one_connection_too_many() {
    const REFUSED_STREAM: u32 = 7;
    let mut target = Target::with(Setup::memory().env("CORETEX_LIMITS_CONNECTIONS_MAX", 40)).await;
    target.mark().await;
    let addr = target.server.addr();
    let mut greedy = Connection::open(addr).await.expect("a connection");
    let authority = addr.to_string();
    // Streams that stay open: their requests never end.
    for n in 0..300u32 {
        greedy.call(2 * n + 1, &authority, "/coretex.v1.WorkerService/Connect").await.expect("it is sent");
    }
    let mut refused = 0;
    while let Some(frame) = greedy.next(Duration::from_secs(2)).await.expect("the connection lives") {
        assert!(!frame.is_go_away(), "the whole connection was ended");
        if let Some(code) = frame.reset_code() {
            assert_eq!(code, REFUSED_STREAM, "stream {}", frame.stream);
            refused += 1;
        }
    }
    assert_eq!(refused, 300 - 256, "streams refused");
    // Others are not touched by it.
    target.api.admin().get_server_info(pb::GetServerInfoRequest {}).await.expect("another connection serves");
    let mut idle = Vec::new();
    for _ in 0..60 {
        idle.push(tokio::net::TcpStream::connect(addr).await.expect("the kernel takes it"));
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    target.api.admin().get_server_info(pb::GetServerInfoRequest {}).await.expect("an open connection serves");
    drop(idle);
    drop(greedy);
    tokio::time::sleep(Duration::from_millis(300)).await;
    Api::to(&target.server.url())
        .admin()
        .get_server_info(pb::GetServerInfoRequest {})
        .await
        .expect("room again");
    crate::EVIDENCE.add("cases", 2);
    target.unharmed(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_33_deadlines_and_callers_that_go_away() {
    let mut target = Target::start().await;
    target.mark().await;
    let api = &target.api;
    let mut wait = Request::new(pb::RunJobRequest { spec: Some(spec("job.never")), ..Default::default() });
    wait.set_timeout(Duration::from_millis(300));
    match api.jobs().run_job(wait).await {
        // The wait is cut so that the answer is back in time …
        Ok(reply) => assert!(!reply.into_inner().job.expect("a job").state().is_terminal()),
        // … or the deadline is named.
        Err(status) => assert_eq!(status.code(), Code::DeadlineExceeded, "{status}"),
    }
    for _ in 0..20 {
        let mut hasty =
            Request::new(pb::SubmitJobRequest { spec: Some(spec("job.hasty")), ..Default::default() });
        hasty.set_timeout(Duration::from_micros(200));
        if let Err(status) = api.jobs().submit_job(hasty).await {
            let is_known = matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled);
            assert!(is_known, "{status}");
        }
    }
    let mut bad = Request::new(pb::GetServerInfoRequest {});
    bad.metadata_mut().insert("grpc-timeout", "soon".parse().expect("text"));
    if let Err(status) = api.admin().get_server_info(bad).await {
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    }
    // A caller that is cut off in the middle of its message has sent no job.
    let proxy = Proxy::before(target.server.addr()).await;
    let cut = Api::to(&proxy.url());
    let _ = cut.admin().get_server_info(pb::GetServerInfoRequest {}).await.expect("the way is open");
    let before = api.count("topic = job.cut").await;
    let payload = Some(pb::Payload::data("application/octet-stream", vec![1; 900_000]));
    let call = tokio::spawn(async move { cut.try_submit(pb::JobSpec { payload, ..spec("job.cut") }).await });
    proxy.hold(Way::ToServer);
    tokio::time::sleep(Duration::from_millis(200)).await;
    proxy.cut();
    let _ = call.await.expect("the call ends").expect_err("it was cut off");
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(api.count("topic = job.cut").await, before, "half a job");
    target.mark().await;
    target.unharmed(1).await;
    crate::EVIDENCE.add("cases", 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_58_keys_that_are_not_quite_right() {
    const KEY: &str = "kQ7vZ2mXw9TfB4nHs6LpRc8dYj3GaE5u";
    const OTHER: &str = "Zp4Rt8Wq2Lm6Xc9Vb3Nk7Js5Hd1Fg0Aa";
    let setup = Setup::memory().env("CORETEX_API_KEYS", format!("ci:{KEY},team:{OTHER}:blue"));
    let mut target = Target::with(setup).await;
    let open = target.api.clone();
    target.api = open.with_key(KEY);
    target.mark().await;
    let submit = |api: Api| async move { api.try_submit(spec("job.key")).await };
    let none = submit(open.clone()).await.expect_err("no key");
    check(58, "no key", &none, refusal(Code::Unauthenticated, &["CREDENTIAL_REQUIRED"]));
    let tail = format!("{}x", &KEY[..KEY.len() - 1]);
    let padded = format!("{KEY}{}", " x");
    let longer = format!("{KEY}{KEY}");
    for wrong in [tail.as_str(), &KEY[..16], padded.as_str(), longer.as_str(), "x"] {
        let status = submit(open.with_key(wrong)).await.expect_err(wrong);
        check(58, wrong, &status, refusal(Code::Unauthenticated, &["CREDENTIAL_INVALID"]));
    }
    let foreign = submit(open.with_key(OTHER)).await.expect_err("its namespace is another");
    check(
        58,
        "a key of another namespace",
        &foreign,
        refusal(Code::PermissionDenied, &["PERMISSION_DENIED"]),
    );
    target.unharmed(1).await;
    submit(open.with_key(KEY)).await.expect("the right key");
    submit(open.with_key(OTHER).in_namespace("blue")).await.expect("the right namespace");
    let probe = http1::get(target.server.addr(), "/readyz").await.expect("an answer");
    assert_eq!(probe.status, 200, "probes need no key");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_61_a_host_this_server_is_not() {
    let mut target = Target::start().await;
    target.mark().await;
    let addr = target.server.addr();
    for host in ["evil.example", "evil.example:7070", "127.0.0.1.evil.example", "localhost@evil.example", ""]
    {
        let reply = http1::request(addr, "GET", "/readyz", &[("host", host)], b"").await.expect("an answer");
        assert!(
            [400, 403, 421].contains(&reply.status),
            "row 61, {host:?}: {} {}",
            reply.status,
            reply.text()
        );
        crate::EVIDENCE.add("cases", 1);
    }
    for host in ["localhost", "127.0.0.1", "[::1]:1"] {
        let reply = http1::request(addr, "GET", "/readyz", &[("host", host)], b"").await.expect("an answer");
        assert_eq!(reply.status, 200, "row 61, {host:?}");
    }
    let origin = [("origin", "https://evil.example"), ("content-type", "application/grpc-web+proto")];
    let reply =
        http1::request(addr, "POST", "/coretex.v1.JobService/SubmitJob", &origin, b"\0\0\0\0\0").await;
    assert_eq!(reply.expect("an answer").status, 403, "row 61, a page of another origin");
    let endpoint = tonic::transport::Endpoint::from_shared(target.server.url()).expect("an endpoint");
    let evil = endpoint.origin(http::Uri::from_static("http://evil.example")).connect_lazy();
    let mut jobs = pb::job_service_client::JobServiceClient::new(evil);
    let request = pb::SubmitJobRequest { spec: Some(spec("job.evil")), request_id: String::new() };
    let status = jobs.submit_job(request).await.expect_err("another authority");
    check(61, "gRPC to another authority", &status, refusal(Code::PermissionDenied, &["HOST_NOT_ALLOWED"]));
    target.unharmed(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_methods_and_namespaces_are_named() {
    let mut target = Target::start().await;
    target.mark().await;
    let status =
        raw_grpc::unary(&target.api, "JobService/NoSuchMethod", Bytes::new()).await.expect_err("none");
    check(0, "an unknown method", &status, refusal(Code::Unimplemented, &["UNKNOWN_METHOD"]));
    let status = raw_grpc::unary(&target.api, "NoService/Get", Bytes::new()).await.expect_err("none");
    check(0, "an unknown service", &status, refusal(Code::Unimplemented, &["UNKNOWN_METHOD"]));
    for bad in ["A B", "../x", &"n".repeat(65), "a*"] {
        let status = target.api.in_namespace(bad).try_submit(spec("job.x")).await.expect_err(bad);
        check(0, "a namespace that is no name", &status, refusal(Code::InvalidArgument, &["INVALID_FIELD"]));
    }
    target.unharmed(0).await;
}
