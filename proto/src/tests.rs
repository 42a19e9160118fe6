use crate::v1::{ErrorReason, JobEventType, JobState};
use prost::Message;
use prost_reflect::DescriptorPool;
use prost_types::{FileDescriptorProto, FileDescriptorSet};

fn descriptors() -> Vec<FileDescriptorProto> {
    FileDescriptorSet::decode(crate::FILE_DESCRIPTOR_SET).expect("the set decodes").file
}

#[test]
fn short_names_round_trip() {
    assert_eq!(JobState::AwaitingApproval.short_name(), "AWAITING_APPROVAL");
    assert_eq!(JobState::from_short_name("FAILED"), Some(JobState::Failed));
    assert_eq!(JobState::from_short_name("failed"), None);
    assert_eq!(JobEventType::from_short_name("WORKER_LOST"), Some(JobEventType::WorkerLost));
    assert_eq!(ErrorReason::StaleLease.short_name(), "STALE_LEASE");
    assert_eq!(ErrorReason::from_short_name("NO_SUCH_REASON"), None);
}

#[test]
fn six_states_are_terminal() {
    let terminal = (0..).map_while(|n| JobState::try_from(n).ok()).filter(|s| s.is_terminal()).count();
    assert_eq!(terminal, 6);
}

#[test]
fn the_set_carries_imports_and_comments() {
    let files = descriptors();
    for name in ["coretex/v1/jobs.proto", "google/api/http.proto", "google/rpc/status.proto"] {
        assert!(files.iter().any(|f| f.name() == name), "{name} is missing");
    }
    for file in files.iter().filter(|f| f.package() == "coretex.v1") {
        let info = file.source_code_info.as_ref().expect("source info is kept");
        assert!(
            info.location.iter().any(|l| l.leading_comments.is_some()),
            "{} has no comments",
            file.name()
        );
    }
}

#[test]
fn every_method_states_its_access() {
    let pool = DescriptorPool::decode(crate::FILE_DESCRIPTOR_SET).expect("the set links");
    let access = pool.get_extension_by_name("coretex.v1.access").expect("the extension is there");
    let methods: Vec<_> = pool
        .services()
        .filter(|s| s.package_name().starts_with("coretex."))
        .flat_map(|s| s.methods().collect::<Vec<_>>())
        .collect();
    assert!(methods.len() >= 31, "only {} methods", methods.len());
    for method in methods {
        let name = method.full_name();
        let options = method.options();
        assert!(options.has_extension(&access), "{name} states no access");
        let rule = options.get_extension(&access);
        let rule = rule.as_message().expect("the rule is a message");
        let field = |name: &str| rule.get_field_by_name(name).expect("the field exists").into_owned();
        let permission = field("permission");
        let (resource, verb) = permission.as_str().and_then(|p| p.split_once('.')).unwrap_or_default();
        assert!(!resource.is_empty() && !verb.is_empty(), "{name} has the permission {permission}");
        assert_eq!(field("mutates"), field("audited"), "{name}: what changes something is audited");
    }
}
