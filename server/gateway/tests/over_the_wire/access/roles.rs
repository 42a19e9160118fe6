//! Every method against roles that may and roles that may not.

use super::{identity, server, server_of_roles};
use crate::running_server::{Server, reason, spec};
use crate::transport::Raw;
use coretex_contract::{FILE_DESCRIPTOR_SET, v1 as pb};
use coretex_domain::access::{self, Role};
use coretex_gateway::{Access, ApiKeys};
use http::uri::PathAndQuery;
use prost_reflect::DescriptorPool;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// A method of the contract, as its options describe it.
pub(crate) struct Found {
    pub(crate) path: String,
    pub(crate) permission: String,
    pub(crate) mutates: bool,
    pub(crate) audited: bool,
    pub(crate) by_history: bool,
}

pub(crate) fn methods() -> Vec<Found> {
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).expect("the contract");
    let extension = pool.get_extension_by_name("coretex.v1.access").expect("the option");
    let mut found = Vec::new();
    for service in pool.services().filter(|s| s.package_name() == "coretex.v1") {
        for method in service.methods() {
            let rule = method.options().get_extension(&extension).into_owned();
            let rule = rule.as_message().expect("a message").clone();
            let field = |name: &str| rule.get_field_by_name(name).expect("a field").into_owned();
            let is = |name: &str| field(name).as_bool().expect("a truth");
            found.push(Found {
                path: format!("/{}/{}", service.full_name(), method.name()),
                permission: field("permission").as_str().expect("a text").to_owned(),
                mutates: is("mutates"),
                audited: is("audited"),
                by_history: is("audit_by_history"),
            });
        }
    }
    found
}

/// Calls a method with an empty message; a stream ends after it.
async fn call(server: &Server, path: &str, key: &str) -> Result<(), Status> {
    call_with(server, path, key, bytes::Bytes::new()).await
}

/// Calls a method with this message, and reads the first answer.
pub(crate) async fn call_with(
    server: &Server,
    path: &str,
    key: &str,
    message: bytes::Bytes,
) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(server.channel.clone());
    client.ready().await.expect("a connection");
    let path: PathAndQuery = path.parse().expect("a path");
    let request = Server::with_key(futures::stream::iter([message]), key);
    let mut answers = client.streaming(request, path, Raw).await?.into_inner();
    let first = tokio::time::timeout(std::time::Duration::from_millis(300), answers.message()).await;
    first.map_or(Ok(()), |message| message.map(|_| ()))
}

/// Jobs submitted, rows written and groups committed.
async fn written(server: &Server) -> [u64; 3] {
    let text = server.http("GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    ["coretex_jobs_submitted_total ", "coretex_commit_batch_size_sum ", "coretex_commit_batch_size_count "]
        .map(|name| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|figure| figure.trim().parse().ok()).expect(name)
        })
}

#[tokio::test]
async fn who_only_reads_changes_nothing_by_any_method() {
    let server = server_of_roles().await;
    let request = pb::SubmitJobRequest { spec: Some(spec("job.a")), ..Default::default() };
    server
        .jobs()
        .submit_job(Server::with_key(request, "submitter"))
        .await
        .expect("there is something to change");
    let before = written(&server).await;
    assert_eq!(before[0], 1);
    let all = methods();
    let mutating: Vec<&Found> = all.iter().filter(|method| method.mutates).collect();
    assert!(mutating.len() >= 15, "{}", mutating.len());
    let mut denied = 0;
    for method in mutating {
        for reader in [Role::Viewer, Role::Auditor] {
            let status = call(&server, &method.path, reader.name()).await.expect_err(&method.path);
            let seen = (status.code(), reason(&status));
            assert_eq!(seen, (Code::PermissionDenied, "PERMISSION_DENIED".to_owned()), "{}", method.path);
            let known = access::find(&method.permission).expect("a permission of the table");
            assert!(status.message().contains(&format!("`{}`", method.permission)), "{status:?}");
            assert!(status.message().contains(&known.roles.names()), "{status:?}");
            denied += 1;
        }
    }
    let [jobs, rows, groups] = before;
    // Of each denial its record, and where the chain of records ends.
    assert_eq!(
        written(&server).await,
        [jobs, rows + 2 * denied, groups + denied],
        "nothing else was written"
    );
    server.stop().await;
}

#[tokio::test]
async fn each_role_reaches_what_the_table_gives_it_and_nothing_else() {
    let server = server_of_roles().await;
    for method in methods() {
        let known = access::find(&method.permission).unwrap_or_else(|| panic!("{} has no rule", method.path));
        // These would end the server, or wait.
        if ["/DrainNode", "/BackupStore"].iter().any(|name| method.path.ends_with(name)) {
            continue;
        }
        for role in Role::ALL {
            let answer = call(&server, &method.path, role.name()).await;
            let is_denied = answer.is_err_and(|status| reason(&status) == "PERMISSION_DENIED");
            assert_eq!(is_denied, !known.roles.has(role), "{} as {}", method.path, role.name());
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn a_refusal_tells_what_is_needed_and_nothing_about_the_resource() {
    let server = server_of_roles().await;
    let cancel = |job_id: &str, key: &'static str| {
        let request = pb::CancelJobRequest { job_id: job_id.into(), ..Default::default() };
        let mut jobs = server.jobs();
        async move { jobs.cancel_job(Server::with_key(request, key)).await.expect_err("refused") }
    };
    let request = pb::SubmitJobRequest { spec: Some(spec("job.a")), ..Default::default() };
    let job = server.jobs().submit_job(Server::with_key(request, "admin")).await.expect("accepted");
    let there = cancel(&job.into_inner().job.expect("a job").job_id, "viewer").await;
    let absent = cancel("nowhere", "viewer").await;
    assert_eq!((there.code(), there.message()), (absent.code(), absent.message()));
    let info = there.get_error_details().error_info().cloned().expect("details");
    assert_eq!(info.metadata.get("permission").map(String::as_str), Some("jobs.cancel"));
    assert_eq!(info.metadata.get("roles").map(String::as_str), Some("submitter, operator, admin"));
    assert_eq!(cancel("nowhere", "operator").await.code(), Code::NotFound);
    server.stop().await;
}

#[tokio::test]
async fn what_concerns_the_whole_server_is_not_for_who_is_bound_to_namespaces() {
    let keys = ApiKeys::new(&[1; 32])
        .with("bound", identity("bound", &["a"], Role::Admin))
        .with("free", identity("free", &[], Role::Admin));
    let server = server(Access::closed().keys(keys)).await;
    let shards = |key: &str| {
        let mut request = Server::with_key(pb::ListShardsRequest::default(), key);
        request.metadata_mut().insert("coretex-namespace", "a".parse().expect("a header"));
        let mut admin = server.admin();
        async move { admin.list_shards(request).await.map(|_| ()) }
    };
    let refused = shards("bound").await.expect_err("bound");
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("bound to namespaces"), "{refused:?}");
    shards("free").await.expect("free");
    server.stop().await;
}
