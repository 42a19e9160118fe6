//! `dlq list`, `get`, `groups`.

use super::super::client::ClientArgs;
use super::super::shown::{Format, document, note, out, print_document};
use super::super::table::{self, Rows, facts, number};
use super::MatchArgs;
use crate::outcome::Outcome;
use coretex_sdk::raw::v1;
use coretex_sdk::{DeadLetter, ListRequest};
use futures::StreamExt as _;

/// Which dead letters to list.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    which: MatchArgs,
    /// Oldest first
    #[arg(long)]
    oldest_first: bool,
    /// Most dead letters to show
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Show all of them
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    /// Continue after a page
    #[arg(long, value_name = "TOKEN", default_value = "")]
    page_token: String,
}

/// Which dead letters to group.
#[derive(Debug, clap::Args)]
pub(crate) struct GroupsArgs {
    #[command(flatten)]
    which: MatchArgs,
    /// Most groups to show
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(i32).range(1..=1_000))]
    limit: i32,
}

/// Most dead letters on one page.
const PAGE_MAX: u32 = 1_000;
/// Characters of a message that a table shows.
const MESSAGE_MAX: usize = 60;

/// Lists dead letters.
pub(super) async fn list(args: ListArgs, options: &ClientArgs) -> Outcome {
    let filter = args.which.filter();
    let order_by = if args.oldest_first { "create_time asc" } else { "" };
    let most = if args.all { u32::MAX } else { args.limit };
    let client = options.connect().await?;
    if options.output != Format::Table {
        let mut reply =
            v1::ListDeadLettersResponse { next_page_token: args.page_token, ..Default::default() };
        loop {
            let left = most.saturating_sub(u32::try_from(reply.dead_letters.len()).unwrap_or(u32::MAX));
            let request = v1::ListDeadLettersRequest {
                filter: filter.clone(),
                page_size: i32::try_from(left.min(PAGE_MAX)).unwrap_or_default(),
                page_token: std::mem::take(&mut reply.next_page_token),
                order_by: order_by.into(),
                ..Default::default()
            };
            let page = client.raw().dlq().list_dead_letters(request).await?.into_inner();
            reply.dead_letters.extend(page.dead_letters);
            reply.next_page_token = page.next_page_token;
            if reply.next_page_token.is_empty() || reply.dead_letters.len() >= most as usize {
                return print_document(options.output, &document("ListDeadLettersResponse", &reply), true);
            }
        }
    }
    let request = ListRequest::filter(filter)
        .order_by(order_by)
        .page_token(args.page_token)
        .page_size(u16::try_from(most.min(PAGE_MAX)).unwrap_or(u16::MAX));
    let mut letters = std::pin::pin!(client.list_all_dead_letters(request).take(most as usize));
    let mut rows = letter_rows();
    let mut count = 0;
    while let Some(letter) = letters.next().await.transpose()? {
        count += 1;
        add_letter(&mut rows, letter);
    }
    if rows.is_empty() {
        note("no dead letters");
        return Ok(());
    }
    out(&rows.text())?;
    if count == most {
        note(format!("the first {most}; `--all` shows all"));
    }
    Ok(())
}

pub(super) fn letter_rows() -> Rows {
    Rows::new(["ID", "TOPIC", "STATE", "ATTEMPTS", "AGE", "RETRIED AS", "REASON", "MESSAGE"])
}

pub(super) fn add_letter(rows: &mut Rows, letter: DeadLetter) {
    rows.add([
        letter.dead_letter_id.into(),
        letter.topic.into(),
        letter.state.into(),
        number(letter.attempts),
        table::age(letter.end_time).into(),
        letter.retried_as.into(),
        letter.reason.into(),
        shortened(&letter.message).into(),
    ]);
}

fn shortened(message: &str) -> String {
    match message.char_indices().nth(MESSAGE_MAX) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message.to_owned(),
    }
}

