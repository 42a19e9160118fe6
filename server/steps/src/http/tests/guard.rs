//! The guard: addresses that are nobody's business, however they are written, said or led to.

use super::*;
use crate::http::egress::Net;
use futures::future::BoxFuture;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::IpAddr;
use tokio::net::TcpStream;

/// Hosts and whole addresses that lead to this machine or its network; `PORT` is where a canary listens.
const VECTORS: &[&str] = &[
    "http://127.0.0.1:PORT/",
    "http://127.0.0.2:PORT/",
    "http://127.255.255.254:PORT/",
    "http://127.1:PORT/",
    "http://127.0.1:PORT/",
    "http://2130706433:PORT/",
    "http://0x7f000001:PORT/",
    "http://0x7f.0.0.1:PORT/",
    "http://0x7f.0x0.0x0.0x1:PORT/",
    "http://0177.0.0.1:PORT/",
    "http://0177.0000.0000.0001:PORT/",
    "http://017700000001:PORT/",
    "http://0:PORT/",
    "http://0.0.0.0:PORT/",
    "http://00000.0.0.0:PORT/",
    "http://0x0:PORT/",
    "http://localhost:PORT/",
    "http://LOCALHOST:PORT/",
    "http://localhost.:PORT/",
    "http://127.0.0.1.:PORT/",
    "https://127.0.0.1:PORT/",
    "https://localhost:PORT/",
    "http://[::1]:PORT/",
    "http://[0:0:0:0:0:0:0:1]:PORT/",
    "http://[0000::0001]:PORT/",
    "http://[::]:PORT/",
    "http://[::ffff:127.0.0.1]:PORT/",
    "http://[::ffff:7f00:1]:PORT/",
    "http://[0:0:0:0:0:ffff:7f00:1]:PORT/",
    "http://[::127.0.0.1]:PORT/",
    "http://[::ffff:a9fe:a9fe]:PORT/",
    "http://[::ffff:0:127.0.0.1]:PORT/",
    "http://[64:ff9b::127.0.0.1]:PORT/",
    "http://[64:ff9b:1::7f00:1]:PORT/",
    "http://[2002:7f00:1::]:PORT/",
    "http://[2001:0:7f00:1::]:PORT/",
    "http://[fe80::1]:PORT/",
    "http://[fe80::1%25lo]:PORT/",
    "http://[fc00::1]:PORT/",
    "http://[fd00:ec2::254]:PORT/",
    "http://[ff02::1]:PORT/",
    "http://[2001:db8::1]:PORT/",
    "http://10.0.0.1:PORT/",
    "http://100.64.0.1:PORT/",
    "http://100.100.100.200:PORT/",
    "http://169.254.169.254:PORT/latest/meta-data/",
    "http://168.63.129.16:PORT/",
    "http://172.16.0.1:PORT/",
    "http://192.168.0.1:PORT/",
    "http://192.0.0.192:PORT/",
    "http://192.0.2.1:PORT/",
    "http://198.18.0.1:PORT/",
    "http://198.51.100.1:PORT/",
    "http://203.0.113.1:PORT/",
    "http://224.0.0.1:PORT/",
    "http://255.255.255.255:PORT/",
    "http://240.0.0.1:PORT/",
    "http://2852039166:PORT/",
    "http://0xa9fea9fe:PORT/",
    "http://0251.0376.0251.0376:PORT/",
    "http://user@127.0.0.1:PORT/",
    "http://example.org@127.0.0.1:PORT/",
    "http://example.org:80@127.0.0.1:PORT/",
    "http://127.0.0.1:PORT@example.org/",
    "http://127.0.0.1:PORT\\@example.org/",
    "http://example.org\\@127.0.0.1:PORT/",
    "http://127.0.0.1:PORT#@example.org/",
    "http://127.0.0.1:PORT?@example.org/",
    "http://①②⑦.⓪.⓪.①:PORT/",
    "http://127。0。0。1:PORT/",
    "http://127%2e0%2e0%2e1:PORT/",
    "http://%6cocalhost:PORT/",
    "http://localhost%00.org:PORT/",
    "http:127.0.0.1:PORT/",
    "http:/127.0.0.1:PORT/",
    "http:///127.0.0.1:PORT/",
    "//127.0.0.1:PORT/",
    "ftp://127.0.0.1:PORT/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:PORT/_x",
    "http://127.0.0.1:PORT\r\n/",
    " http://127.0.0.1:PORT/",
    "http://127.0.0.1\t:PORT/",
    "jar:http://127.0.0.1:PORT!/",
    "dict://127.0.0.1:PORT/",
];

