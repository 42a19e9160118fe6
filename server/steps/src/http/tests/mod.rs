//! The step against servers of this machine: what it sends, what it makes of answers, and whom it never calls.

mod guard;

use super::*;
use crate::Facts;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// A server of this machine. It notes what it was sent, and answers what it is told to.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) connects: Arc<AtomicUsize>,
    seen: Arc<Mutex<Vec<String>>>,
}

// === impl Server ===

impl Server {
    /// Answers with what `answer` makes of the number of the request and its text.
    pub(super) async fn start(answer: impl Fn(usize, &str) -> Vec<u8> + Send + Sync + 'static) -> Server {
        Server::at("127.0.0.1:0", answer).await
    }

    pub(super) async fn at(
        address: &str,
        answer: impl Fn(usize, &str) -> Vec<u8> + Send + Sync + 'static,
    ) -> Server {
        let listener = TcpListener::bind(address).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let server = Server { address, connects: Arc::default(), seen: Arc::default() };
        let (connects, seen, answer) = (server.connects.clone(), server.seen.clone(), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let number = connects.fetch_add(1, Ordering::SeqCst);
                let (seen, answer) = (seen.clone(), answer.clone());
                tokio::spawn(async move {
                    let text = read_request(&mut socket).await;
                    let answer = answer(number, &text);
                    seen.lock().expect("no panic").push(text);
                    let _ = socket.write_all(&answer).await;
                });
            }
        });
        server
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(super) fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("no panic").clone()
    }

    pub(super) fn count(&self) -> usize {
        self.connects.load(Ordering::SeqCst)
    }
}

async fn read_request(socket: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut text = Vec::new();
    let mut part = [0; 4096];
    loop {
        let whole = String::from_utf8_lossy(&text).into_owned();
        if let Some((head, body)) = whole.split_once("\r\n\r\n") {
            let len = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= len.unwrap_or(0) {
                return whole;
            }
        }
        match socket.read(&mut part).await {
            Ok(n) if n > 0 => text.extend_from_slice(&part[..n]),
            _ => return whole,
        }
    }
}

