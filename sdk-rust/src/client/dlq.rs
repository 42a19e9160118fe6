//! Calls about dead letters.

use super::list::{ListRequest, Page, all_pages};
use super::submit::Submitted;
use super::watch::mended;
use super::{Client, request_id};
use crate::dead_letter::{DeadLetter, DeadLetterGroups, DeadLetterPreview, Purge, Redrive, RedriveProgress};
use crate::error::{Error, Result};
use crate::names::View;
use crate::payload::Payload;
use crate::raw::{Raw, pb};
use futures::{Stream, StreamExt as _};
use std::time::Duration;

/// A purge deletes up to 10,000 dead letters before it answers.
const PURGE_WITHIN: Duration = Duration::from_secs(120);

impl Client {
    /// A page of dead letters, newest first unless asked otherwise.
    pub async fn list_dead_letters(&self, request: impl Into<ListRequest>) -> Result<Page<DeadLetter>> {
        let ListRequest { filter, page_size, page_token, order_by, view } = request.into();
        let view = View::number(view);
        let request = pb::ListDeadLettersRequest {
            filter,
            page_size,
            page_token,
            order_by,
            view,
            ..Default::default()
        };
        let send = |raw: Raw, request| async move { raw.dlq().list_dead_letters(request).await };
        let reply = self.call(request, send).await?;
        let items = reply.dead_letters.into_iter().map(DeadLetter::from_pb).collect();
        Ok(Page { items, next_page_token: reply.next_page_token })
    }

    /// All dead letters of a list, page after page.
    pub fn list_all_dead_letters(
        &self,
        request: impl Into<ListRequest>,
    ) -> impl Stream<Item = Result<DeadLetter>> + Send + 'static {
        let client = self.clone();
        all_pages(request.into(), move |request| {
            let client = client.clone();
            async move { client.list_dead_letters(request).await }
        })
    }

    /// One dead letter with its job.
    pub async fn get_dead_letter(&self, id: impl Into<String>) -> Result<DeadLetter> {
        let request = pb::GetDeadLetterRequest { dead_letter_id: id.into(), ..Default::default() };
        let send = |raw: Raw, request| async move { raw.dlq().get_dead_letter(request).await };
        let letter = self.call(request, send).await?.dead_letter;
        letter.map(DeadLetter::from_pb).ok_or_else(|| Error::unexpected("the reply has no dead letter"))
    }

    /// Dead letters grouped by cause, the largest groups first.
    pub async fn group_dead_letters(&self, filter: impl Into<String>) -> Result<DeadLetterGroups> {
        let request = pb::GroupDeadLettersRequest { filter: filter.into(), max_groups: 0 };
        let send = |raw: Raw, request| async move { raw.dlq().group_dead_letters(request).await };
        Ok(DeadLetterGroups::from_pb(self.call(request, send).await?))
    }

    /// Makes a new job from a dead letter.
    pub async fn retry_dead_letter(&self, id: impl Into<String>) -> Result<Submitted> {
        self.retry_dead_letter_as(id.into(), None).await
    }

    /// Makes a new job from a dead letter, with another input.
    pub async fn retry_dead_letter_with(&self, id: impl Into<String>, input: Payload) -> Result<Submitted> {
        self.retry_dead_letter_as(id.into(), Some(input)).await
    }

    async fn retry_dead_letter_as(&self, id: String, input: Option<Payload>) -> Result<Submitted> {
        let edited_input = input.map(Payload::into_pb);
        let request =
            pb::RetryDeadLetterRequest { dead_letter_id: id, edited_input, request_id: request_id() };
        let send = |raw: Raw, request| async move { raw.dlq().retry_dead_letter(request).await };
        let reply = self.call(request, send).await?;
        let job = reply.job.ok_or_else(|| Error::unexpected("the reply has no job"))?;
        Ok(Submitted::from_pb(job, reply.existing, reply.ack_level, reply.warnings))
    }

    /// Retries many dead letters and tells how it goes; dropping the stream stops it. A break is mended by asking again under
    /// the same request id: no job is made twice, and numbers begin anew.
    pub fn redrive(&self, redrive: Redrive) -> impl Stream<Item = Result<RedriveProgress>> + Send + 'static {
        let client = self.clone();
        let open = move |request: pb::BatchRetryDeadLettersRequest| {
            let client = client.clone();
            async move { Ok(client.raw().dlq().batch_retry_dead_letters(request).await?.into_inner()) }
        };
        let mark = |_: &mut pb::BatchRetryDeadLettersRequest, _: &pb::BatchRetryDeadLettersResponse| {};
        mended(redrive.request, open, mark).map(|told| told.map(RedriveProgress::from_pb))
    }

    /// What a redrive would retry. Changes nothing.
    pub async fn preview_redrive(&self, redrive: &Redrive) -> Result<DeadLetterPreview> {
        let request = pb::BatchRetryDeadLettersRequest { preview: true, ..redrive.request.clone() };
        let mut told = self.raw().dlq().batch_retry_dead_letters(request).await?.into_inner();
        let first = told.message().await?.ok_or_else(|| Error::unexpected("the preview is empty"))?;
        Ok(DeadLetterPreview::new(first.matched, first.exact, first.sample))
    }

    /// Deletes a dead letter; its job stays. False if it had been deleted before.
    pub async fn delete_dead_letter(&self, id: impl Into<String>) -> Result<bool> {
        let request = pb::DeleteDeadLetterRequest { dead_letter_id: id.into(), request_id: request_id() };
        let send = |raw: Raw, request| async move { raw.dlq().delete_dead_letter(request).await };
        Ok(self.call(request, send).await?.deleted)
    }

    /// Deletes many dead letters, all that match, and returns how many they were.
    pub async fn purge_dead_letters(&self, purge: Purge) -> Result<u64> {
        let mut purged = 0;
        loop {
            let request = pb::PurgeDeadLettersRequest { request_id: request_id(), ..purge.request.clone() };
            let send = |raw: Raw, request| async move { raw.dlq().purge_dead_letters(request).await };
            let reply = self.call_within(PURGE_WITHIN, request, send).await?;
            purged += reply.purged;
            if !reply.more {
                return Ok(purged);
            }
        }
    }

    /// What a purge would delete. Changes nothing.
    pub async fn preview_purge(&self, purge: &Purge) -> Result<DeadLetterPreview> {
        let request = pb::PurgeDeadLettersRequest { preview: true, ..purge.request.clone() };
        let send = |raw: Raw, request| async move { raw.dlq().purge_dead_letters(request).await };
        let reply = self.call_within(PURGE_WITHIN, request, send).await?;
        Ok(DeadLetterPreview::new(reply.matched, reply.exact, reply.sample))
    }
}
