//! Reading configuration: one scope, all scopes, the layers together, the history.

use super::{Config, check_system};
use crate::api::list::{self, Named, bound, filter, order, page_size, view};
use crate::call::Call;
use crate::gate::job_id;
use crate::tokens::Bound;
use crate::wire::{Faults, config};
use coretex_contract::v1 as pb;
use coretex_domain::config::{Level, Scope};
use coretex_domain::filter::{Field, Found, Kind, Row, Schema, optional};
use coretex_domain::limits::BATCH_BYTES_AIM;
use coretex_domain::{Namespace, Reason, Refusal};
use coretex_engine::ScopeConfig;
use prost::Message;

pub(super) const LEVELS: Kind = Kind::Word(&["SYSTEM", "ORG", "TEAM", "WORKFLOW", "STEP"]);
const FIELDS: Schema = &[
    Field { name: "level", kind: LEVELS },
    Field { name: "id", kind: Kind::Text },
    Field { name: "actor", kind: Kind::Text },
];
pub(super) const ORDERS: [&str; 2] = ["scope asc", "scope desc"];
/// Revisions read at a time: together with what a page aims at they stay below the message limit.
const CHUNK: usize = 4;

struct ConfigRow<'a>(&'a ScopeConfig, String);

impl Row for ConfigRow<'_> {
    fn field(&self, name: &'static str, _key: &str) -> Found<'_> {
        match name {
            "level" => optional(Some(level_word(self.0.scope.level))),
            "id" => optional(Some(&self.1)),
            "actor" => optional(Some(&*self.0.actor)),
            _ => Found::Unset,
        }
    }
}

pub(super) fn level_word(level: Level) -> &'static str {
    match level {
        Level::System => "SYSTEM",
        Level::Org => "ORG",
        Level::Team => "TEAM",
        Level::Workflow => "WORKFLOW",
        Level::Step => "STEP",
    }
}

/// Sorts scopes by level, then id.
pub(super) fn place(scope: &Scope) -> String {
    format!("{}/{}", scope.level as u8, scope.id)
}

/// A page that is not much larger than one message may be: the same page with fewer rows, until it fits or has one.
pub(super) fn fitting<T>(
    mut count: usize,
    page: impl Fn(usize) -> Result<(Vec<T>, String), Refusal>,
    len: impl Fn(&T) -> usize,
) -> Result<(Vec<T>, String), Refusal> {
    loop {
        let (rows, next) = page(count)?;
        if rows.len() <= 1 || rows.iter().map(&len).sum::<usize>() <= 2 * BATCH_BYTES_AIM {
            return Ok((rows, next));
        }
        count = rows.len() / 2;
    }
}

impl Config {
    pub(super) fn get(
        &self,
        call: &Call,
        request: pb::GetConfigRequest,
    ) -> Result<pb::GetConfigResponse, Refusal> {
        let mut faults = Faults::default();
        let scope = config::scope(&mut faults, request.scope, &call.namespace);
        faults.into_result()?;
        let state = self.0.engine.config(&call.namespace, &scope)?;
        Ok(pb::GetConfigResponse { config: Some(written(&state, true, call)) })
    }

    pub(super) async fn effective(
        &self,
        call: &Call,
        request: pb::GetEffectiveConfigRequest,
    ) -> Result<pb::GetEffectiveConfigResponse, Refusal> {
        let names = [&request.org, &request.team, &request.workflow, &request.step].map(String::as_str);
        let mut faults = Faults::default();
        let chain = config::chain(&mut faults, names, &call.namespace);
        if !request.job_id.is_empty() && names.iter().any(|name| !name.is_empty()) {
            faults.add("job_id", "must be left out where org, team, workflow or step is given");
        }
        faults.into_result()?;
        let found = if request.job_id.is_empty() {
            self.0.engine.effective_config(&call.namespace, &chain)?
        } else {
            let job = self.0.engine.get(&call.namespace, &job_id("job_id", &request.job_id)?).await?;
            self.0.engine.config_of_job(&job).await?
        };
        let response = config::effective(found, &call.namespace, !request.omit_sources);
        let (len, most) = (response.encoded_len(), self.0.settings.message_max);
        if len > most && !request.omit_sources {
            let message = format!(
                "sources: the answer has {len} bytes, at most {most} are sent; ask with omit_sources"
            );
            return Err(Refusal::new(Reason::MessageTooLarge, message));
        }
        Ok(response)
    }

    pub(super) fn list(
        &self,
        call: &Call,
        request: &pb::ListConfigsRequest,
    ) -> Result<pb::ListConfigsResponse, Refusal> {
        let filter = filter(FIELDS, &request.filter)?;
        let count = page_size(request.page_size, list::DEFAULT)?;
        let order = order(&request.order_by, &ORDERS)?;
        let with_data = view(request.view, pb::View::Basic)? == pb::View::Full;
        let all = self.0.engine.configs(&call.namespace)?;
        let is_wanted = |one: &&ScopeConfig| {
            filter.matches_row(&ConfigRow(one, config::id_of(&one.scope, &call.namespace)))
        };
        let rows: Vec<&ScopeConfig> = all.iter().filter(is_wanted).collect();
        let page = |count| {
            let named = Named {
                rows: rows.iter().map(|one| (place(&one.scope), *one)).collect(),
                bound: bound("ListConfigs", call, &filter, order),
                tokens: &self.0.tokens,
                descending: order.ends_with("desc"),
                page_size: count,
                page_token: &request.page_token,
            };
            let (page, next) = named.page()?;
            Ok((page.into_iter().map(|one| written(one, with_data, call)).collect(), next))
        };
        let (configs, next_page_token) = fitting(count, page, pb::Config::encoded_len)?;
        Ok(pb::ListConfigsResponse { configs, next_page_token })
    }

    pub(super) async fn history(
        &self,
        call: &Call,
        request: pb::GetConfigHistoryRequest,
    ) -> Result<pb::GetConfigHistoryResponse, Refusal> {
        let mut faults = Faults::default();
        let scope = config::scope(&mut faults, request.scope, &call.namespace);
        faults.into_result()?;
        check_system(call, &scope)?;
        let count = page_size(request.page_size, list::DEFAULT)?;
        let bound = Bound::new("GetConfigHistory", call.namespace.as_str(), 0, &scope.to_string());
        let token = self.0.tokens.open_name(&bound, &request.page_token)?;
        let mut before = token.and_then(|text| text.parse().ok());
        let (mut revisions, mut bytes, mut has_more) = (Vec::<pb::ConfigRevision>::new(), 0, true);
        while has_more && revisions.len() < count && bytes < BATCH_BYTES_AIM {
            let limit = CHUNK.min(count - revisions.len());
            let (found, more) = self.0.engine.config_history(&call.namespace, &scope, before, limit).await?;
            before = found.last().map(|one| one.revision);
            has_more = more && before.is_some();
            revisions.extend(found.iter().map(|one| config::revision(one, true)));
            bytes = revisions.iter().map(pb::ConfigRevision::encoded_len).sum();
        }
        let last = before.filter(|_| has_more);
        let next_page_token =
            last.map(|last| self.0.tokens.seal_name(&bound, &last.to_string())).unwrap_or_default();
        Ok(pb::GetConfigHistoryResponse { revisions, next_page_token })
    }
}

/// A state as this caller may see it.
fn written(state: &ScopeConfig, with_data: bool, call: &Call) -> pb::Config {
    let written = config::write(state, with_data);
    let is_foreign = state.namespace == Namespace::installation() && !call.principal.namespaces.is_empty();
    if is_foreign { pb::Config { actor: String::new(), comment: String::new(), ..written } } else { written }
}
