//! API keys the server keeps: made, used, rotated, revoked, and what nobody may make of them.

mod bounds;
mod endings;

use crate::access::keys;
use crate::running_server::{Server, reason, spec};
use coretex_contract::v1 as pb;
use coretex_contract::v1::auth_service_client::AuthServiceClient;
use coretex_domain::access::Role;
use coretex_engine::audit::Record;
use coretex_gateway::{Access, GatewaySettings};
use coretex_ports::memory::MemoryStore;
use tonic::transport::Channel;
use tonic::{Code, Status};

/// A key of the settings, for all namespaces.
const ROOT: &str = "root";
const PEPPER: [u8; 32] = [5; 32];

fn settings() -> GatewaySettings {
    let named: [(&str, &str, &[&str], Role); 4] = [
        (ROOT, "root", &[], Role::Admin),
        ("bound", "ann", &["a", "b"], Role::Admin),
        ("watchman", "carl", &["a"], Role::Auditor),
        ("operator", "olaf", &[], Role::Operator),
    ];
    let mut access = Access::closed().keys(keys(&named));
    access.failed_logins_max = 0;
    GatewaySettings { access, key_pepper: Some(PEPPER.to_vec()), ..Default::default() }
}

async fn server() -> Server {
    Server::with(settings()).await
}

fn auth(server: &Server) -> AuthServiceClient<Channel> {
    AuthServiceClient::new(server.channel.clone())
}

fn wanted(name: &str, role: Role) -> pb::CreateApiKeyRequest {
    pb::CreateApiKeyRequest { name: name.into(), roles: vec![role.name().into()], ..Default::default() }
}

/// A call of somebody in a namespace.
fn by<T>(message: T, key: &str, namespace: &str) -> tonic::Request<T> {
    let mut request = Server::with_key(message, key);
    request.metadata_mut().insert("coretex-namespace", namespace.parse().expect("a value"));
    request
}

async fn make_by(
    server: &Server,
    key: &str,
    namespace: &str,
    wanted: pb::CreateApiKeyRequest,
) -> Result<(pb::ApiKey, String), Status> {
    let reply = auth(server).create_api_key(by(wanted, key, namespace)).await?.into_inner();
    Ok((reply.api_key.expect("a key"), reply.secret))
}

async fn make(server: &Server, wanted: pb::CreateApiKeyRequest) -> (pb::ApiKey, String) {
    make_by(server, ROOT, "default", wanted).await.expect("made")
}

async fn rotate(server: &Server, key_id: &str, overlap_ms: u64) -> Result<pb::RotateApiKeyResponse, Status> {
    let overlap = Some(coretex_contract::Duration {
        seconds: i64::try_from(overlap_ms / 1_000).expect("a span"),
        nanos: i32::try_from(overlap_ms % 1_000 * 1_000_000).expect("a span"),
    });
    let request = pb::RotateApiKeyRequest { key_id: key_id.into(), overlap, ..Default::default() };
    auth(server).rotate_api_key(Server::with_key(request, ROOT)).await.map(tonic::Response::into_inner)
}

async fn revoke(server: &Server, key_id: &str) -> pb::ApiKey {
    let request = pb::RevokeApiKeyRequest { key_id: key_id.into(), ..Default::default() };
    let reply = auth(server).revoke_api_key(Server::with_key(request, ROOT)).await.expect("revoked");
    reply.into_inner().api_key.expect("a key")
}

async fn get(server: &Server, key_id: &str) -> pb::ApiKey {
    let request = Server::with_key(pb::GetApiKeyRequest { key_id: key_id.into() }, ROOT);
    let reply = auth(server).get_api_key(request).await.expect("there");
    reply.into_inner().api_key.expect("a key")
}

async fn submit(server: &Server, key: &str, namespace: &str) -> Result<pb::SubmitJobResponse, Status> {
    let request = pb::SubmitJobRequest { spec: Some(spec("job.a")), ..Default::default() };
    server.jobs().submit_job(by(request, key, namespace)).await.map(tonic::Response::into_inner)
}

/// Refused as every wrong credential is; the audit says why.
async fn is_turned_away(server: &Server, key: &str, why: &str) {
    let refused = submit(server, key, "default").await.expect_err(why);
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unauthenticated, "CREDENTIAL_INVALID"));
    assert_eq!(refused.message(), "the credential is not valid", "one text for all causes");
    let told = last_record(server).await;
    assert!(told.detail.ends_with(why), "{why}: {told:?}");
    assert!(!told.detail.contains(key), "{told:?}");
}

