//! Calls about configuration.

use super::list::{ListRequest, Page, all_pages};
use super::watch::mended;
use super::{Client, request_id};
use crate::config::{
    ConfigChain, ConfigRevision, ConfigSchema, ConfigScope, ConfigStep, EffectiveConfig, ScopeConfig,
    SetConfig, object,
};
use crate::error::{Error, Result};
use crate::names::{ConfigWatchKind, View};
use crate::raw::{Raw, pb};
use futures::{Stream, StreamExt as _};

impl Client {
    /// Changes the configuration of a scope.
    pub async fn set_config(&self, change: SetConfig) -> Result<ScopeConfig> {
        let request = change.into_pb(request_id())?;
        let send = |raw: Raw, request| async move { raw.configs().set_config(request).await };
        ScopeConfig::from_pb(self.call(request, send).await?.config)
    }

    /// The configuration of one scope, without the layers around it.
    pub async fn get_config(&self, scope: ConfigScope) -> Result<ScopeConfig> {
        let request = pb::GetConfigRequest { scope: scope.into_pb() };
        let send = |raw: Raw, request| async move { raw.configs().get_config(request).await };
        ScopeConfig::from_pb(self.call(request, send).await?.config)
    }

    /// What the layers give together now, and which of them set each leaf.
    pub async fn effective_config(&self, chain: ConfigChain) -> Result<EffectiveConfig> {
        let ConfigChain { team, workflow, step } = chain;
        self.effective(pb::GetEffectiveConfigRequest { team, workflow, step, ..Default::default() }).await
    }

    /// The configuration a job was submitted under, without its sources.
    pub async fn config_of_job(&self, job_id: impl Into<String>) -> Result<EffectiveConfig> {
        let job_id = job_id.into();
        self.effective(pb::GetEffectiveConfigRequest { job_id, omit_sources: true, ..Default::default() })
            .await
    }

    async fn effective(&self, request: pb::GetEffectiveConfigRequest) -> Result<EffectiveConfig> {
        let send = |raw: Raw, request| async move { raw.configs().get_effective_config(request).await };
        Ok(EffectiveConfig::from_pb(self.call(request, send).await?))
    }

    /// A page of scopes that have a configuration.
    pub async fn list_configs(&self, request: impl Into<ListRequest>) -> Result<Page<ScopeConfig>> {
        let ListRequest { filter, page_size, page_token, order_by, view } = request.into();
        let view = View::number(view);
        let request = pb::ListConfigsRequest { filter, page_size, page_token, order_by, view };
        let send = |raw: Raw, request| async move { raw.configs().list_configs(request).await };
        let reply = self.call(request, send).await?;
        let items: Result<Vec<_>> =
            reply.configs.into_iter().map(|one| ScopeConfig::from_pb(Some(one))).collect();
        Ok(Page { items: items?, next_page_token: reply.next_page_token })
    }