/// Whether anybody was there at all, over both kinds of addresses.
async fn canaries() -> (u16, Vec<Server>) {
    let first = Server::at("127.0.0.1:0", |_, _| answer("200 OK", "", "canary")).await;
    let port = first.address.port();
    let mut all = vec![first];
    // A machine without IPv6 has nobody to listen there.
    if TcpListener::bind(format!("[::1]:{port}")).await.is_ok() {
        all.push(Server::at(&format!("[::1]:{port}"), |_, _| answer("200 OK", "", "canary")).await);
    }
    (port, all)
}

#[tokio::test]
async fn no_address_of_this_machine_or_its_network_is_ever_connected_to() {
    assert!(VECTORS.len() >= 50, "{}", VECTORS.len());
    let (port, canaries) = canaries().await;
    let free = client(&[&format!(":{port}")]);
    for vector in VECTORS {
        let url = vector.replace("PORT", &port.to_string());
        let failure = free.step(json!({ "url": url }), &facts()).await.expect_err(&url);
        assert!(matches!(failure.kind, "EGRESS_REFUSED" | "INVALID_INPUT"), "{url}: {failure}");
        assert!(!failure.retryable, "{url}: {failure}");
    }
    // The same, said by a server that may be called.
    let (said, told) = (Arc::new(Mutex::new(String::new())), port);
    let (location, vectors) = (said.clone(), VECTORS);
    let led = Server::start(move |_, _| {
        let location = location.lock().expect("no panic").clone();
        answer("302 Found", &format!("location: {location}\r\n"), "")
    })
    .await;
    let leading = client(&[&format!(":{port}"), &led.address.to_string()]);
    for vector in vectors.iter().filter(|vector| !vector.contains('\r') && vector.is_ascii()) {
        let url = vector.replace("PORT", &told.to_string());
        *said.lock().expect("no panic") = url.clone();
        let before = led.count();
        let out = leading.step(json!({ "url": led.url("/") }), &facts()).await;
        let failure = out.expect_err(&url);
        // Some are paths to a server that sends on: then it was asked once more each time.
        assert!(
            matches!(failure.kind, "EGRESS_REFUSED" | "HTTP_REDIRECTS" | "HTTP_STATUS"),
            "{url}: {failure}"
        );
        assert!(led.count() > before);
    }
    assert_eq!(canaries.iter().map(Server::count).sum::<usize>(), 0, "somebody came by");
    // The canary can sing: whoever is allowed does reach it.
    let out =
        client(&[&format!("127.0.0.1:{port}")]).step(json!({ "url": canaries[0].url("/") }), &facts()).await;
    assert_eq!(out.expect("an answer")["body"], "canary");
    assert_eq!(canaries[0].count(), 1);
}

/// Names that mean one address now and another one later; and a way to public addresses that leads to a server here.
#[derive(Debug, Default)]
struct Stub {
    names: Mutex<HashMap<String, VecDeque<IpAddr>>>,
    asked: AtomicUsize,
    /// Every address that was connected to.
    connected: Mutex<Vec<SocketAddr>>,
    public: Mutex<Option<SocketAddr>>,
}