async fn last_record(server: &Server) -> Record {
    let (records, _) = server.engine.audit_records(true, None, 1).await.expect("readable");
    records.into_iter().next().expect("a record")
}

#[tokio::test]
async fn a_key_is_told_once_and_opens_what_its_role_gives() {
    let server = server().await;
    let (made, secret) = make(&server, wanted("ci", Role::Submitter)).await;
    assert!(secret.starts_with(&format!("ctx_{}_", made.key_id)) && secret.len() == 56, "{made:?}");
    assert_eq!(
        (made.name.as_str(), made.identity.as_str(), made.state()),
        ("ci", "ci", pb::ApiKeyState::Active)
    );
    assert_eq!((made.roles.clone(), made.created_by.as_str()), (vec!["submitter".to_owned()], "root"));
    assert_eq!(made.last_used_time, None);
    let record = last_record(&server).await;
    assert_eq!(*record.subject, format!("ci {}", made.key_id));

    let job = submit(&server, &secret, "default").await.expect("a submitter").job.expect("a job");
    let history = pb::GetJobHistoryRequest { job_id: job.job_id, ..Default::default() };
    let told = server.jobs().get_job_history(Server::with_key(history, &secret)).await.expect("told");
    assert_eq!(told.into_inner().events[0].actor, "ci");
    let denied =
        make_by(&server, &secret, "default", wanted("more", Role::Viewer)).await.expect_err("denied");
    assert_eq!((denied.code(), reason(&denied).as_str()), (Code::PermissionDenied, "PERMISSION_DENIED"));
    let (_, reads) = make(&server, wanted("reader", Role::Viewer)).await;
    assert_eq!(
        submit(&server, &reads, "default").await.expect_err("reads only").code(),
        Code::PermissionDenied
    );
    assert!(get(&server, &made.key_id).await.last_used_time.is_some());

    let listed = auth(&server).list_api_keys(Server::with_key(pb::ListApiKeysRequest::default(), ROOT)).await;
    let listed = listed.expect("listed").into_inner().api_keys;
    assert_eq!(listed.iter().map(|key| key.name.as_str()).collect::<Vec<_>>(), ["reader", "ci"]);
    assert!(!format!("{listed:?}").contains(&secret[13..]));

    let revoked = revoke(&server, &made.key_id).await;
    assert_eq!((revoked.state(), revoked.revoked_by.as_str()), (pb::ApiKeyState::Revoked, "root"));
    assert_eq!(revoke(&server, &made.key_id).await, revoked, "once is enough");
    is_turned_away(&server, &secret, "it was revoked").await;
    let late = rotate(&server, &made.key_id, 0).await.expect_err("ended");
    assert_eq!((late.code(), reason(&late).as_str()), (Code::FailedPrecondition, "API_KEY_ENDED"));
    server.stop().await;
}

#[tokio::test]
async fn lists_are_filtered_ordered_and_paged() {
    let server = server().await;
    for (name, role) in [("ci-b", Role::Submitter), ("ci-a", Role::Viewer), ("ops", Role::Operator)] {
        let (made, _) = make(&server, wanted(name, role)).await;
        if name == "ops" {
            revoke(&server, &made.key_id).await;
        }
    }
    let list = async |request: pb::ListApiKeysRequest| {
        let reply = auth(&server).list_api_keys(Server::with_key(request, ROOT)).await?.into_inner();
        let names: Vec<String> = reply.api_keys.into_iter().map(|key| key.name).collect();
        Ok::<_, Status>((names, reply.next_page_token))
    };
    let of = |filter: &str, name_prefix: &str| pb::ListApiKeysRequest {
        filter: filter.into(),
        name_prefix: name_prefix.into(),
        order_by: "name asc".into(),
        ..Default::default()
    };
    for (filter, prefix, expected) in [
        ("", "", &["ci-a", "ci-b", "ops"][..]),
        ("", "ci-", &["ci-a", "ci-b"]),
        ("state = ACTIVE", "", &["ci-a", "ci-b"]),
        ("state = REVOKED", "", &["ops"]),
        ("role = \"viewer\" OR name = \"ops\"", "", &["ci-a", "ops"]),
        ("last_used_time > \"2020-01-01T00:00:00Z\"", "", &[]),
        ("create_time > \"2020-01-01T00:00:00Z\" AND state = ACTIVE", "ci-a", &["ci-a"]),
    ] {
        let (names, _) = list(of(filter, prefix)).await.expect("listed");
        assert_eq!(names, expected, "{filter} {prefix}");
    }
    let mut asked = pb::ListApiKeysRequest { page_size: 2, ..of("", "") };
    let (first, token) = list(asked.clone()).await.expect("a page");
    asked.page_token = token;
    let (second, end) = list(asked.clone()).await.expect("a page");
    assert_eq!((first.len(), second, end.as_str()), (2, vec!["ops".to_owned()], ""));
    asked.name_prefix = "ci".into();
    assert_eq!(reason(&list(asked).await.expect_err("of another list")), "INVALID_PAGE_TOKEN");
    let bad = list(pb::ListApiKeysRequest { filter: "secret = \"x\"".into(), ..Default::default() }).await;
    assert_eq!(reason(&bad.expect_err("no such field")), "INVALID_FILTER");
    server.stop().await;
}

