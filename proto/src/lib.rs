#![doc = include_str!("../README.md")]

/// The package `coretex.v1`: messages, enums, `*_client` and `*_server` modules.
pub mod v1;

/// Durations, times, masks and free-form values, as the contract uses them.
pub use prost_types::{Duration, FieldMask, ListValue, NullValue, Struct, Timestamp, Value, value};
/// Status of one item of a batch (`google.rpc.Status`).
pub use tonic_types::Status;

/// The descriptors of `coretex.v1` and of all it imports, comments and options included, as an encoded `google.protobuf.FileDescriptorSet`.
///
/// Feed it to reflection, and to anything that reads method options or the REST mapping. Decode it with a library that keeps
/// extensions (`prost-reflect`): plain `prost-types` drops them.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("gen/coretex.bin");

/// Domain of every `google.rpc.ErrorInfo`.
pub const ERROR_DOMAIN: &str = "coretex";

/// Metadata entry that names the namespace of a call.
pub const NAMESPACE_METADATA: &str = "coretex-namespace";

impl v1::ErrorReason {
    /// The reason as `google.rpc.ErrorInfo` and REST carry it: the name without its prefix, for example `JOB_NOT_FOUND`.
    pub fn short_name(self) -> &'static str {
        strip(self.as_str_name(), "ERROR_REASON_")
    }

    /// The reason with this short name.
    pub fn from_short_name(name: &str) -> Option<Self> {
        Self::from_str_name(&format!("ERROR_REASON_{name}"))
    }
}

impl std::fmt::Debug for v1::SecretValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretValue").field("name", &self.name).finish_non_exhaustive()
    }
}

impl v1::JobState {
    /// The state as filters and the command line write it, for example `FAILED`.
    pub fn short_name(self) -> &'static str {
        strip(self.as_str_name(), "JOB_STATE_")
    }

    /// The state with this short name.
    pub fn from_short_name(name: &str) -> Option<Self> {
        Self::from_str_name(&format!("JOB_STATE_{name}"))
    }

    /// True for the states that never change.
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Succeeded
            | Self::Failed
            | Self::TimedOut
            | Self::Cancelled
            | Self::Denied
            | Self::Expired => true,
            Self::Unspecified
            | Self::Pending
            | Self::AwaitingApproval
            | Self::Scheduled
            | Self::Dispatched
            | Self::Running
            | Self::Retrying => false,
        }
    }
}

impl v1::JobEventType {
    /// The type as filters and the command line write it, for example `STARTED`.
    pub fn short_name(self) -> &'static str {
        strip(self.as_str_name(), "JOB_EVENT_TYPE_")
    }

    /// The type with this short name.
    pub fn from_short_name(name: &str) -> Option<Self> {
        Self::from_str_name(&format!("JOB_EVENT_TYPE_{name}"))
    }
}

impl v1::ApprovalState {
    /// The state as filters and the command line write it, for example `PENDING`.
    pub fn short_name(self) -> &'static str {
        strip(self.as_str_name(), "APPROVAL_STATE_")
    }
}

impl v1::RunState {
    /// The state as filters and the command line write it, for example `FAILED`.
    pub fn short_name(self) -> &'static str {
        strip(self.as_str_name(), "RUN_STATE_")
    }

    /// True for the states that never change.
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Succeeded | Self::Failed | Self::Cancelled | Self::TimedOut => true,
            Self::Unspecified | Self::Pending | Self::Running | Self::Waiting => false,
        }
    }
}

impl v1::StepState {
    /// The state as people read it, for example `SKIPPED`.
    pub fn short_name(self) -> &'static str {
        strip(self.as_str_name(), "STEP_STATE_")
    }
}

impl v1::RunEventType {
    /// The type as people read it, for example `STEP_STARTED`.
    pub fn short_name(self) -> &'static str {
        strip(self.as_str_name(), "RUN_EVENT_TYPE_")
    }
}

impl v1::Payload {
    /// A payload of bytes.
    pub fn data(content_type: impl Into<String>, data: impl Into<bytes::Bytes>) -> Self {
        Self { content_type: content_type.into(), body: Some(v1::payload::Body::Data(data.into())) }
    }
}

fn strip(name: &'static str, prefix: &str) -> &'static str {
    name.strip_prefix(prefix).expect("invariant: buf lint keeps every value under its prefix")
}

#[cfg(test)]
mod tests;