impl Net for Stub {
    fn resolve(&self, name: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut names = self.names.lock().expect("no panic");
        let found = names
            .get_mut(&name)
            .and_then(|all| if all.len() > 1 { all.pop_front() } else { all.front().copied() });
        Box::pin(async move { found.map(|one| vec![one]).ok_or_else(|| io::Error::other("no such name")) })
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<TcpStream>> {
        self.connected.lock().expect("no panic").push(address);
        let public = self.public.lock().expect("no panic").expect("a server");
        Box::pin(TcpStream::connect(public))
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

async fn stubbed(
    names: &[(&str, &[&str])],
    answer: impl Fn(usize, &str) -> Vec<u8> + Send + Sync + 'static,
) -> (Client, Arc<Stub>, Server) {
    let server = Server::start(answer).await;
    let stub = Arc::new(Stub::default());
    *stub.public.lock().expect("no panic") = Some(server.address);
    let all = names.iter().map(|(name, all)| (name.to_string(), all.iter().map(|one| ip(one)).collect()));
    *stub.names.lock().expect("no panic") = all.collect();
    (Client::new(Settings { net: stub.clone(), ..Settings::default() }), stub, server)
}

const PUBLIC: &str = "93.184.216.34";

#[tokio::test]
async fn a_name_is_looked_up_once_and_what_it_means_later_does_not_matter() {
    let names: &[(&str, &[&str])] = &[("rebind.example", &[PUBLIC, "127.0.0.1"])];
    let (client, stub, _server) = stubbed(names, |_, _| answer("200 OK", "", "public")).await;
    let url = json!({ "url": "http://rebind.example/" });
    let out = client.step(url.clone(), &facts()).await.expect("it was public when it was asked");
    assert_eq!(out["body"], "public");
    assert_eq!(stub.asked.load(Ordering::SeqCst), 1);
    assert_eq!(*stub.connected.lock().expect("no panic"), [SocketAddr::new(ip(PUBLIC), 80)]);
    let failure = client.step(url, &facts()).await.expect_err("now it is private");
    assert_eq!(failure.kind, "EGRESS_REFUSED");
    assert_eq!(stub.connected.lock().expect("no panic").len(), 1);
}

#[tokio::test]
async fn a_redirect_is_judged_anew_also_where_the_name_is_the_same() {
    let names: &[(&str, &[&str])] = &[("rebind.example", &[PUBLIC, "169.254.169.254"])];
    let (client, stub, server) = stubbed(names, |_, _| answer("302 Found", "location: /again\r\n", "")).await;
    let failure =
        client.step(json!({ "url": "http://rebind.example/" }), &facts()).await.expect_err("private");
    assert_eq!(failure.kind, "EGRESS_REFUSED", "{failure}");
    assert!(!failure.message.contains("169.254"), "{failure}");
    assert_eq!((stub.asked.load(Ordering::SeqCst), server.count()), (2, 1));
}

#[tokio::test]
async fn redirects_are_few_and_lead_where_they_say() {
    let names: &[(&str, &[&str])] = &[("a.example", &[PUBLIC])];
    let (client, stub, server) = stubbed(names, |n, _| match n {
        3 => answer("200 OK", "", "there"),
        n => answer("302 Found", &format!("location: /{n}\r\n"), ""),
    })
    .await;
    let out = client.step(json!({ "url": "http://a.example/" }), &facts()).await.expect("three are followed");
    assert_eq!(out["body"], "there");
    assert_eq!(server.count(), 4);
    let (client, _, server) =
        stubbed(names, |n, _| answer("302 Found", &format!("location: /{n}\r\n"), "")).await;
    let failure = client.step(json!({ "url": "http://a.example/" }), &facts()).await.expect_err("a circle");
    assert_eq!((failure.kind, server.count()), ("HTTP_REDIRECTS", 4));
    assert_eq!(stub.connected.lock().expect("no panic").len(), 4);
}

#[tokio::test]
async fn what_is_meant_for_one_server_is_not_shown_to_another() {
    let names: &[(&str, &[&str])] = &[("a.example", &[PUBLIC]), ("b.example", &["1.1.1.1"])];
    let to = |status: &'static str, location: &'static str| {
        move |n: usize, _: &str| match n {
            0 => answer(status, &format!("location: {location}\r\n"), ""),
            _ => answer("200 OK", "", ""),
        }
    };
    let headers =
        json!({ "Authorization": "Bearer x", "Cookie": "c=1", "X-Api-Key": "k", "Accept": "text/x" });
    let input =
        json!({ "url": "http://a.example/", "method": "POST", "headers": headers, "body": { "n": 1 } });
    let (client, _, server) = stubbed(names, to("307 Temporary Redirect", "http://b.example/x")).await;
    client.step(input.clone(), &facts()).await.expect("an answer");
    let seen = server.seen();
    assert!(seen[0].contains("authorization: Bearer x") && seen[0].contains("x-api-key: k"));
    assert!(seen[1].starts_with("POST /x") && seen[1].ends_with("{\"n\":1}"), "{}", seen[1]);
    assert!(seen[1].contains("host: b.example") && seen[1].contains("accept: text/x"));
    for name in ["authorization", "cookie", "x-api-key", "idempotency-key"] {
        assert!(!seen[1].contains(name), "{name} in {}", seen[1]);
    }
    let (client, _, server) = stubbed(names, to("303 See Other", "/x")).await;
    client.step(input, &facts()).await.expect("an answer");
    let seen = server.seen();
    assert!(seen[1].starts_with("GET /x") && seen[1].contains("authorization: Bearer x"), "{}", seen[1]);
    assert!(!seen[1].contains("content-type") && seen[1].ends_with("\r\n\r\n"), "{}", seen[1]);
}

#[tokio::test]
async fn other_ports_are_allowed_by_name_only() {
    let (client, stub, _server) = stubbed(&[("a.example", &[PUBLIC])], |_, _| answer("200 OK", "", "")).await;
    for port in [1, 22, 25, 81, 6379, 8080, 65535] {
        let input = json!({ "url": format!("http://a.example:{port}/") });
        let failure = client.step(input, &facts()).await.expect_err("another port");
        assert_eq!(failure.kind, "EGRESS_REFUSED");
    }
    assert!(stub.connected.lock().expect("no panic").is_empty());
    for (rule, url, is_allowed) in [
        (":8080", "http://a.example:8080/", true),
        ("a.example:8080", "http://a.example:8080/", true),
        ("a.example:8080", "http://a.example:8081/", false),
        ("b.example:8080", "http://a.example:8080/", false),
        ("a.example", "http://a.example:8080/", false),
    ] {
        let allow = vec![rule.parse().expect("a rule")];
        let client = Client::new(Settings { allow, net: stub.clone(), ..Settings::default() });
        let out = client.step(json!({ "url": url }), &facts()).await;
        assert_eq!(out.is_ok(), is_allowed, "{rule} {url}: {out:?}");
    }
}

#[tokio::test]
async fn a_name_with_one_private_address_among_others_is_not_called() {
    #[derive(Debug)]
    struct Mixed;
    impl Net for Mixed {
        fn resolve(&self, _: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
            Box::pin(async { Ok(vec![ip(PUBLIC), ip("10.0.0.1")]) })
        }
        fn connect(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<TcpStream>> {
            panic!("connected to {address}")
        }
    }
    let client = Client::new(Settings { net: Arc::new(Mixed), ..Settings::default() });
    let failure =
        client.step(json!({ "url": "http://mixed.example/" }), &facts()).await.expect_err("refused");
    assert_eq!(failure.kind, "EGRESS_REFUSED");
}

#[tokio::test]
async fn what_the_policy_allows_a_job_holds_at_every_hop() {
    let names: &[(&str, &[&str])] = &[("a.example", &[PUBLIC]), ("b.example", &["1.1.1.1"])];
    let led = |_: usize, text: &str| match text.contains("host: a.example") {
        true => answer("302 Found", "location: http://b.example/\r\n", ""),
        false => answer("200 OK", "", "there"),
    };
    let (client, _, server) = stubbed(names, led).await;
    let url = json!({ "url": "http://a.example/" });
    for (hosts, calls, is_allowed) in [
        (&[][..], 0, false),
        (&["b.example"], 0, false),
        (&["A.example"], 1, false),
        (&["a.example:80", "b.example"], 3, true),
    ] {
        let hosts = Some(hosts.iter().map(ToString::to_string).collect());
        let out = client.step(url.clone(), &Facts { hosts, ..facts() }).await;
        assert_eq!(out.is_ok(), is_allowed, "{out:?}");
        assert_eq!(server.count(), calls);
    }
}