/// Shows a dead letter.
pub(super) async fn get(id: String, options: &ClientArgs) -> Outcome {
    let client = options.connect().await?;
    if options.output == Format::Table {
        let letter = client.get_dead_letter(id).await?;
        return out(&format!("{}{}", letter_text(&letter), attempts_text(&letter)));
    }
    let request = v1::GetDeadLetterRequest {
        dead_letter_id: id,
        view: v1::View::Full.into(),
        payload_format: v1::PayloadFormat::Json.into(),
    };
    let reply = client.raw().dlq().get_dead_letter(request).await?.into_inner();
    print_document(options.output, &document("GetDeadLetterResponse", &reply), true)
}

fn letter_text(letter: &DeadLetter) -> String {
    let job = letter.job.as_ref();
    let request = job.and_then(|job| job.request.as_ref());
    let labels = request.map(|request| {
        request.labels().iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join("\n")
    });
    facts(&[
        ("dead letter", letter.dead_letter_id.clone()),
        ("namespace", letter.namespace.clone()),
        ("topic", letter.topic.clone()),
        ("state", letter.state.to_string()),
        ("reason", letter.reason.clone()),
        ("message", letter.message.clone()),
        ("fingerprint", letter.fingerprint.clone()),
        ("attempts", letter.attempts.to_string()),
        ("labels", labels.unwrap_or_default()),
        ("worker", job.map(|job| job.worker_id.clone()).unwrap_or_default()),
        ("created", table::time(letter.create_time)),
        ("gave up", table::time(letter.end_time)),
        ("kept until", table::time(letter.expire_time)),
        ("retry of", letter.retry_of.clone()),
        ("retried as", letter.retried_as.clone()),
        ("input", table::payload(request.and_then(|request| request.input()).as_ref())),
    ])
}

fn attempts_text(letter: &DeadLetter) -> String {
    let mut rows = Rows::new(["ATTEMPT", "STARTED", "TOOK", "WORKER", "REASON", "MESSAGE"]);
    for attempt in &letter.attempt_list {
        let took = attempt.end_time.zip(attempt.start_time);
        let took = took.and_then(|(end, start)| end.duration_since(start).ok());
        rows.add([
            number(attempt.attempt),
            table::time(attempt.start_time).into(),
            took.map(table::rough).unwrap_or_default().into(),
            attempt.worker_id.as_str().into(),
            attempt.reason.as_str().into(),
            shortened(&attempt.message).into(),
        ]);
    }
    if rows.is_empty() { String::new() } else { format!("\n{}", rows.text()) }
}

/// Groups dead letters.
pub(super) async fn groups(args: GroupsArgs, options: &ClientArgs) -> Outcome {
    let client = options.connect().await?;
    let request = v1::GroupDeadLettersRequest { filter: args.which.filter(), max_groups: args.limit };
    let reply = client.raw().dlq().group_dead_letters(request).await?.into_inner();
    if options.output != Format::Table {
        return print_document(options.output, &document("GroupDeadLettersResponse", &reply), true);
    }
    if reply.groups.is_empty() {
        note("no dead letters");
        return Ok(());
    }
    let mut rows = Rows::new([
        "FINGERPRINT",
        "COUNT",
        "RETRIED",
        "LAST",
        "TOPIC",
        "STATE",
        "REASON",
        "MESSAGE",
        "FOR EXAMPLE",
    ]);
    let shown = reply.groups.len() as u64;
    for group in reply.groups {
        let last = group.last_time.and_then(super::super::input::of_stamp);
        rows.add([
            group.fingerprint.as_str().into(),
            number(group.count),
            number(group.retried),
            table::age(last).into(),
            group.topic.as_str().into(),
            group.state().short_name().into(),
            group.reason.as_str().into(),
            shortened(&group.message).into(),
            group.sample_ids.first().map_or("", String::as_str).into(),
        ]);
    }
    out(&rows.text())?;
    let at_least = if reply.exact { "" } else { "at least " };
    if !reply.exact || shown < reply.group_count {
        note(format!(
            "{shown} of {at_least}{} groups, {at_least}{} dead letters",
            reply.group_count, reply.count
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_messages_are_cut_between_characters() {
        assert_eq!(shortened("short"), "short");
        let cut = shortened(&"é".repeat(100));
        assert_eq!(cut.chars().count(), MESSAGE_MAX + 1);
        assert!(cut.ends_with('…'));
    }
}
