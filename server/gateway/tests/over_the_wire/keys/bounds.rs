//! Nobody hands out, sees or ends more than is theirs.

use super::{ROOT, auth, by, make, make_by, rotate, server, submit, wanted};
use crate::running_server::reason;
use coretex_contract::v1 as pb;
use coretex_domain::access::Role;
use tonic::{Code, Status};

fn bound_to(namespaces: &[&str], role: Role) -> pb::CreateApiKeyRequest {
    let namespaces = namespaces.iter().map(ToString::to_string).collect();
    pb::CreateApiKeyRequest { namespaces, ..wanted("ci", role) }
}

#[tokio::test]
async fn nobody_makes_a_key_that_may_more_than_they() {
    let server = server().await;
    for namespaces in [&[][..], &["c"], &["a", "c"]] {
        let refused = make_by(&server, "bound", "a", bound_to(namespaces, Role::Viewer)).await;
        let refused = refused.expect_err("beyond");
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::PermissionDenied, "PERMISSION_DENIED")
        );
        let named = if namespaces.is_empty() { "all namespaces" } else { "namespace c" };
        assert!(refused.message().contains(named), "{refused:?}");
    }
    for who in ["operator", "watchman"] {
        let namespace = if who == "watchman" { "a" } else { "default" };
        let refused = make_by(&server, who, namespace, bound_to(&["a"], Role::Viewer)).await;
        assert!(refused.expect_err("no admin").message().contains("`keys.write` is needed"));
    }
    assert_eq!(server.engine.api_key_rows().len(), 0, "nothing was made");
    let request = pb::CreateApiKeyRequest { roles: vec!["root".into()], ..wanted("x", Role::Viewer) };
    let refused = make_by(&server, ROOT, "default", request).await.expect_err("no role");
    assert_eq!(reason(&refused), "INVALID_FIELD");
    server.stop().await;
}

#[tokio::test]
async fn a_key_of_one_namespace_is_of_that_one_only() {
    let server = server().await;
    let (made, secret) =
        make_by(&server, "bound", "b", bound_to(&["b", "a", "b"], Role::Admin)).await.expect("made");
    assert_eq!((made.identity.as_str(), made.created_by.as_str()), ("a+b/ci", "ann"));
    let (one, key) = make_by(&server, &secret, "a", bound_to(&["a"], Role::Submitter)).await.expect("within");
    assert_eq!((one.identity.as_str(), one.created_by.as_str()), ("a/ci", "a+b/ci"));
    let job = submit(&server, &key, "a").await.expect("its namespace").job.expect("a job");
    let history = pb::GetJobHistoryRequest { job_id: job.job_id, ..Default::default() };
    let told = server.jobs().get_job_history(by(history, ROOT, "a")).await.expect("told").into_inner();
    assert_eq!(told.events[0].actor, "a/ci");
    for elsewhere in ["b", "default"] {
        assert_eq!(
            submit(&server, &key, elsewhere).await.expect_err("not its").code(),
            Code::PermissionDenied
        );
    }
    server.stop().await;
}

#[tokio::test]
async fn whoever_is_bound_sees_and_ends_only_keys_bound_to_theirs() {
    let server = server().await;
    let (of_all, _) = make(&server, wanted("of-all", Role::Viewer)).await;
    let mut ids = vec![of_all.key_id];
    for namespaces in [&["c"][..], &["a", "c"], &["a"], &["a", "b"]] {
        ids.push(make(&server, bound_to(namespaces, Role::Viewer)).await.0.key_id);
    }
    let (hidden, own) = ids.split_at(3);
    let told = |status: &Status, id: &str| status.message().replace(id, "ID");
    let request = pb::GetApiKeyRequest { key_id: "zzzzzzzz".into() };
    let never = auth(&server).get_api_key(by(request, "bound", "a")).await.expect_err("never was");
    assert_eq!((never.code(), reason(&never).as_str()), (Code::NotFound, "API_KEY_NOT_FOUND"));
    for id in hidden {
        let key_id = id.clone();
        let get = auth(&server).get_api_key(by(pb::GetApiKeyRequest { key_id }, "bound", "a")).await;
        let request = pb::RotateApiKeyRequest { key_id: id.clone(), ..Default::default() };
        let rotated = auth(&server).rotate_api_key(by(request, "bound", "a")).await;
        let request = pb::RevokeApiKeyRequest { key_id: id.clone(), ..Default::default() };
        let revoked = auth(&server).revoke_api_key(by(request, "bound", "a")).await;
        for status in [get.expect_err("hidden"), rotated.expect_err("hidden"), revoked.expect_err("hidden")] {
            assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "API_KEY_NOT_FOUND"));
            assert_eq!(told(&status, id), told(&never, "zzzzzzzz"), "as one that never was");
        }
    }
    let seen = async |who: &str| {
        let request = by(pb::ListApiKeysRequest::default(), who, "a");
        let mut ids: Vec<String> = auth(&server)
            .list_api_keys(request)
            .await
            .expect("listed")
            .into_inner()
            .api_keys
            .into_iter()
            .map(|key| key.key_id)
            .collect();
        ids.sort();
        ids
    };
    let sorted = |ids: &[String]| {
        let mut ids = ids.to_vec();
        ids.sort();
        ids
    };
    assert_eq!(seen("bound").await, sorted(own));
    assert_eq!(seen("watchman").await, sorted(&own[..1]), "an auditor of a alone");
    assert_eq!(seen(ROOT).await, sorted(&ids));
    let request = pb::RevokeApiKeyRequest { key_id: own[0].clone(), ..Default::default() };
    auth(&server).revoke_api_key(by(request, "bound", "a")).await.expect("its own");
    let whole = format!("ctx_{}_{}", own[0], "A".repeat(43));
    let refused = rotate(&server, &whole, 0).await.expect_err("no id");
    assert!(reason(&refused) == "INVALID_FIELD" && !refused.message().contains("AAAA"), "{refused:?}");
    let record = super::last_record(&server).await;
    assert!(record.subject.is_empty(), "what may be a key is not kept: {record:?}");
    server.stop().await;
}
