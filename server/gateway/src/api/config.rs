//! `ConfigService`: configuration in layers.

mod read;
mod schema;
mod watch;

use super::Replies;
use super::jobs::check_request_id;
use super::topics::once_in;
use crate::call::{Answer, Call};
use crate::gate::Gate;
use crate::wire::{Faults, config};
use coretex_contract::v1 as pb;
use coretex_domain::config::{Level, Scope};
use coretex_domain::limits::REASON_LEN_MAX;
use coretex_domain::{Reason, Refusal};
use coretex_engine::ConfigEdit;
use std::sync::Arc;
use tonic::Request;

#[derive(Clone)]
pub(crate) struct Config(pub(crate) Arc<Gate>);

/// The system's layer is everybody's: callers that are bound to some namespaces do not change it, nor see who did.
fn check_system(call: &Call, scope: &Scope) -> Result<(), Refusal> {
    if scope.level != Level::System || call.principal.namespaces.is_empty() {
        return Ok(());
    }
    let message = "scope.level: the system's configuration is changed, and its history read, only by identities \
                   that are not bound to some namespaces";
    Err(Refusal::new(Reason::PermissionDenied, message))
}

/// What every change of a scope names.
fn read_scope(
    call: &Call,
    mut faults: Faults,
    scope: Option<pb::ConfigScope>,
    comment: &str,
) -> Result<Scope, Refusal> {
    let scope = config::scope(&mut faults, scope, &call.namespace);
    faults.text("comment", comment, REASON_LEN_MAX);
    if comment.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
        faults.add("comment", "must be printable");
    }
    faults.into_result()?;
    check_system(call, &scope)?;
    Ok(scope)
}

impl Config {
    async fn set(
        &self,
        call: &Call,
        request: pb::SetConfigRequest,
    ) -> Result<pb::SetConfigResponse, Refusal> {
        check_request_id(&request.request_id)?;
        let once = once_in(&call.namespace, "SetConfig", &request.request_id, &request);
        let mut faults = Faults::default();
        let data = config::object(&mut faults, "data", request.data);
        let scope = read_scope(call, faults, request.scope, &request.comment)?;
        let edit = if request.merge { ConfigEdit::Merge(data) } else { ConfigEdit::Replace(data) };
        let caller = call.caller();
        let comment = request.comment.into();
        let changing = self.0.engine.change_config(&caller, once, scope, request.revision, comment, edit);
        Ok(pb::SetConfigResponse { config: Some(config::write(&changing.await?, true)) })
    }

    async fn delete(
        &self,
        call: &Call,
        request: pb::DeleteConfigRequest,
    ) -> Result<pb::DeleteConfigResponse, Refusal> {
        check_request_id(&request.request_id)?;
        let once = once_in(&call.namespace, "DeleteConfig", &request.request_id, &request);
        let scope = read_scope(call, Faults::default(), request.scope, &request.comment)?;
        let caller = call.caller();
        let (comment, edit) = (request.comment.into(), ConfigEdit::Delete);
        let changing = self.0.engine.change_config(&caller, once, scope, request.revision, comment, edit);
        Ok(pb::DeleteConfigResponse { config: Some(config::write(&changing.await?, true)) })
    }

    async fn rollback(
        &self,
        call: &Call,
        request: pb::RollbackConfigRequest,
    ) -> Result<pb::RollbackConfigResponse, Refusal> {
        check_request_id(&request.request_id)?;
        let once = once_in(&call.namespace, "RollbackConfig", &request.request_id, &request);
        let mut faults = Faults::default();
        if request.to_revision == 0 {
            faults.add("to_revision", "required: a revision from 1");
        }
        let scope = read_scope(call, faults, request.scope, &request.comment)?;
        let caller = call.caller();
        let (at, to, comment) = (request.revision, request.to_revision, request.comment.into());
        let changing = self.0.engine.rollback_config(&caller, once, scope, at, comment, to);
        Ok(pb::RollbackConfigResponse { config: Some(config::write(&changing.await?, true)) })
    }
}

