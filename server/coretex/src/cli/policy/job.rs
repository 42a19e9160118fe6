//! The job a policy is asked about, from options.

use super::super::input;
use crate::outcome::{Failure, Outcome};
use coretex_sdk::raw::v1;

/// The job to be judged.
#[derive(Debug, clap::Args)]
pub(crate) struct JobArgs {
    /// Topic of the job
    #[arg(long)]
    pub(super) topic: Option<String>,
    /// Namespace it is submitted in, if not that of the call
    #[arg(long, value_name = "NAME")]
    pub(super) tenant: Option<String>,
    /// Who submits it
    #[arg(long, default_value = "")]
    pub(super) actor: String,
    /// Kind of actor, for example service
    #[arg(long, default_value = "", value_name = "TYPE")]
    pub(super) actor_type: String,
    /// What it is about to exercise; may be repeated
    #[arg(long = "capability", value_name = "NAME")]
    pub(super) capabilities: Vec<String>,
    /// What makes it risky; may be repeated
    #[arg(long = "risk-tag", value_name = "TAG")]
    pub(super) risk_tags: Vec<String>,
    /// What its worker must have; may be repeated
    #[arg(long, value_name = "NAME")]
    pub(super) requires: Vec<String>,
    /// Label; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = input::pair)]
    pub(super) labels: Vec<(String, String)>,
    /// Pack it comes from
    #[arg(long, default_value = "")]
    pub(super) pack: String,
    /// Priority, 0 (least) to 9 (most)
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(0..=9))]
    pub(super) priority: u8,
    /// Payload: JSON, @FILE or - for standard input
    #[arg(long, value_name = "JSON")]
    pub(super) data: Option<String>,
    /// Media type of the payload, if it is not JSON
    #[arg(long, value_name = "TYPE", requires = "data")]
    pub(super) content_type: Option<String>,
}

impl JobArgs {
    /// The topic, without which there is no job.
    pub(super) fn topic(&self) -> Outcome<&str> {
        self.topic.as_deref().ok_or_else(|| Failure::Usage("which job? --topic is missing".into()))
    }

    /// As the job that would be submitted.
    pub(super) fn spec(&self) -> Outcome<v1::JobSpec> {
        if !self.pack.is_empty() {
            return Err(Failure::Usage(
                "--pack is for bundles in a file; a server knows where a job comes from".into(),
            ));
        }
        if self.capabilities.len() > 1 {
            return Err(Failure::Usage("a job exercises one capability; --capability is given twice".into()));
        }
        let data = self.data.as_deref();
        let payload = data.map(|data| input::payload(data, self.content_type.as_deref())).transpose()?;
        let metadata = v1::JobMetadata {
            actor_type: self.actor_type.clone(),
            capability: self.capabilities.first().cloned().unwrap_or_default(),
            risk_tags: self.risk_tags.clone(),
            ..v1::JobMetadata::default()
        };
        Ok(v1::JobSpec {
            topic: self.topic()?.to_owned(),
            payload,
            priority: Some(i32::from(self.priority)),
            labels: self.labels.iter().cloned().collect(),
            requires: self.requires.clone(),
            metadata: Some(metadata),
            ..v1::JobSpec::default()
        })
    }
}
