//! How often one may call, and how often one may be wrong.

use super::{keys, server};
use crate::running_server::{Server, reason};
use coretex_contract::v1 as pb;
use coretex_domain::access::Role;
use coretex_gateway::Access;
use std::time::Duration;
use tonic::{Code, Status};
use tonic_types::StatusExt;

async fn info(server: &Server, key: &str) -> Result<(), Status> {
    server.admin().get_server_info(Server::with_key(pb::GetServerInfoRequest {}, key)).await.map(|_| ())
}

fn retry_after(status: &Status) -> Duration {
    status.get_error_details().retry_info().and_then(|info| info.retry_delay).unwrap_or_default()
}

#[tokio::test]
async fn ten_wrong_keys_make_an_address_wait() {
    let server = server(Access::closed().keys(keys(&[("right", "a", &[], Role::Viewer)]))).await;
    for n in 0..10 {
        let refused = info(&server, &format!("wrong-{n}")).await.expect_err("wrong");
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::Unauthenticated, "CREDENTIAL_INVALID")
        );
        assert_eq!(refused.message(), "the credential is not valid");
    }
    for key in ["wrong-11", "right"] {
        let refused = info(&server, key).await.expect_err("it waits");
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "RATE_LIMITED"));
        let wait = retry_after(&refused);
        assert!(wait > Duration::from_secs(30) && wait <= Duration::from_secs(60), "{wait:?}");
    }
    let none = server.admin().get_server_info(pb::GetServerInfoRequest {}).await.expect_err("no key");
    assert_eq!(reason(&none), "CREDENTIAL_REQUIRED", "showing nothing is no guess");
    server.stop().await;
}

#[tokio::test]
async fn one_identity_calls_as_often_as_allowed_over_all_its_keys() {
    let named =
        [("one", "a", &[][..], Role::Viewer), ("two", "a", &[], Role::Viewer), ("b", "b", &[], Role::Viewer)];
    let mut access = Access::closed().keys(keys(&named));
    access.calls_per_second = Some(3);
    let server = server(access).await;
    let mut refused = None;
    for n in 0..30 {
        if let Err(status) = info(&server, if n % 2 == 0 { "one" } else { "two" }).await {
            refused = Some((n, status));
            break;
        }
    }
    let (after, status) = refused.expect("30 calls take less than 9 s");
    assert!(after >= 3, "{after}");
    assert_eq!((status.code(), reason(&status).as_str()), (Code::ResourceExhausted, "RATE_LIMITED"));
    assert!(retry_after(&status) <= Duration::from_secs(1));
    info(&server, "b").await.expect("another identity");
    server.stop().await;
}
