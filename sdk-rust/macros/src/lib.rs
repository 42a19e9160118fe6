//! The attributes `job` and `jobs` of `coretex-sdk`. Use them from there: `use coretex_sdk::{job, jobs};`.
//!
//! They write nothing that could not be written by hand: a trait impl that binds the handler, and a typed way to make requests for it.

#![warn(missing_docs)]

mod emit;
mod options;
mod signature;

#[cfg(test)]
mod tests;

use proc_macro::TokenStream;

/// Makes an `async fn(ctx, input) -> Result<Output, HandlerError>` a job.
///
/// The function becomes a value of the same name: `worker.bind(send)` serves it, `send::job(input)` is a typed request for it,
/// `send::call(ctx, input)` calls it. `ctx` and `input` may be left out. A function that is not `async` runs on a thread of its own.
///
/// Options: `topic = "mail.send"` (default: the function's name), `retries = 5`, `timeout = "30s"`, `priority = 6`, `pool = "mail"` as
/// defaults of the requests; `slots = 4`, `lane = "name"`, `idempotent` for the worker. The types of input and output have to be known
/// to serde both ways.
#[proc_macro_attribute]
pub fn job(options: TokenStream, item: TokenStream) -> TokenStream {
    emit::job(options.into(), item.into()).unwrap_or_else(|error| error.to_compile_error()).into()
}

/// Makes the methods of an `impl` that carry `#[job]` jobs of the value: `worker.bind(Mailer::new())` serves them all.
///
/// Methods take `&self` first, then as in [`macro@job`]. For each `send` there is a `Mailer::send_job(input)` that makes a typed request.
#[proc_macro_attribute]
pub fn jobs(options: TokenStream, item: TokenStream) -> TokenStream {
    emit::jobs(options.into(), item.into()).unwrap_or_else(|error| error.to_compile_error()).into()
}
