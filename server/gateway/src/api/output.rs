//! `ReadJobOutput`: what a job's worker wrote, from an offset on.

use super::Replies;
use super::jobs::end_with;
use crate::call::Call;
use crate::gate::{Gate, job_id};
use coretex_contract::v1 as pb;
use coretex_domain::{JobId, Refusal};
use coretex_engine::api::OutputChunk;
use futures::stream;
use std::collections::VecDeque;
use std::sync::Arc;

/// Streams read when none is named; those of other names are read by name.
const COMMON: [&str; 4] = ["log", "stderr", "stdout", "tokens"];
const NAME_LEN_MAX: usize = 64;

struct Reading {
    gate: Arc<Gate>,
    call: Arc<Call>,
    id: JobId,
    follow: bool,
    /// Streams that are not read to their end, with the next offset.
    open: VecDeque<(String, u64)>,
    ready: VecDeque<pb::ReadJobOutputResponse>,
    has_failed: bool,
    _place: crate::gate::WatchPlace,
}

pub(crate) async fn open(
    gate: Arc<Gate>,
    call: Arc<Call>,
    request: pb::ReadJobOutputRequest,
) -> Result<Replies<pb::ReadJobOutputResponse>, Refusal> {
    let id = job_id("job_id", &request.job_id)?;
    let open = match request.stream.as_str() {
        "" => COMMON.iter().map(|name| ((*name).to_owned(), 0)).collect(),
        name => {
            check_name(name).map_err(|message| Refusal::field("stream", message))?;
            VecDeque::from([(name.to_owned(), request.offset)])
        }
    };
    gate.engine.get(&call.namespace, &id).await?;
    let place = gate.watch_place(&call.namespace)?;
    let reading = Reading {
        gate,
        call,
        id,
        follow: request.follow,
        open,
        ready: VecDeque::new(),
        has_failed: false,
        _place: place,
    };
    Ok(Box::pin(stream::unfold(reading, |mut reading| async move {
        let message = reading.next().await?;
        let message = message.or_else(|refusal| end_with(&refusal, &reading.call));
        Some((message, reading))
    })))
}

/// Checks the name of an output stream: `[a-z0-9][a-z0-9._-]{0,63}`.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    if name.len() > NAME_LEN_MAX {
        return Err(format!("must be at most {NAME_LEN_MAX} characters, got {}", name.len()));
    }
    coretex_domain::names::check_topic(name)
}

impl Reading {
    async fn next(&mut self) -> Option<Result<pb::ReadJobOutputResponse, Refusal>> {
        loop {
            if let Some(message) = self.ready.pop_front() {
                return Some(Ok(message));
            }
            if self.has_failed || self.open.is_empty() {
                return None;
            }
            if let Err(refusal) = self.read().await {
                self.has_failed = true;
                return Some(Err(refusal));
            }
        }
    }

    /// Reads the next stream in turn; with several, each is waited for a moment only.
    async fn read(&mut self) -> Result<(), Refusal> {
        let Some((name, offset)) = self.open.pop_front() else { return Ok(()) };
        let is_alone = self.open.is_empty();
        let (engine, namespace) = (&self.gate.engine, &self.call.namespace);
        let read = engine.read_output(namespace, &self.id, &name, offset, self.follow && is_alone).await?;
        let end = read.chunks.last().map_or(offset, |c| c.offset + c.chunk.len() as u64);
        let has_more = end > offset;
        let is_over = !has_more && (read.has_ended || !self.follow);
        let is_named_end = read.has_ended && !has_more;
        let had_output = end > 0;
        self.ready.extend(read.chunks.into_iter().map(|chunk| write(&name, chunk)));
        if is_named_end && (had_output || is_alone) {
            let last = pb::ReadJobOutputResponse {
                stream: name.clone(),
                offset: end,
                end: true,
                ..Default::default()
            };
            self.ready.push_back(last);
        }
        if !is_over {
            self.open.push_back((name, end));
        }
        if self.follow && !is_alone && !has_more && !is_over {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        Ok(())
    }
}

fn write(stream: &str, chunk: OutputChunk) -> pb::ReadJobOutputResponse {
    pb::ReadJobOutputResponse {
        stream: stream.to_owned(),
        offset: chunk.offset,
        chunk: chunk.chunk,
        end: false,
        dropped: chunk.dropped,
    }
}