#[tokio::test]
async fn a_repeat_makes_nothing_and_tells_no_secret() {
    let server = server().await;
    let asked = pb::CreateApiKeyRequest { request_id: "once-1".into(), ..wanted("ci", Role::Viewer) };
    let (first, secret) = make(&server, asked.clone()).await;
    let (again, nothing) = make(&server, asked.clone()).await;
    assert_eq!((again.key_id.as_str(), nothing.as_str()), (first.key_id.as_str(), ""));
    assert_eq!(server.engine.api_key_rows().len(), 1);
    let other = pb::CreateApiKeyRequest { name: "cd".into(), ..asked.clone() };
    let refused = make_by(&server, ROOT, "default", other).await.expect_err("another request");
    assert_eq!(reason(&refused), "IDEMPOTENCY_CONFLICT");
    let theirs = pb::CreateApiKeyRequest { namespaces: vec!["a".into()], ..asked };
    let (own, _) = make_by(&server, "bound", "a", theirs).await.expect("another caller's request");
    assert_ne!(own.key_id, first.key_id);

    let request = pb::RotateApiKeyRequest {
        key_id: first.key_id.clone(),
        request_id: "once-2".into(),
        ..Default::default()
    };
    let turn = async || {
        let reply = auth(&server).rotate_api_key(Server::with_key(request.clone(), ROOT)).await;
        reply.expect("rotated").into_inner()
    };
    let (rotated, repeat) = (turn().await, turn().await);
    assert!(rotated.secret.len() == 56 && repeat.secret.is_empty());
    assert_eq!(rotated.api_key, repeat.api_key);
    for key in [&secret, &rotated.secret] {
        server
            .admin()
            .get_server_info(Server::with_key(pb::GetServerInfoRequest {}, key))
            .await
            .expect("valid");
    }
    server.stop().await;
}

#[tokio::test]
async fn keys_survive_a_restart_under_their_pepper_and_no_other() {
    let store = MemoryStore::new(Default::default());
    let server = Server::over(store.clone(), settings()).await;
    let (made, secret) = make(&server, wanted("ci", Role::Submitter)).await;
    let (gone, revoked) = make(&server, wanted("gone", Role::Submitter)).await;
    revoke(&server, &gone.key_id).await;
    submit(&server, &secret, "default").await.expect("valid");
    let used = get(&server, &made.key_id).await.last_used_time.expect("used");
    server.stop().await;

    let server = Server::over(store.reopen(), settings()).await;
    assert_eq!(get(&server, &made.key_id).await.last_used_time, Some(used), "written down at the stop");
    submit(&server, &secret, "default").await.expect("valid after a restart");
    is_turned_away(&server, &revoked, "it was revoked").await;
    server.stop().await;

    let other = GatewaySettings { key_pepper: Some(vec![6; 32]), ..settings() };
    let server = Server::over(store.reopen(), other).await;
    is_turned_away(&server, &secret, "its secret is another").await;
    let fresh = rotate(&server, &made.key_id, 60_000).await.expect("mended").secret;
    submit(&server, &fresh, "default").await.expect("under the new pepper");
    is_turned_away(&server, &secret, "its secret is another").await;
    server.stop().await;

    let server = Server::over(store.reopen(), GatewaySettings { key_pepper: None, ..settings() }).await;
    is_turned_away(&server, &fresh, "it is unknown").await;
    let refused = make_by(&server, ROOT, "default", wanted("ci", Role::Viewer)).await.expect_err("no pepper");
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unimplemented, "FEATURE_UNAVAILABLE"));
    assert_eq!(revoke(&server, &made.key_id).await.state(), pb::ApiKeyState::Revoked, "needs none");
    server.stop().await;
}
