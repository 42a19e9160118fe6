//! `job asks`.

use super::super::client::ClientArgs;
use super::super::shown::{Format, document, note, out, print_document};
use super::super::table::{self, Rows};
use super::Id;
use crate::outcome::Outcome;
use coretex_sdk::raw::v1;
use coretex_sdk::{AskReceipt, AskTold};

/// Shows what a job's handlers asked and were told.
pub(super) async fn asks(id: Id, options: &ClientArgs) -> Outcome {
    let client = options.connect().await?;
    if options.output == Format::Table {
        let receipts = client.ask_receipts(id.job_id).await?;
        if receipts.is_empty() {
            note("nothing was asked");
            return Ok(());
        }
        return out(&asks_text(&receipts));
    }
    let mut reply = v1::ListAskReceiptsResponse::default();
    loop {
        let page_token = std::mem::take(&mut reply.next_page_token);
        let request = v1::ListAskReceiptsRequest { job_id: id.job_id.clone(), page_size: 1_000, page_token };
        let page = client.raw().jobs().list_ask_receipts(request).await?.into_inner();
        reply.receipts.extend(page.receipts);
        reply.next_page_token = page.next_page_token;
        if reply.next_page_token.is_empty() {
            return print_document(options.output, &document("ListAskReceiptsResponse", &reply), true);
        }
    }
}

/// Receipts as a table.
fn asks_text(receipts: &[AskReceipt]) -> String {
    let mut rows = Rows::new(["TIME", "LEASE", "ASK", "WHAT", "ANSWER", "WHY"]);
    for receipt in receipts {
        let (what, answer, why) = told(&receipt.told);
        rows.add([
            table::time(receipt.create_time).into(),
            receipt.lease_serial.to_string().into(),
            receipt.ask_id.to_string().into(),
            what.into(),
            answer.into(),
            why.into(),
        ]);
    }
    rows.text()
}

fn told(told: &AskTold) -> (String, String, String) {
    match told {
        AskTold::Policy(action) => {
            let what = match action.resource.as_str() {
                "" => action.action.clone(),
                resource => format!("{} on {resource}", action.action),
            };
            let why = match action.reason.as_str() {
                "" => action.rule_id.clone(),
                reason => format!("{}: {reason}", action.rule_id),
            };
            (what, action.verdict.to_string(), why)
        }
        AskTold::Budget(budget) => {
            let left = budget.remaining.map(|left| format!("{left} left"));
            let answer = match (&left, budget.granted) {
                (None, _) => "unlimited".to_owned(),
                (Some(_), 0) => "exceeded".to_owned(),
                (Some(_), granted) => format!("granted {granted}"),
            };
            (format!("{} of {}", budget.asked, budget.dimension), answer, left.unwrap_or_default())
        }
        AskTold::Spawned { name, job_ids } => {
            let what = format!("spawn {name}");
            let shown = match job_ids.as_slice() {
                [first, .., last] if job_ids.len() > 2 => format!("{first} … {last}"),
                few => few.join(", "),
            };
            (what, format!("{} jobs", job_ids.len()), shown)
        }
        AskTold::Secrets(names) => (format!("secret {}", names.join(", ")), "told".to_owned(), String::new()),
        _ => ("?".to_owned(), "of a later version".to_owned(), String::new()),
    }
}
