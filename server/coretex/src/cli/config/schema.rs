//! `config schema`: what configuration must satisfy.

use super::super::client::{ClientArgs, request_id};
use super::super::input;
use super::super::shown::{Format, document, line, note, out, print_document};
use super::super::table::{self, Rows, number};
use super::data::{DataArgs, object};
use super::{Scope, scope, shown_scope};
use crate::outcome::{Failure, Outcome};
use coretex_sdk::raw::v1;

/// Commands about schemas.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum SchemaCommand {
    /// Set the schema of a part of the configuration
    Set {
        /// Scope: system, org, team/NAME, workflow/NAME or step/NAME
        #[arg(value_parser = scope)]
        scope: Scope,
        /// Path of the part, for example llm; "" is the whole
        prefix: String,
        #[command(flatten)]
        source: DataArgs,
        /// Change only if the schema is at this revision
        #[arg(long, value_name = "N", default_value_t = 0)]
        revision: u64,
    },
    /// List schemas
    List {
        /// Filter over level, id and prefix, for example: prefix = llm
        #[arg(long, value_name = "EXPR", default_value = "")]
        filter: String,
    },
    /// Take a schema away
    Delete {
        /// Scope: system, org, team/NAME, workflow/NAME or step/NAME
        #[arg(value_parser = scope)]
        scope: Scope,
        /// Path of the part
        prefix: String,
        /// Delete only if the schema is at this revision
        #[arg(long, value_name = "N", default_value_t = 0)]
        revision: u64,
    },
}

pub(super) async fn run(command: SchemaCommand, options: &ClientArgs) -> Outcome {
    match command {
        SchemaCommand::Set { scope, prefix, source, revision } => {
            let schema = source.read()?;
            let schema = schema.ok_or_else(|| Failure::Usage("no schema: give --data or --file".into()))?;
            let request = v1::SetConfigSchemaRequest {
                scope: Some(scope.0),
                prefix,
                schema: Some(object("schema", schema)?),
                revision,
                request_id: request_id(),
            };
            set(request, options).await
        }
        SchemaCommand::List { filter } => list(filter, options).await,
        SchemaCommand::Delete { scope, prefix, revision } => {
            let request = v1::DeleteConfigSchemaRequest {
                scope: Some(scope.0),
                prefix,
                revision,
                request_id: request_id(),
            };
            let client = options.connect().await?;
            let reply = client.raw().configs().delete_config_schema(request).await?.into_inner();
            match options.output {
                Format::Table => line(if reply.deleted { "deleted" } else { "was deleted before" }),
                format => print_document(format, &document("DeleteConfigSchemaResponse", &reply), true),
            }
        }
    }
}

async fn set(request: v1::SetConfigSchemaRequest, options: &ClientArgs) -> Outcome {
    let client = options.connect().await?;
    let reply = client.raw().configs().set_config_schema(request).await?.into_inner();
    match (options.output, &reply.schema) {
        (Format::Table, Some(schema)) => {
            let scope = shown_scope(schema.scope.as_ref());
            line(format!("{scope}  \"{}\"  revision {}", schema.prefix, schema.revision))
        }
        (Format::Table, None) => Ok(()),
        (format, _) => print_document(format, &document("SetConfigSchemaResponse", &reply), true),
    }
}

async fn list(filter: String, options: &ClientArgs) -> Outcome {
    let client = options.connect().await?;
    let mut all = v1::ListConfigSchemasResponse::default();
    loop {
        let request = v1::ListConfigSchemasRequest {
            filter: filter.clone(),
            page_size: 1_000,
            page_token: std::mem::take(&mut all.next_page_token),
            ..Default::default()
        };
        let page = client.raw().configs().list_config_schemas(request).await?.into_inner();
        all.schemas.extend(page.schemas);
        all.next_page_token = page.next_page_token;
        if all.next_page_token.is_empty() {
            break;
        }
    }
    if options.output != Format::Table {
        return print_document(options.output, &document("ListConfigSchemasResponse", &all), true);
    }
    if all.schemas.is_empty() {
        note("no schemas");
        return Ok(());
    }
    let mut rows = Rows::new(["SCOPE", "PREFIX", "REVISION", "CHANGED", "BY"]);
    for schema in all.schemas {
        rows.add([
            shown_scope(schema.scope.as_ref()).into(),
            format!("\"{}\"", schema.prefix).into(),
            number(schema.revision),
            table::time(schema.update_time.and_then(input::of_stamp)).into(),
            schema.actor.into(),
        ]);
    }
    out(&rows.text())
}