/// A scope as it stands in the audit: `system`, `org`, `team:NAME` …
fn named(scope: Option<&pb::ConfigScope>) -> String {
    let Some(scope) = scope else { return String::new() };
    let level = scope.level().as_str_name().trim_start_matches("CONFIG_LEVEL_").to_ascii_lowercase();
    if scope.id.is_empty() { level } else { format!("{level}:{}", scope.id) }
}

#[tonic::async_trait]
impl pb::config_service_server::ConfigService for Config {
    type WatchConfigStream = Replies<pb::WatchConfigResponse>;

    async fn set_config(&self, request: Request<pb::SetConfigRequest>) -> Answer<pb::SetConfigResponse> {
        let call = Call::of(&request);
        call.subject(&named(request.get_ref().scope.as_ref()));
        call.answer(self.set(&call, request.into_inner()).await)
    }

    async fn get_config(&self, request: Request<pb::GetConfigRequest>) -> Answer<pb::GetConfigResponse> {
        let call = Call::of(&request);
        call.answer(self.get(&call, request.into_inner()))
    }

    async fn get_effective_config(
        &self,
        request: Request<pb::GetEffectiveConfigRequest>,
    ) -> Answer<pb::GetEffectiveConfigResponse> {
        let call = Call::of(&request);
        call.answer(self.effective(&call, request.into_inner()).await)
    }

    async fn list_configs(
        &self,
        request: Request<pb::ListConfigsRequest>,
    ) -> Answer<pb::ListConfigsResponse> {
        let call = Call::of(&request);
        call.answer(self.list(&call, &request.into_inner()))
    }

    async fn delete_config(
        &self,
        request: Request<pb::DeleteConfigRequest>,
    ) -> Answer<pb::DeleteConfigResponse> {
        let call = Call::of(&request);
        call.subject(&named(request.get_ref().scope.as_ref()));
        call.answer(self.delete(&call, request.into_inner()).await)
    }

    async fn get_config_history(
        &self,
        request: Request<pb::GetConfigHistoryRequest>,
    ) -> Answer<pb::GetConfigHistoryResponse> {
        let call = Call::of(&request);
        call.answer(self.history(&call, request.into_inner()).await)
    }

    async fn rollback_config(
        &self,
        request: Request<pb::RollbackConfigRequest>,
    ) -> Answer<pb::RollbackConfigResponse> {
        let call = Call::of(&request);
        call.subject(&named(request.get_ref().scope.as_ref()));
        call.answer(self.rollback(&call, request.into_inner()).await)
    }

    async fn watch_config(
        &self,
        request: Request<pb::WatchConfigRequest>,
    ) -> Answer<Self::WatchConfigStream> {
        let call = Call::of(&request);
        let opened = watch::open(self.0.clone(), call.clone(), request.into_inner()).await;
        call.answer(opened)
    }

    async fn set_config_schema(
        &self,
        request: Request<pb::SetConfigSchemaRequest>,
    ) -> Answer<pb::SetConfigSchemaResponse> {
        let call = Call::of(&request);
        call.subject(&named(request.get_ref().scope.as_ref()));
        call.answer(self.set_schema(&call, request.into_inner()).await)
    }

    async fn list_config_schemas(
        &self,
        request: Request<pb::ListConfigSchemasRequest>,
    ) -> Answer<pb::ListConfigSchemasResponse> {
        let call = Call::of(&request);
        call.answer(self.list_schemas(&call, &request.into_inner()))
    }

    async fn delete_config_schema(
        &self,
        request: Request<pb::DeleteConfigSchemaRequest>,
    ) -> Answer<pb::DeleteConfigSchemaResponse> {
        let call = Call::of(&request);
        call.subject(&named(request.get_ref().scope.as_ref()));
        call.answer(self.delete_schema(&call, request.into_inner()).await)
    }
}
