//! What the attributes say to those who got something wrong.

use crate::emit;
use proc_macro2::TokenStream;

fn job(options: &str, item: &str) -> String {
    said(emit::job(options.parse().unwrap(), item.parse().unwrap()))
}

fn jobs(item: &str) -> String {
    said(emit::jobs(TokenStream::new(), item.parse().unwrap()))
}

fn said(result: syn::Result<TokenStream>) -> String {
    result.map_or_else(|error| error.to_string(), |_| "fine".into())
}

const GOOD: &str = "async fn send(ctx: Ctx, input: Mail) -> Result<(), HandlerError> { Ok(()) }";

#[test]
fn options_that_do_not_exist_are_refused_with_the_nearest_name() {
    let cases = [
        (
            r#"topic = "mail.send", retries = 5, timeout = "30s", priority = 6, pool = "mail", slots = 2, idempotent"#,
            "fine",
        ),
        ("", "fine"),
        (r#"topc = "mail""#, "there is no option `topc`; did you mean `topic`?"),
        (
            "colour = 3",
            "there is no option `colour`; there are topic, retries, timeout, priority, pool, slots, lane, idempotent",
        ),
        (r#"topic = "Mail Send""#, "`Mail Send` is not a topic: [a-z0-9][a-z0-9._-]{0,127}"),
        (r#"timeout = "30""#, "a span is a number with a unit: `500ms`, `30s`, `5m`, `1h`"),
        (r#"timeout = 30"#, "expected string literal"),
        ("priority = 12", "a priority is 0 (last) to 9 (first)"),
        ("retries = 100", "at most 99 retries"),
        ("retries = 1, retries = 2", "`retries` is given twice"),
    ];
    for (options, expected) in cases {
        assert_eq!(job(options, GOOD), expected, "{options}");
    }
}

#[test]
fn functions_of_another_shape_are_refused() {
    let cases = [
        ("async fn a() -> Result<(), HandlerError> { Ok(()) }", "fine"),
        ("async fn a(ctx: coretex_sdk::Ctx) -> Result<(), HandlerError> { Ok(()) }", "fine"),
        ("fn a(input: u8) -> Result<(), HandlerError> { Ok(()) }", "fine"),
        ("async fn a(input: u8) {}", "a job returns `Result<Output, HandlerError>`"),
        (
            "async fn a<T>(input: T) -> Result<(), HandlerError> { Ok(()) }",
            "a job has no type parameters: its topic names one handler",
        ),
        (
            "async fn a(ctx: Ctx, b: u8, c: u8) -> Result<(), HandlerError> { Ok(()) }",
            "a job takes a `Ctx` and one input, either of which may be left out",
        ),
        (
            "async fn a(&self, b: u8) -> Result<(), HandlerError> { Ok(()) }",
            "a method is a job within an `impl` that carries `#[jobs]`",
        ),
        ("struct A;", "expected `fn`"),
    ];
    for (item, expected) in cases {
        assert_eq!(job("", item), expected, "{item}");
    }
}

#[test]
fn impls_of_another_shape_are_refused() {
    let cases = [
        (
            "impl A { #[job] async fn a(&self, b: u8) -> Result<(), HandlerError> { Ok(()) } fn other() {} }",
            "fine",
        ),
        ("impl A { fn a(&self) {} }", "no method of this `impl` carries `#[job]`"),
        ("impl B for A { #[job] fn a(&self) {} }", "`#[jobs]` stands on an `impl` of the type itself"),
        (
            "impl A { #[job] async fn a(&mut self) -> Result<(), HandlerError> { Ok(()) } }",
            "a job takes `&self`: jobs run at the same time",
        ),
        (
            "impl A { #[job] async fn a(b: u8) -> Result<(), HandlerError> { Ok(()) } }",
            "a job of an `impl` takes `&self`; a function on its own carries `#[job]` alone",
        ),
        (
            r#"impl A { #[job(topci = "x")] async fn a(&self) -> Result<(), HandlerError> { Ok(()) } }"#,
            "there is no option `topci`; did you mean `topic`?",
        ),
    ];
    for (item, expected) in cases {
        assert_eq!(jobs(item), expected, "{item}");
    }
}
