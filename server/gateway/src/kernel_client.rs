//! A policy kernel in another process, asked over `SafetyService`.

use crate::wire::{json, spec};
use coretex_contract::NAMESPACE_METADATA;
use coretex_contract::v1 as pb;
use coretex_contract::v1::safety_service_client::SafetyServiceClient;
use coretex_domain::JobId;
use coretex_domain::names::shown;
use coretex_domain::policy::{Decision, Verdict};
use coretex_engine::{Question, RemoteKernel, carried_decision};
use coretex_ports::BoxFuture;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};

/// A question that takes longer is not answered.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// Rules remembered as they were read.
const KNOWN_MAX: usize = 1_024;

/// Where a policy kernel is, and how it is asked.
pub struct KernelClient {
    channel: Channel,
    credential: Option<MetadataValue<Ascii>>,
    known: Arc<Mutex<HashMap<String, Decision>>>,
}

impl fmt::Debug for KernelClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KernelClient")
    }
}

// === impl KernelClient ===

impl KernelClient {
    /// Connects when it is first asked, and again whenever the connection is gone. `ca` is a PEM of the authorities to trust
    /// with `https`. Must be called on a runtime.
    pub fn new(url: &str, key: Option<&str>, ca: Option<&[u8]>) -> Result<KernelClient, String> {
        let (endpoint, credential) = KernelClient::read(url, key, ca)?;
        Ok(KernelClient { channel: endpoint.connect_lazy(), credential, known: Arc::default() })
    }

    /// Says what is wrong with an address, a key or authorities.
    pub fn check(url: &str, key: Option<&str>, ca: Option<&[u8]>) -> Result<(), String> {
        KernelClient::read(url, key, ca).map(drop)
    }

    fn read(
        url: &str,
        key: Option<&str>,
        ca: Option<&[u8]>,
    ) -> Result<(Endpoint, Option<MetadataValue<Ascii>>), String> {
        let is_address = url.starts_with("http://") || url.starts_with("https://");
        let mut endpoint = Endpoint::from_shared(url.to_owned())
            .ok()
            .filter(|_| is_address)
            .ok_or_else(|| format!("{} is not an address", shown(url)))?
            .connect_timeout(ANSWER_MAX)
            .timeout(ANSWER_MAX)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(2));
        if let Some(ca) = ca {
            let tls = ClientTlsConfig::new().ca_certificate(tonic::transport::Certificate::from_pem(ca));
            endpoint = endpoint.tls_config(tls).map_err(|error| format!("{url}: {error}"))?;
        }
        let credential = match key {
            None => None,
            Some(key) => {
                let value = MetadataValue::try_from(format!("Bearer {key}"));
                Some(value.map_err(|_| "the key has characters that a header cannot carry".to_owned())?)
            }
        };
        Ok((endpoint, credential))
    }

    fn request<T>(&self, message: T, namespace: &str) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        if let Ok(namespace) = MetadataValue::try_from(namespace) {
            request.metadata_mut().insert(NAMESPACE_METADATA, namespace);
        }
        if let Some(credential) = &self.credential {
            request.metadata_mut().insert("authorization", credential.clone());
        }
        request
    }

    fn client(&self) -> SafetyServiceClient<Channel> {
        SafetyServiceClient::new(self.channel.clone())
    }
}

impl RemoteKernel for KernelClient {
    fn judge(&self, question: Question) -> BoxFuture<Result<Arc<Decision>, String>> {
        let Question { namespace, submitter, spec, config } = question;
        let job = spec::write(&spec, &JobId::Made(0), Some(pb::PayloadFormat::Data));
        let actor = submitter.as_deref().unwrap_or_default().to_owned();
        let config = config.and_then(|config| json::object_of(config.value().clone()));
        let message = pb::CheckPolicyRequest { spec: Some(job), actor, on_behalf: true, config };
        let request = self.request(message, namespace.as_str());
        let (mut client, known) = (self.client(), self.known.clone());
        Box::pin(async move {
            let reply = client.check_policy(request).await.map_err(|status| told(&status))?;
            read(reply.into_inner(), &known).map(Arc::new)
        })
    }

    fn version(&self) -> BoxFuture<Result<u64, String>> {
        let message = pb::ListPoliciesRequest { page_size: 1, ..Default::default() };
        let request = self.request(message, "default");
        let mut client = self.client();
        Box::pin(async move {
            let reply = client.list_policies(request).await.map_err(|status| told(&status))?.into_inner();
            reply
                .policy_version
                .parse()
                .map_err(|_| format!("a policy version of {:?}", reply.policy_version))
        })
    }
}

/// What went wrong, for the operator and for whoever asks why a job waits.
fn told(status: &tonic::Status) -> String {
    format!("{:?}: {}", status.code(), status.message())
}

/// The decision in a reply. A reply that cannot be read is an outage, never a verdict.
fn read(
    reply: pb::CheckPolicyResponse,
    known: &Mutex<HashMap<String, Decision>>,
) -> Result<Decision, String> {
    let said = reply.decision.ok_or("an answer without a decision")?;
    let verdict = match said.verdict() {
        pb::Verdict::Allow => Verdict::Allow,
        pb::Verdict::Deny => Verdict::Deny,
        pb::Verdict::RequireApproval => Verdict::RequireApproval,
        pb::Verdict::Throttle => Verdict::Throttle,
        pb::Verdict::AllowWithConstraints => Verdict::AllowWithConstraints,
        pb::Verdict::Unspecified => return Err("an answer without a verdict".into()),
    };
    let needs_rule =
        matches!(verdict, Verdict::RequireApproval | Verdict::Throttle | Verdict::AllowWithConstraints);
    let plain = Decision {
        verdict,
        rule_id: "".into(),
        reason: "".into(),
        remediations: Vec::new(),
        policy: "".into(),
        policy_version: 0,
        terms: None,
    };
    let ruled = match reply.rule.is_empty() {
        true if needs_rule => return Err("an answer without the terms of its verdict".into()),
        true => plain,
        false => carried(reply.rule, reply.rate_key, known)?,
    };
    if ruled.verdict != verdict {
        return Err("an answer that contradicts itself".into());
    }
    let policy_version = said.policy_version.parse().map_err(|_| "an answer without a policy version")?;
    Ok(Decision {
        rule_id: said.rule_id.into(),
        reason: said.reason.into(),
        policy: said.policy.into(),
        policy_version,
        ..ruled
    })
}

fn carried(
    text: String,
    rate_key: String,
    known: &Mutex<HashMap<String, Decision>>,
) -> Result<Decision, String> {
    if !rate_key.is_empty() {
        return carried_decision(&text, rate_key.into());
    }
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(decision) = known.get(&text) {
        return Ok(decision.clone());
    }
    let decision = carried_decision(&text, "".into())?;
    if known.len() >= KNOWN_MAX {
        known.clear();
    }
    known.insert(text, decision.clone());
    Ok(decision)
}
