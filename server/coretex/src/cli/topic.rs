//! `coretex topic`: how kinds of work are run.

use super::client::{ClientArgs, request_id};
use super::input;
use super::shown::{Format, document, line, note, out, print_document};
use super::table::{self, Rows, facts, number};
use crate::outcome::{Failure, Outcome};
use crate::units::Span;
use coretex_sdk::raw::v1;
use coretex_sdk::{ListRequest, Topic};
use futures::StreamExt as _;

/// Commands about topics.
#[derive(Debug, clap::Subcommand)]
pub(super) enum TopicCommand {
    /// List topics and what is going on in them
    List {
        /// Filter over name and paused, for example: paused = true
        #[arg(long, value_name = "EXPR", default_value = "")]
        filter: String,
    },
    /// Show a topic
    Get {
        /// Its name
        topic: String,
    },
    /// Change how a topic's jobs are run
    Update(Box<UpdateArgs>),
    /// Hand out no more jobs of a topic
    Pause {
        /// Its name
        topic: String,
        /// Why, for people
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Hand out jobs of a topic again
    Resume {
        /// Its name
        topic: String,
    },
}

/// What to change.
#[derive(Debug, clap::Args)]
pub(super) struct UpdateArgs {
    /// Its name
    topic: String,
    /// Jobs with the same concurrency key that may run at a time
    #[arg(long, value_name = "N")]
    concurrency_per_key: Option<u32>,
    /// Jobs of the topic that may run at a time
    #[arg(long, value_name = "N")]
    max_running: Option<u32>,
    /// So many starts per span, for example 100/1s
    #[arg(long, value_name = "N/SPAN", value_parser = rate)]
    rate: Option<(u32, Span)>,
    /// Waiting time that raises priority by one level; 0 means never
    #[arg(long, value_name = "SPAN")]
    priority_ageing: Option<Span>,
    /// How long records of ended jobs are kept
    #[arg(long, value_name = "SPAN")]
    retention: Option<Span>,
    /// How long dead letters are kept
    #[arg(long, value_name = "SPAN")]
    dead_letter_retention: Option<Span>,
    /// Whether failed jobs leave dead letters
    #[arg(long, value_name = "true|false")]
    dead_letters: Option<bool>,
    /// Attempts in all, for jobs that do not say
    #[arg(long, value_name = "N")]
    max_attempts: Option<u32>,
    /// Wait before the second attempt, for jobs that do not say
    #[arg(long, value_name = "SPAN")]
    backoff: Option<Span>,
    /// Longest wait between attempts, for jobs that do not say
    #[arg(long, value_name = "SPAN")]
    max_backoff: Option<Span>,
    /// Time limit of an attempt, for jobs that do not say
    #[arg(long, value_name = "SPAN")]
    timeout: Option<Span>,
    /// Setting that goes back to its default, by its path, for example max_running; may be repeated
    #[arg(long, value_name = "PATH")]
    reset: Vec<String>,
    /// Change only if the topic has this revision
    #[arg(long, value_name = "N", default_value_t = 0)]
    revision: u64,
}

fn rate(text: &str) -> Result<(u32, Span), String> {
    let refuse = || format!("`{text}` is not a rate; write N/SPAN, for example 100/1s");
    let (limit, per) = text.split_once('/').ok_or_else(refuse)?;
    Ok((limit.parse().map_err(|_| refuse())?, per.parse()?))
}

/// Runs the command.
pub(super) async fn run(command: TopicCommand, options: &ClientArgs) -> Outcome {
    match command {
        TopicCommand::List { filter } => list(filter, options).await,
        TopicCommand::Get { topic } => get(topic, options).await,
        TopicCommand::Update(args) => update(*args, options).await,
        TopicCommand::Pause { topic, reason } => {
            let client = options.connect().await?;
            let request = v1::PauseTopicRequest { topic, reason, request_id: request_id() };
            let reply = client.raw().topics().pause_topic(request).await?.into_inner();
            print_changed(options.output, "PauseTopicResponse", &reply, reply.topic.as_ref())
        }
        TopicCommand::Resume { topic } => {
            let client = options.connect().await?;
            let request = v1::ResumeTopicRequest { topic, request_id: request_id() };
            let reply = client.raw().topics().resume_topic(request).await?.into_inner();
            print_changed(options.output, "ResumeTopicResponse", &reply, reply.topic.as_ref())
        }
    }
}

async fn list(filter: String, options: &ClientArgs) -> Outcome {
    let client = options.connect().await?;
    if options.output != Format::Table {
        let mut reply = v1::ListTopicsResponse::default();
        loop {
            let request = v1::ListTopicsRequest {
                filter: filter.clone(),
                page_size: 1_000,
                page_token: std::mem::take(&mut reply.next_page_token),
                ..Default::default()
            };
            let page = client.raw().topics().list_topics(request).await?.into_inner();
            reply.topics.extend(page.topics);
            reply.next_page_token = page.next_page_token;
            if reply.next_page_token.is_empty() {
                return print_document(options.output, &document("ListTopicsResponse", &reply), true);
            }
        }
    }
    let mut rows =
        Rows::new(["TOPIC", "QUEUED", "RUNNING", "DELAYED", "RETRYING", "PENDING", "WORKERS", "PAUSED"]);
    let mut topics = std::pin::pin!(client.list_all_topics(ListRequest::filter(filter).page_size(1_000)));
    while let Some(topic) = topics.next().await.transpose()? {
        let counters = topic.counters.unwrap_or_default();
        rows.add([
            topic.name.into(),
            number(counters.queued),
            number(counters.running),
            number(counters.delayed),
            number(counters.retrying),
            number(counters.pending),
            number(counters.workers),
            if topic.paused { format!("yes {}", topic.pause_reason).into() } else { "".into() },
        ]);
    }
    if rows.is_empty() {
        note("no topics");
        return Ok(());
    }
    out(&rows.text())
}

async fn get(topic: String, options: &ClientArgs) -> Outcome {
    let client = options.connect().await?;
    if options.output != Format::Table {
        let reply = client.raw().topics().get_topic(v1::GetTopicRequest { topic }).await?.into_inner();
        return print_document(options.output, &document("GetTopicResponse", &reply), true);
    }
    out(&topic_text(&client.get_topic(topic).await?))
}

fn topic_text(topic: &Topic) -> String {
    let (settings, counters) = (&topic.settings, topic.counters.clone().unwrap_or_default());
    let span =
        |span: Option<std::time::Duration>| span.map(|span| Span(span).to_string()).unwrap_or_default();
    let count = |count: Option<u32>| count.map(|count| count.to_string()).unwrap_or_default();
    let policy = settings.retry_policy.clone().unwrap_or_default();
    facts(&[
        ("topic", topic.name.clone()),
        ("paused", if topic.paused { format!("yes {}", topic.pause_reason) } else { "no".into() }),
        ("queued", counters.queued.to_string()),
        ("oldest queued", counters.oldest_queued_age.map(table::rough).unwrap_or_default()),
        ("running", counters.running.to_string()),
        ("delayed", counters.delayed.to_string()),
        ("retrying", counters.retrying.to_string()),
        ("pending", counters.pending.to_string()),
        ("workers", counters.workers.to_string()),
        ("free credit", counters.credit.to_string()),
        ("concurrency per key", count(settings.concurrency_per_key)),
        ("max running", count(settings.max_running)),
        ("rate", settings.rate.map(|(limit, per)| format!("{limit}/{}", Span(per))).unwrap_or_default()),
        ("priority ageing", span(settings.priority_ageing)),
        ("retention", span(settings.retention)),
        (
            "dead letters",
            settings.dead_letters.map(|on| if on { "on" } else { "off" }.to_owned()).unwrap_or_default(),
        ),
        ("dead letter retention", span(settings.dead_letter_retention)),
        ("max attempts", count(policy.max_attempts)),
        ("backoff", span(policy.initial_backoff)),
        ("max backoff", span(policy.max_backoff)),
        ("timeout", span(settings.timeouts.and_then(|limits| limits.start_to_close))),
        ("revision", topic.revision.to_string()),
        ("changed", table::time(topic.update_time)),
    ])
}

async fn update(args: UpdateArgs, options: &ClientArgs) -> Outcome {
    let of = |span: Option<Span>| span.map(|Span(span)| input::span(span));
    let policy = v1::RetryPolicy {
        max_attempts: args.max_attempts,
        initial_backoff: of(args.backoff),
        max_backoff: of(args.max_backoff),
        ..Default::default()
    };
    let dead_letters = match args.dead_letters {
        Some(true) => v1::DeadLetterMode::On,
        Some(false) => v1::DeadLetterMode::Off,
        None => v1::DeadLetterMode::Unspecified,
    };
    let set: Vec<&str> = [
        (args.concurrency_per_key.is_some(), "concurrency_per_key"),
        (args.max_running.is_some(), "max_running"),
        (args.rate.is_some(), "rate"),
        (args.priority_ageing.is_some(), "priority_ageing"),
        (args.retention.is_some(), "retention"),
        (args.dead_letter_retention.is_some(), "dead_letter_retention"),
        (args.dead_letters.is_some(), "dead_letters"),
        (args.max_attempts.is_some(), "default_retry_policy.max_attempts"),
        (args.backoff.is_some(), "default_retry_policy.initial_backoff"),
        (args.max_backoff.is_some(), "default_retry_policy.max_backoff"),
        (args.timeout.is_some(), "default_timeouts.start_to_close"),
    ]
    .into_iter()
    .filter_map(|(is_set, path)| is_set.then_some(path))
    .collect();
    if set.is_empty() && args.reset.is_empty() {
        return Err(Failure::Usage(
            "nothing to change: give a setting, or --reset PATH; see `coretex topic update --help`".into(),
        ));
    }
    let request = v1::UpdateTopicRequest {
        topic: args.topic,
        settings: Some(v1::TopicSettings {
            concurrency_per_key: args.concurrency_per_key,
            max_running: args.max_running,
            rate: args.rate.map(|(limit, Span(per))| v1::RateLimit { limit, per: Some(input::span(per)) }),
            priority_ageing: of(args.priority_ageing),
            retention: of(args.retention),
            dead_letter_retention: of(args.dead_letter_retention),
            dead_letters: dead_letters.into(),
            default_retry_policy: (policy != v1::RetryPolicy::default()).then_some(policy),
            default_timeouts: args.timeout.map(|Span(limit)| v1::Timeouts {
                start_to_close: Some(input::span(limit)),
                ..Default::default()
            }),
        }),
        update_mask: Some(coretex_contract::FieldMask {
            paths: set.into_iter().map(str::to_owned).chain(args.reset).collect(),
        }),
        revision: args.revision,
        request_id: request_id(),
    };
    let client = options.connect().await?;
    let reply = client.raw().topics().update_topic(request).await?.into_inner();
    for warning in &reply.warnings {
        note(format!("warning: {} ({})", warning.message, warning.reason));
    }
    print_changed(options.output, "UpdateTopicResponse", &reply, reply.topic.as_ref())
}

fn print_changed<M: prost::Message>(
    format: Format,
    name: &str,
    reply: &M,
    topic: Option<&v1::Topic>,
) -> Outcome {
    match (format, topic) {
        (Format::Table, Some(topic)) => {
            let paused = if topic.paused { "  paused" } else { "" };
            line(format!("{}  revision {}{paused}", topic.name, topic.revision))
        }
        (Format::Table, None) => Ok(()),
        (format, _) => print_document(format, &document(name, reply), true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn rates_are_numbers_per_span() {
        assert_eq!(rate("100/1s"), Ok((100, Span(Duration::from_secs(1)))));
        for text in ["100", "x/1s", "100/", "100/x"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }
}
