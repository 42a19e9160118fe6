//! Calls about API keys.

use super::list::{ListRequest, Page, all_pages};
use super::{Client, request_id};
use crate::api_key::{ApiKey, IssuedApiKey, NewApiKey};
use crate::error::{Error, Result};
use crate::raw::{Raw, pb};
use crate::time::span;
use futures::Stream;
use std::time::Duration;

fn key_of(key: Option<pb::ApiKey>) -> Result<pb::ApiKey> {
    key.ok_or_else(|| Error::unexpected("the reply has no API key"))
}

impl Client {
    /// Makes an API key. It is told in the answer, this once.
    pub async fn create_api_key(&self, wanted: NewApiKey) -> Result<IssuedApiKey> {
        let send = |raw: Raw, request| async move { raw.auth().create_api_key(request).await };
        let reply = self.call(wanted.into_pb(request_id()), send).await?;
        Ok(IssuedApiKey::from_pb(key_of(reply.api_key)?, reply.secret))
    }

    /// What an API key is.
    pub async fn get_api_key(&self, key_id: impl Into<String>) -> Result<ApiKey> {
        let request = pb::GetApiKeyRequest { key_id: key_id.into() };
        let send = |raw: Raw, request| async move { raw.auth().get_api_key(request).await };
        Ok(ApiKey::from_pb(key_of(self.call(request, send).await?.api_key)?))
    }

    /// A page of API keys, newest first unless asked otherwise.
    pub async fn list_api_keys(&self, request: impl Into<ListRequest>) -> Result<Page<ApiKey>> {
        let ListRequest { filter, page_size, page_token, order_by, view: _ } = request.into();
        let request =
            pb::ListApiKeysRequest { filter, page_size, page_token, order_by, ..Default::default() };
        let send = |raw: Raw, request| async move { raw.auth().list_api_keys(request).await };
        let reply = self.call(request, send).await?;
        let items = reply.api_keys.into_iter().map(ApiKey::from_pb).collect();
        Ok(Page { items, next_page_token: reply.next_page_token })
    }

    /// All API keys of a list, page after page.
    pub fn list_all_api_keys(
        &self,
        request: impl Into<ListRequest>,
    ) -> impl Stream<Item = Result<ApiKey>> + Send + 'static {
        let client = self.clone();
        all_pages(request.into(), move |request| {
            let client = client.clone();
            async move { client.list_api_keys(request).await }
        })
    }

    /// Gives an API key a new secret. The key before it is valid for `overlap`, up to 7 days; left out: 24 h.
    pub async fn rotate_api_key(
        &self,
        key_id: impl Into<String>,
        overlap: Option<Duration>,
    ) -> Result<IssuedApiKey> {
        let (key_id, request_id) = (key_id.into(), request_id());
        let request = pb::RotateApiKeyRequest { key_id, overlap: overlap.map(span), request_id };
        let send = |raw: Raw, request| async move { raw.auth().rotate_api_key(request).await };
        let reply = self.call(request, send).await?;
        Ok(IssuedApiKey::from_pb(key_of(reply.api_key)?, reply.secret))
    }

    /// Ends an API key for ever, and its streams.
    pub async fn revoke_api_key(&self, key_id: impl Into<String>) -> Result<ApiKey> {
        let request = pb::RevokeApiKeyRequest { key_id: key_id.into(), request_id: request_id() };
        let send = |raw: Raw, request| async move { raw.auth().revoke_api_key(request).await };
        Ok(ApiKey::from_pb(key_of(self.call(request, send).await?.api_key)?))
    }
}