pub(super) fn answer(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

pub(super) fn facts() -> Facts {
    Facts {
        namespace: "default".into(),
        job_id: "job_1".into(),
        attempt: 1,
        idempotency_token: "token-of-the-job".into(),
        within: Duration::from_secs(20),
        hosts: None,
    }
}

pub(super) fn client(allow: &[&str]) -> Client {
    let allow = allow.iter().map(|one| one.parse().expect("a rule")).collect();
    Client::new(Settings { allow, ..Settings::default() })
}

async fn call(server: &Server, mut input: Value) -> Result<Value, StepFailure> {
    input["url"] = server.url(input["url"].as_str().unwrap_or("/")).into();
    client(&[&server.address.to_string()]).step(input, &facts()).await
}

#[tokio::test]
async fn a_request_is_sent_as_it_is_given_and_the_answer_is_read() {
    let server = Server::start(|_, _| {
        answer(
            "201 Created",
            "content-type: application/json\r\nx-a: 1\r\nx-a: 2\r\nset-cookie: s=1\r\n",
            r#"{"id":7}"#,
        )
    })
    .await;
    let input = json!({
        "url": "/things?kind=a", "method": "POST", "headers": { "X-Team": "core", "x-n": 3 },
        "query": { "q": "a b", "n": [1, 2], "none": null }, "body": { "name": "ü" },
    });
    let out = call(&server, input).await.expect("an answer");
    assert_eq!(out["status"], 201);
    assert_eq!(out["body"], json!({ "id": 7 }));
    assert_eq!(out["headers"]["x-a"], "1, 2");
    assert!(out["headers"].get("set-cookie").is_none());
    let seen = server.seen().remove(0);
    assert!(seen.starts_with("POST /things?kind=a&n=1&n=2&q=a%20b HTTP/1.1\r\n"), "{seen}");
    for line in [
        "x-team: core",
        "x-n: 3",
        "content-type: application/json",
        "idempotency-key: token-of-the-job",
        &format!("host: {}", server.address),
        "connection: close",
    ] {
        assert!(seen.contains(line), "{line} in {seen}");
    }
    assert!(seen.ends_with("{\"name\":\"ü\"}"), "{seen}");
}

#[tokio::test]
async fn a_key_of_ones_own_is_sent_in_place_of_the_token() {
    let server = Server::start(|_, _| answer("200 OK", "", "")).await;
    let input = json!({ "method": "PUT", "headers": { "Idempotency-Key": "mine" }, "body": "as it is" });
    let out = call(&server, input).await.expect("an answer");
    assert_eq!(out["body"], Value::Null);
    let seen = server.seen().remove(0);
    assert!(seen.contains("idempotency-key: mine") && !seen.contains("token-of-the-job"), "{seen}");
    assert!(seen.contains("content-type: text/plain") && seen.ends_with("as it is"), "{seen}");
}

#[tokio::test]
async fn bodies_are_json_text_or_base64_by_what_they_are() {
    for (kind, body, wanted) in [
        ("application/problem+json; charset=utf-8", &b"[1]"[..], json!([1])),
        ("application/json", b"{oops", json!("{oops")),
        ("text/html", b"<p>", json!("<p>")),
        ("image/png", b"\xff\x00", json!("/wA=")),
    ] {
        let server =
            Server::start(move |_, _| answer("200 OK", &format!("content-type: {kind}\r\n"), body)).await;
        let out = call(&server, json!({})).await.expect("an answer");
        assert_eq!(out["body"], wanted, "{kind}");
        assert_eq!(out.get("encoding").is_some(), kind == "image/png");
    }
}

#[tokio::test]
async fn statuses_say_whether_trying_again_may_help_and_when() {
    for (status, headers, retryable, after) in [
        ("400 Bad Request", "", false, None),
        ("404 Not Found", "retry-after: 5\r\n", false, None),
        ("304 Not Modified", "", false, None),
        ("408 Request Timeout", "", true, None),
        ("429 Too Many Requests", "retry-after: 7\r\n", true, Some(7)),
        ("500 Internal Server Error", "", true, None),
        ("503 Service Unavailable", "retry-after: Thu, 01 Jan 1970 00:00:00 GMT\r\n", true, Some(0)),
        ("503 Service Unavailable", "retry-after: 999999\r\n", true, None),
        ("503 Service Unavailable", "retry-after: soon\r\n", true, None),
    ] {
        let server = Server::start(move |_, _| answer(status, headers, "x".repeat(10_000))).await;
        let failure = call(&server, json!({})).await.expect_err("a failure");
        assert_eq!((failure.kind, failure.retryable), ("HTTP_STATUS", retryable), "{status}");
        assert_eq!(failure.retry_after, after.map(Duration::from_secs), "{status} {headers}");
        let details = failure.details.expect("the answer");
        assert!(status.starts_with(&details["status"].to_string()), "{details}");
        let body = details["body"].as_str().map(|body| body.chars().count());
        // A 304 has none.
        assert_eq!(body, (details["status"] != 304).then_some(TOLD_MAX + 1));
    }
}

#[tokio::test]
async fn nobody_there_and_nobody_answering_may_be_over_the_next_time() {
    let nobody =
        TcpListener::bind("127.0.0.1:0").await.expect("a free port").local_addr().expect("an address");
    let input = json!({ "url": format!("http://{nobody}/") });
    let failure = client(&[&nobody.to_string()]).step(input, &facts()).await.expect_err("nobody");
    assert_eq!((failure.kind, failure.retryable), ("HTTP_UNREACHABLE", true));

    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = silent.local_addr().expect("an address");
    let input = json!({ "url": format!("http://{address}/") });
    let facts = Facts { within: Duration::from_millis(100), ..facts() };
    let failure = client(&[&address.to_string()]).step(input, &facts).await.expect_err("silence");
    assert_eq!((failure.kind, failure.retryable), ("HTTP_TIMEOUT", true));

    let broken = Server::start(|_, _| b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf".to_vec()).await;
    let failure = call(&broken, json!({})).await.expect_err("half an answer");
    assert_eq!((failure.kind, failure.retryable), ("HTTP_UNREACHABLE", true));
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    let server = Server::start(|_, _| answer("200 OK", "", vec![b'x'; exchange::BODY_MAX + 1])).await;
    let failure = call(&server, json!({})).await.expect_err("too much");
    assert_eq!((failure.kind, failure.retryable), ("RESULT_TOO_LARGE", false));
}

#[tokio::test]
async fn bad_input_is_told_all_at_once_and_nothing_is_sent() {
    let server = Server::start(|_, _| answer("200 OK", "", "")).await;
    let url = server.url("/");
    for (input, told) in [
        (json!(null), "input: is null"),
        (json!({}), "input.url: is missing"),
        (json!({ "url": 1 }), "input.url: is a number"),
        (json!({ "url": "" }), "input.url"),
        (json!({ "url": url, "methd": "GET" }), "did you mean"),
        (json!({ "url": url, "method": "GETT" }), "did you mean"),
        (json!({ "url": url, "method": "CONNECT" }), "input.method"),
        (json!({ "url": url, "headers": [] }), "input.headers: is a list"),
        (json!({ "url": url, "headers": { "a b": "x" } }), "no name of a header"),
        (json!({ "url": url, "headers": { "x": "a\r\nhost: b" } }), "control characters"),
        (json!({ "url": url, "headers": { "Host": "b" } }), "set by the server itself"),
        (json!({ "url": url, "headers": { "transfer-encoding": "chunked" } }), "set by the server itself"),
        (json!({ "url": url, "headers": { "x": {} } }), "input.headers.\"x\": is a map"),
        (json!({ "url": url, "headers": { "authorization": "secret://TOKEN" } }), "reference to a secret"),
        (json!({ "url": url, "query": { "q": {} } }), "where a text or a number"),
        (json!({ "url": url, "query": { "q": "x".repeat(9_000) } }), "longer than"),
        (json!({ "url": url, "body": 1 }), "no place in a GET"),
        (json!({ "url": url, "headers": { "x": "y".repeat(9_000) } }), "at most 8192"),
    ] {
        let failure =
            client(&[&server.address.to_string()]).step(input.clone(), &facts()).await.expect_err("bad");
        assert_eq!((failure.kind, failure.retryable), ("INVALID_INPUT", false), "{input}");
        assert!(failure.message.contains(told), "{told} in {}", failure.message);
    }
    let both = json!({ "url": 1, "method": "X", "heders": {} });
    let failure = client(&[]).step(both, &facts()).await.expect_err("bad");
    assert_eq!(
        failure.message.split("; ").filter(|one| one.contains("input.")).count(),
        3,
        "{}",
        failure.message
    );
    assert_eq!(server.count(), 0);
}

#[tokio::test]
async fn certificates_are_checked() {
    let key = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
    let pem = key.cert.pem();
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(
                vec![key.cert.der().clone()],
                rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).expect("a key"),
            )
            .expect("a pair");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(socket).await else { return };
                let text = read_request(&mut stream).await;
                let said = match text.contains("/down") {
                    true => answer("302 Found", "location: http://localhost/\r\n", ""),
                    false => answer("200 OK", "", "safe"),
                };
                let _ = stream.write_all(&said).await;
                let _ = stream.shutdown().await;
            });
        }
    });
    let allow =
        vec![format!("localhost:{port}").parse().expect("a rule"), "localhost".parse().expect("a rule")];
    let trusting =
        Client::new(Settings { allow: allow.clone(), authorities: Some(pem.into()), ..Settings::default() });
    let input = |path: &str| json!({ "url": format!("https://localhost:{port}{path}") });
    let out = trusting.step(input("/"), &facts()).await.expect("an answer");
    assert_eq!(out["body"], "safe");
    let failure = trusting.step(input("/down"), &facts()).await.expect_err("a downgrade");
    assert_eq!(failure.kind, "EGRESS_REFUSED", "{failure}");
    assert!(failure.message.contains("from https"), "{failure}");
    let strict = Client::new(Settings { allow, ..Settings::default() });
    let failure = strict.step(input("/"), &facts()).await.expect_err("an unknown authority");
    assert_eq!(failure.kind, "HTTP_UNREACHABLE", "{failure}");
}
