//! Changing what is in force.

use super::{Safety, check_name, read_bundle};
use crate::api::jobs::check_request_id;
use crate::api::topics::once;
use crate::call::Call;
use crate::wire::{Faults, policy as write};
use coretex_contract::v1 as pb;
use coretex_domain::limits::REASON_LEN_MAX;
use coretex_domain::policy::Verdict;
use coretex_domain::{Refusal, Violation};
use coretex_engine::Apply;
use coretex_policy::{Bundle, set};

fn check_comment(comment: &str) -> Result<(), Refusal> {
    let mut faults = Faults::default();
    faults.text("comment", comment, REASON_LEN_MAX);
    faults.into_result()
}

/// What is not wrong but looks like a mistake.
fn warnings(bundle: &Bundle) -> Vec<pb::Warning> {
    let warning =
        |reason: &str, message: String| pb::Warning { reason: reason.into(), field: "yaml".into(), message };
    let mut found: Vec<pb::Warning> =
        bundle.shadowed().iter().map(|one| warning("RULE_NEVER_DECIDES", one.to_string())).collect();
    if &*bundle.name != set::DEFAULT && bundle.default == Verdict::Deny {
        let message = "the default of this policy is not used: that of the policy `default` holds for all";
        found.push(warning("DEFAULT_NOT_USED", message.into()));
    }
    if &*bundle.name == set::DEFAULT && bundle.allows_all() {
        found.push(warning("ALLOWS_ALL", "this policy never holds anything back".into()));
    }
    found
}

impl Safety {
    pub(super) async fn apply(
        &self,
        call: &Call,
        request: pb::ApplyPolicyRequest,
    ) -> Result<pb::ApplyPolicyResponse, Refusal> {
        check_name(&request.name)?;
        check_comment(&request.comment)?;
        check_request_id(&request.request_id)?;
        let once = once("ApplyPolicy", &request.request_id, &request);
        let bundle = read_bundle(&request.name, &request.yaml)?;
        let warnings = warnings(&bundle);
        let apply = Apply {
            bundle,
            yaml: request.yaml.into(),
            is_shadow: request.shadow,
            revision: request.revision,
            comment: request.comment.into(),
        };
        let done = match request.validate_only {
            true => self.0.engine.preview_policy(&apply).await?,
            false => self.0.engine.apply_policy(&call.caller(), apply, once).await?,
        };
        Ok(pb::ApplyPolicyResponse {
            policy: Some(write::write(&done.policy, pb::View::Basic, None)),
            created: done.created && !request.validate_only,
            differences: done.differences,
            warnings,
        })
    }

    pub(super) async fn rollback(
        &self,
        request: pb::RollbackPolicyRequest,
    ) -> Result<pb::RollbackPolicyResponse, Refusal> {
        check_name(&request.name)?;
        check_comment(&request.comment)?;
        check_request_id(&request.request_id)?;
        if request.version == 0 {
            let message = "must be a version from 1, got 0".into();
            return Err(Refusal::fields(vec![Violation { field: "version".into(), message }]));
        }
        let once = once("RollbackPolicy", &request.request_id, &request);
        let done =
            self.0.engine.rollback_policy(&request.name, request.version, request.revision, once).await?;
        Ok(pb::RollbackPolicyResponse {
            policy: Some(write::write(&done.policy, pb::View::Basic, None)),
            differences: done.differences,
        })
    }

    pub(super) async fn delete(
        &self,
        request: pb::DeletePolicyRequest,
    ) -> Result<pb::DeletePolicyResponse, Refusal> {
        check_name(&request.name)?;
        check_request_id(&request.request_id)?;
        let once = once("DeletePolicy", &request.request_id, &request);
        let deleted =
            self.0.engine.delete_policy(&request.name, request.shadow, request.revision, once).await?;
        Ok(pb::DeletePolicyResponse { deleted })
    }
}
