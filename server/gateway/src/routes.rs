//! All gRPC services of the port.

use crate::api::{
    admin::Admin, approvals::Approvals, audit::Audit, auth::Auth, config::Config, dlq::Dlq, events::Events,
    jobs::Jobs, namespaces::Namespaces, runs::Runs, safety::Safety, schedules::Schedules, topics::Topics,
    workers::Workers, workflows::Workflows,
};
use crate::gate::Gate;
use crate::hot::Hot;
use coretex_contract::FILE_DESCRIPTOR_SET;
use coretex_contract::v1::admin_service_server::AdminServiceServer;
use coretex_contract::v1::approval_service_server::ApprovalServiceServer;
use coretex_contract::v1::audit_service_server::AuditServiceServer;
use coretex_contract::v1::auth_service_server::AuthServiceServer;
use coretex_contract::v1::config_service_server::ConfigServiceServer;
use coretex_contract::v1::dlq_service_server::DlqServiceServer;
use coretex_contract::v1::event_service_server::EventServiceServer;
use coretex_contract::v1::job_service_server::JobServiceServer;
use coretex_contract::v1::namespace_service_server::NamespaceServiceServer;
use coretex_contract::v1::run_service_server::RunServiceServer;
use coretex_contract::v1::safety_service_server::SafetyServiceServer;
use coretex_contract::v1::schedule_service_server::ScheduleServiceServer;
use coretex_contract::v1::topic_service_server::TopicServiceServer;
use coretex_contract::v1::worker_service_server::WorkerServiceServer;
use coretex_contract::v1::workflow_service_server::WorkflowServiceServer;
use std::sync::Arc;
use tonic::codec::CompressionEncoding::{Gzip, Zstd};
use tonic::service::Routes;
use tonic_health::server::HealthReporter;

/// A service with the limits and encodings of this port.
macro_rules! tuned {
    ($server:ident, $service:expr, $gate:expr) => {
        $server::new($service)
            .max_decoding_message_size($gate.settings.message_max)
            .max_encoding_message_size($gate.settings.message_max)
            .accept_compressed(Gzip)
            .accept_compressed(Zstd)
            .send_compressed(Zstd)
            .send_compressed(Gzip)
    };
}

pub(crate) fn routes(gate: &Arc<Gate>) -> Result<(HealthReporter, Routes), tonic_reflection::server::Error> {
    let (reporter, health) = tonic_health::server::health_reporter();
    let mut routes = Routes::new(health).add_service(tuned!(SafetyServiceServer, Safety(gate.clone()), gate));
    if !gate.settings.only_safety {
        routes = all_else(gate, routes);
    }
    if gate.settings.reflection {
        let builder = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                // So that a caller who learns by reflection can read the details of a refusal.
                .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
        };
        routes = routes.add_service(builder().build_v1()?).add_service(builder().build_v1alpha()?);
    }
    Ok((reporter, routes.prepare()))
}

fn all_else(gate: &Arc<Gate>, routes: Routes) -> Routes {
    routes
        .add_service(Hot::submits(gate.clone(), tuned!(JobServiceServer, Jobs(gate.clone()), gate)))
        .add_service(Hot::workers(gate.clone(), tuned!(WorkerServiceServer, Workers(gate.clone()), gate)))
        .add_service(tuned!(TopicServiceServer, Topics(gate.clone()), gate))
        .add_service(tuned!(WorkflowServiceServer, Workflows(gate.clone()), gate))
        .add_service(tuned!(RunServiceServer, Runs(gate.clone()), gate))
        .add_service(tuned!(ApprovalServiceServer, Approvals(gate.clone()), gate))
        .add_service(tuned!(ConfigServiceServer, Config(gate.clone()), gate))
        .add_service(tuned!(DlqServiceServer, Dlq(gate.clone()), gate))
        .add_service(tuned!(EventServiceServer, Events(gate.clone()), gate))
        .add_service(tuned!(AuditServiceServer, Audit(gate.clone()), gate))
        .add_service(tuned!(AuthServiceServer, Auth(gate.clone()), gate))
        .add_service(tuned!(NamespaceServiceServer, Namespaces(gate.clone()), gate))
        .add_service(tuned!(ScheduleServiceServer, Schedules(gate.clone()), gate))
        .add_service(tuned!(AdminServiceServer, Admin(gate.clone()), gate))
}
