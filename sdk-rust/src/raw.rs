//! The contract as it is on the wire, for what the typed surface does not offer.
//!
//! Everything here follows the version of `coretex.v1`, not the version of this crate.

pub use coretex_contract::{ERROR_DOMAIN, FILE_DESCRIPTOR_SET, NAMESPACE_METADATA, v1};
pub use tonic;

/// A JSON map for a free-form field of the contract. Refuses what is no map, and numbers that a double cannot keep.
pub fn struct_of(json: serde_json::Value) -> crate::Result<coretex_contract::Struct> {
    crate::config::object("value", json)
}

pub(crate) use coretex_contract as wkt;
pub(crate) use coretex_contract::v1 as pb;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

/// A channel that names namespace and credential with every call.
pub type Wire = InterceptedService<Channel, Identity>;

/// Largest message the SDK reads. Above the server's request limit, since replies hold more than requests.
pub(crate) const MESSAGE_MAX: usize = 16 << 20;

/// Adds namespace and credential to calls.
#[derive(Clone)]
pub struct Identity {
    pub(crate) namespace: MetadataValue<Ascii>,
    pub(crate) authorization: Option<MetadataValue<Ascii>>,
}

impl tonic::service::Interceptor for Identity {
    fn call(&mut self, mut request: tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> {
        let metadata = request.metadata_mut();
        metadata.insert(NAMESPACE_METADATA, self.namespace.clone());
        if let Some(authorization) = &self.authorization {
            metadata.insert("authorization", authorization.clone());
        }
        Ok(request)
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// Generated clients over the connection of a [`Client`](crate::Client).
#[derive(Clone, Debug)]
pub struct Raw {
    wire: Wire,
}

impl Raw {
    pub(crate) fn new(wire: Wire) -> Self {
        Self { wire }
    }

    /// The channel itself.
    pub fn wire(&self) -> Wire {
        self.wire.clone()
    }

    /// `JobService`.
    pub fn jobs(&self) -> v1::job_service_client::JobServiceClient<Wire> {
        v1::job_service_client::JobServiceClient::new(self.wire()).max_decoding_message_size(MESSAGE_MAX)
    }

    /// `WorkerService`.
    pub fn workers(&self) -> v1::worker_service_client::WorkerServiceClient<Wire> {
        v1::worker_service_client::WorkerServiceClient::new(self.wire())
            .max_decoding_message_size(MESSAGE_MAX)
    }

    /// `RunService`.
    pub fn runs(&self) -> v1::run_service_client::RunServiceClient<Wire> {
        v1::run_service_client::RunServiceClient::new(self.wire()).max_decoding_message_size(MESSAGE_MAX)
    }

    /// `TopicService`.
    pub fn topics(&self) -> v1::topic_service_client::TopicServiceClient<Wire> {
        v1::topic_service_client::TopicServiceClient::new(self.wire()).max_decoding_message_size(MESSAGE_MAX)
    }

    /// `WorkflowService`.
    pub fn workflows(&self) -> v1::workflow_service_client::WorkflowServiceClient<Wire> {
        v1::workflow_service_client::WorkflowServiceClient::new(self.wire())
            .max_decoding_message_size(MESSAGE_MAX)
    }

    /// `ConfigService`.
    pub fn configs(&self) -> v1::config_service_client::ConfigServiceClient<Wire> {
        v1::config_service_client::ConfigServiceClient::new(self.wire())
            .max_decoding_message_size(MESSAGE_MAX)
    }

    /// `DlqService`.
    pub fn dlq(&self) -> v1::dlq_service_client::DlqServiceClient<Wire> {
        v1::dlq_service_client::DlqServiceClient::new(self.wire()).max_decoding_message_size(MESSAGE_MAX)
    }

    /// `ApprovalService`.
    pub fn approvals(&self) -> v1::approval_service_client::ApprovalServiceClient<Wire> {
        v1::approval_service_client::ApprovalServiceClient::new(self.wire())
            .max_decoding_message_size(MESSAGE_MAX)
    }

    /// `SafetyService`.
    pub fn safety(&self) -> v1::safety_service_client::SafetyServiceClient<Wire> {
        v1::safety_service_client::SafetyServiceClient::new(self.wire())
            .max_decoding_message_size(MESSAGE_MAX)
    }

    /// `ScheduleService`.
    pub fn schedules(&self) -> v1::schedule_service_client::ScheduleServiceClient<Wire> {
        v1::schedule_service_client::ScheduleServiceClient::new(self.wire())
            .max_decoding_message_size(MESSAGE_MAX)
    }

    /// `AuditService`.
    pub fn audit(&self) -> v1::audit_service_client::AuditServiceClient<Wire> {
        v1::audit_service_client::AuditServiceClient::new(self.wire()).max_decoding_message_size(MESSAGE_MAX)
    }

    /// `NamespaceService`.
    pub fn namespaces(&self) -> v1::namespace_service_client::NamespaceServiceClient<Wire> {
        v1::namespace_service_client::NamespaceServiceClient::new(self.wire())
            .max_decoding_message_size(MESSAGE_MAX)
    }

    /// `AuthService`.
    pub fn auth(&self) -> v1::auth_service_client::AuthServiceClient<Wire> {
        v1::auth_service_client::AuthServiceClient::new(self.wire()).max_decoding_message_size(MESSAGE_MAX)
    }

    /// `EventService`.
    pub fn events(&self) -> v1::event_service_client::EventServiceClient<Wire> {
        v1::event_service_client::EventServiceClient::new(self.wire()).max_decoding_message_size(MESSAGE_MAX)
    }

    /// `AdminService`.
    pub fn admin(&self) -> v1::admin_service_client::AdminServiceClient<Wire> {
        v1::admin_service_client::AdminServiceClient::new(self.wire()).max_decoding_message_size(MESSAGE_MAX)
    }
}