    /// All scopes of a list, page after page.
    pub fn list_all_configs(
        &self,
        request: impl Into<ListRequest>,
    ) -> impl Stream<Item = Result<ScopeConfig>> + Send + 'static {
        let client = self.clone();
        all_pages(request.into(), move |request| {
            let client = client.clone();
            async move { client.list_configs(request).await }
        })
    }

    /// Takes the configuration of a scope away, if it is at `revision` (0: whatever it is at). Its history stays.
    pub async fn delete_config(&self, scope: ConfigScope, revision: u64) -> Result<ScopeConfig> {
        let scope = scope.into_pb();
        let request =
            pb::DeleteConfigRequest { scope, revision, comment: String::new(), request_id: request_id() };
        let send = |raw: Raw, request| async move { raw.configs().delete_config(request).await };
        ScopeConfig::from_pb(self.call(request, send).await?.config)
    }

    /// The revisions of a scope, the newest first, page after page.
    pub fn config_history(
        &self,
        scope: ConfigScope,
    ) -> impl Stream<Item = Result<ConfigRevision>> + Send + 'static {
        let client = self.clone();
        all_pages(ListRequest::default(), move |asked| {
            let (client, scope) = (client.clone(), scope.clone().into_pb());
            async move {
                let page_token = asked.page_token;
                let request = pb::GetConfigHistoryRequest { scope, page_size: asked.page_size, page_token };
                let send = |raw: Raw, request| async move { raw.configs().get_config_history(request).await };
                let reply = client.call(request, send).await?;
                let items = reply.revisions.into_iter().map(ConfigRevision::from_pb).collect();
                Ok::<_, Error>(Page { items, next_page_token: reply.next_page_token })
            }
        })
    }

    /// Makes the data of an earlier revision the newest one.
    pub async fn rollback_config(&self, scope: ConfigScope, to_revision: u64) -> Result<ScopeConfig> {
        let request_id = request_id();
        let scope = scope.into_pb();
        let request = pb::RollbackConfigRequest { scope, to_revision, request_id, ..Default::default() };
        let send = |raw: Raw, request| async move { raw.configs().rollback_config(request).await };
        ScopeConfig::from_pb(self.call(request, send).await?.config)
    }

    /// Follows what the layers give together: the state as it is, then after every change. `resume_token` of an earlier message
    /// goes on exactly after it; empty begins anew. Breaks are mended; signs of life are not passed on.
    pub fn watch_config(
        &self,
        chain: ConfigChain,
        resume_token: impl Into<String>,
    ) -> impl Stream<Item = Result<ConfigStep>> + Send + 'static {
        let client = self.clone();
        let open = move |request: pb::WatchConfigRequest| {
            let client = client.clone();
            async move { Ok(client.raw().configs().watch_config(request).await?.into_inner()) }
        };
        let mark = |request: &mut pb::WatchConfigRequest, reply: &pb::WatchConfigResponse| {
            request.resume_token.clone_from(&reply.resume_token);
        };
        let ConfigChain { team, workflow, step } = chain;
        let resume_token = resume_token.into();
        let request = pb::WatchConfigRequest { team, workflow, step, resume_token, ..Default::default() };
        mended(request, open, mark).filter_map(|told| async move {
            match told.map(ConfigStep::from_pb) {
                Ok(step) if step.kind == ConfigWatchKind::Current => None,
                told => Some(told),
            }
        })
    }

    /// Sets the schema of a part of the configuration at a scope.
    pub async fn set_config_schema(
        &self,
        scope: ConfigScope,
        prefix: impl Into<String>,
        schema: serde_json::Value,
    ) -> Result<ConfigSchema> {
        let request = pb::SetConfigSchemaRequest {
            scope: scope.into_pb(),
            prefix: prefix.into(),
            schema: Some(object("schema", schema)?),
            revision: 0,
            request_id: request_id(),
        };
        let send = |raw: Raw, request| async move { raw.configs().set_config_schema(request).await };
        let schema = self.call(request, send).await?.schema;
        schema.map(ConfigSchema::from_pb).ok_or_else(|| Error::unexpected("the reply has no schema"))
    }

    /// A page of schemas.
    pub async fn list_config_schemas(&self, request: impl Into<ListRequest>) -> Result<Page<ConfigSchema>> {
        let ListRequest { filter, page_size, page_token, order_by, .. } = request.into();
        let request = pb::ListConfigSchemasRequest { filter, page_size, page_token, order_by };
        let send = |raw: Raw, request| async move { raw.configs().list_config_schemas(request).await };
        let reply = self.call(request, send).await?;
        let items = reply.schemas.into_iter().map(ConfigSchema::from_pb).collect();
        Ok(Page { items, next_page_token: reply.next_page_token })
    }

    /// Takes a schema away.
    pub async fn delete_config_schema(&self, scope: ConfigScope, prefix: impl Into<String>) -> Result<bool> {
        let (scope, prefix) = (scope.into_pb(), prefix.into());
        let request = pb::DeleteConfigSchemaRequest { scope, prefix, revision: 0, request_id: request_id() };
        let send = |raw: Raw, request| async move { raw.configs().delete_config_schema(request).await };
        Ok(self.call(request, send).await?.deleted)
    }
}
