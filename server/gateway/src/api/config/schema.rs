//! Schemas of parts of the configuration.

use super::read::{LEVELS, ORDERS, fitting, level_word, place};
use super::{Config, read_scope};
use crate::api::jobs::check_request_id;
use crate::api::list::{self, Named, bound, filter, order, page_size};
use crate::api::topics::once_in;
use crate::call::Call;
use crate::wire::{Faults, config};
use coretex_contract::v1 as pb;
use coretex_domain::Refusal;
use coretex_domain::filter::{Field, Found, Kind, Row, Schema, optional};
use coretex_engine::ConfigSchema;
use prost::Message;

const FIELDS: Schema = &[
    Field { name: "level", kind: LEVELS },
    Field { name: "id", kind: Kind::Text },
    Field { name: "prefix", kind: Kind::Text },
];

struct SchemaRow<'a>(&'a ConfigSchema, String, String);

impl Row for SchemaRow<'_> {
    fn field(&self, name: &'static str, _key: &str) -> Found<'_> {
        match name {
            "level" => optional(Some(level_word(self.0.scope.level))),
            "id" => optional(Some(&self.1)),
            "prefix" => optional(Some(&self.2)),
            _ => Found::Unset,
        }
    }
}

impl Config {
    pub(super) async fn set_schema(
        &self,
        call: &Call,
        request: pb::SetConfigSchemaRequest,
    ) -> Result<pb::SetConfigSchemaResponse, Refusal> {
        check_request_id(&request.request_id)?;
        let once = once_in(&call.namespace, "SetConfigSchema", &request.request_id, &request);
        let mut faults = Faults::default();
        let schema = config::object(&mut faults, "schema", request.schema);
        let prefix = config::prefix(&mut faults, &request.prefix);
        let scope = read_scope(call, faults, request.scope, "")?;
        let caller = call.caller();
        let setting = self.0.engine.set_config_schema(&caller, once, scope, prefix, request.revision, schema);
        Ok(pb::SetConfigSchemaResponse { schema: Some(config::schema(setting.await?)) })
    }

    pub(super) fn list_schemas(
        &self,
        call: &Call,
        request: &pb::ListConfigSchemasRequest,
    ) -> Result<pb::ListConfigSchemasResponse, Refusal> {
        let filter = filter(FIELDS, &request.filter)?;
        let count = page_size(request.page_size, list::DEFAULT)?;
        let order = order(&request.order_by, &ORDERS)?;
        let all = self.0.engine.config_schemas(&call.namespace, None)?;
        let row = |one| SchemaRow(one, config::id_of(&one.scope, &call.namespace), one.prefix.to_string());
        let rows: Vec<&ConfigSchema> = all.iter().filter(|one| filter.matches_row(&row(one))).collect();
        let page = |count| {
            let named = Named {
                rows: rows
                    .iter()
                    .map(|one| (format!("{} {}", place(&one.scope), one.prefix), *one))
                    .collect(),
                bound: bound("ListConfigSchemas", call, &filter, order),
                tokens: &self.0.tokens,
                descending: order.ends_with("desc"),
                page_size: count,
                page_token: &request.page_token,
            };
            let (page, next) = named.page()?;
            Ok((page.into_iter().cloned().map(config::schema).collect(), next))
        };
        let (schemas, next_page_token) = fitting(count, page, pb::ConfigSchema::encoded_len)?;
        Ok(pb::ListConfigSchemasResponse { schemas, next_page_token })
    }

    pub(super) async fn delete_schema(
        &self,
        call: &Call,
        request: pb::DeleteConfigSchemaRequest,
    ) -> Result<pb::DeleteConfigSchemaResponse, Refusal> {
        check_request_id(&request.request_id)?;
        let once = once_in(&call.namespace, "DeleteConfigSchema", &request.request_id, &request);
        let mut faults = Faults::default();
        let prefix = config::prefix(&mut faults, &request.prefix);
        let scope = read_scope(call, faults, request.scope, "")?;
        let caller = call.caller();
        let deleting = self.0.engine.delete_config_schema(&caller, once, scope, prefix, request.revision);
        Ok(pb::DeleteConfigSchemaResponse { deleted: deleting.await? })
    }
}
