//! Client certificates: whose they are, and those that are nobody's. And certificates of the server that change.

use super::keys;
use crate::running_server::{Server, reason};
use coretex_contract::v1 as pb;
use coretex_contract::v1::admin_service_client::AdminServiceClient;
use coretex_contract::v1::job_service_client::JobServiceClient;
use coretex_domain::access::{Role, Roles};
use coretex_gateway::{Access, CertificateRule, GatewaySettings, Tls, TlsFiles};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType, date_time_ymd};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

type Ca = CertifiedIssuer<'static, KeyPair>;

/// A certificate and its key.
#[derive(Clone)]
struct Pair {
    cert: String,
    key: String,
}

fn ca(name: &str) -> Ca {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority")
}

fn params(uri: Option<&str>) -> CertificateParams {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    params.subject_alt_names.extend(uri.map(|uri| SanType::URI(uri.try_into().expect("ASCII"))));
    params.distinguished_name.push(rcgen::DnType::CommonName, "spiffe://a/ops");
    params
}

fn signed(ca: &Ca, params: CertificateParams) -> Pair {
    let key = KeyPair::generate().expect("a key");
    let cert = params.signed_by(&key, ca).expect("signed");
    Pair { cert: cert.pem(), key: key.serialize_pem() }
}

fn client(ca: &Ca, uri: &str) -> Pair {
    signed(ca, params(Some(uri)))
}

/// A channel that trusts one authority, and shows a certificate when it has one.
fn channel(addr: SocketAddr, trusted: &str, shown: Option<&Pair>) -> Channel {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(trusted.as_bytes()).expect("PEM")).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("versions").with_root_certificates(roots);
    let mut config = match shown {
        None => config.with_no_client_auth(),
        Some(pair) => {
            let cert = CertificateDer::from_pem_slice(pair.cert.as_bytes()).expect("PEM");
            let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("PEM");
            config.with_client_auth_cert(vec![cert], key).expect("a pair")
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let endpoint = Endpoint::from_shared(format!("http://{addr}")).expect("an address");
    endpoint.connect_with_connector_lazy(tower::service_fn(move |_: http::Uri| {
        let connector = connector.clone();
        async move {
            let socket = tokio::net::TcpStream::connect(addr).await?;
            let name = ServerName::try_from("localhost").expect("a name");
            connector.connect(name, socket).await.map(TokioIo::new)
        }
    }))
}

async fn info(channel: Channel) -> Result<(), tonic::Status> {
    AdminServiceClient::new(channel).get_server_info(pb::GetServerInfoRequest {}).await.map(|_| ())
}

fn tls(own: &Pair, clients: Option<&Ca>) -> Tls {
    Tls {
        cert_pem: own.cert.clone().into_bytes(),
        key_pem: own.key.clone().into_bytes(),
        client_ca_pem: clients.map(|ca| ca.pem().into_bytes()),
        files: None,
    }
}

#[tokio::test]
async fn a_certificate_is_who_its_uri_says() {
    let (servers, clients, others) = (ca("servers"), ca("clients"), ca("others"));
    let rule = |uri: &str, name: &str, role| CertificateRule {
        uri: uri.into(),
        name: name.into(),
        namespaces: Vec::new(),
        roles: Roles::of(&[role]),
    };
    let rules = vec![
        rule("spiffe://a/ops", "ops", Role::Operator),
        rule("spiffe://a/workers/*", "workers", Role::Worker),
    ];
    let access = Access::closed().certificates(rules).keys(keys(&[("key", "ann", &[], Role::Submitter)]));
    let own = signed(&servers, params(None));
    let settings = GatewaySettings { access, tls: Some(tls(&own, Some(&clients))), ..Default::default() };
    let server = Server::with(settings).await;
    let trusted = servers.pem();
    let with = |pair: &Pair| channel(server.addr, &trusted, Some(pair));

    let ops = with(&client(&clients, "spiffe://a/ops"));
    let submit = || {
        let spec = Some(crate::running_server::spec("job.c"));
        pb::SubmitJobRequest { spec, ..Default::default() }
    };
    let job = JobServiceClient::new(ops.clone()).submit_job(submit()).await.expect("an operator may");
    let get = pb::GetJobRequest { job_id: job.into_inner().job.expect("a job").job_id, ..Default::default() };
    let found = JobServiceClient::new(ops.clone()).get_job(get).await.expect("there").into_inner().job;
    assert_eq!(found.expect("a job").submitter, "ops");
    let worker = with(&client(&clients, "spiffe://a/workers/1"));
    info(worker.clone()).await.expect("a worker may");
    let denied =
        JobServiceClient::new(worker.clone()).submit_job(submit()).await.expect_err("a worker may not");
    assert_eq!(denied.code(), Code::PermissionDenied);
    let with_key = Server::with_key(submit(), "key");
    JobServiceClient::new(worker).submit_job(with_key).await.expect("the key goes before the certificate");

    for (what, pair) in [
        ("a URI nobody named", client(&clients, "spiffe://a/guests/1")),
        ("only a common name", signed(&clients, params(None))),
    ] {
        assert_eq!(info(with(&pair)).await.expect_err(what).code(), Code::Unauthenticated, "{what}");
    }
    let mut old = params(Some("spiffe://a/ops"));
    (old.not_before, old.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2020, 2, 1));
    let own_key = KeyPair::generate().expect("a key");
    let self_signed = params(Some("spiffe://a/ops")).self_signed(&own_key).expect("signed");
    for (what, pair) in [
        ("expired", signed(&clients, old)),
        ("of another authority", client(&others, "spiffe://a/ops")),
        ("self-signed", Pair { cert: self_signed.pem(), key: own_key.serialize_pem() }),
    ] {
        let status = info(with(&pair)).await.expect_err(what);
        assert_eq!(reason(&status), "", "{what}: the connection is cut before any call, {status:?}");
    }
    assert!(info(channel(server.addr, &trusted, None)).await.is_err(), "none");
    server.stop().await;
}

#[tokio::test]
async fn new_certificates_are_taken_and_broken_ones_are_not() {
    let (old, new) = (ca("old"), ca("new"));
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let write = |pair: &Pair| {
        std::fs::write(path("cert"), &pair.cert).expect("written");
        std::fs::write(path("key"), &pair.key).expect("written");
    };
    let first = signed(&old, params(None));
    write(&first);
    let every = Duration::from_millis(20);
    let files = TlsFiles { cert: path("cert"), key: path("key"), client_ca: None, every };
    let tls = Tls { files: Some(files), ..tls(&first, None) };
    let server = Server::with(GatewaySettings { tls: Some(tls), ..Default::default() }).await;
    let (old_pem, new_pem) = (old.pem(), new.pem());
    let (under_old, under_new) =
        (|| info(channel(server.addr, &old_pem, None)), || info(channel(server.addr, &new_pem, None)));
    let kept = channel(server.addr, &old_pem, None);
    info(kept.clone()).await.expect("the first");

    std::fs::write(path("cert"), "nonsense").expect("written");
    tokio::time::sleep(every * 10).await;
    under_old().await.expect("a broken file changes nothing");
    std::fs::remove_file(path("cert")).expect("removed");
    tokio::time::sleep(every * 10).await;
    under_old().await.expect("nor does one that is gone");

    write(&signed(&new, params(None)));
    let mut tries = 0;
    while under_new().await.is_err() && tries < 200 {
        tries += 1;
        tokio::time::sleep(every).await;
    }
    under_new().await.expect("new connections meet the new one");
    assert!(under_old().await.is_err(), "and no longer the old one");
    info(kept).await.expect("open connections go on");
    server.stop().await;
}
