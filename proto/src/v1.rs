//! The package `coretex.v1`, as generated.
#![allow(
    clippy::all,
    clippy::allow_attributes,
    clippy::large_futures,
    clippy::too_many_lines,
    missing_docs,
    rust_2018_idioms,
    rustdoc::bare_urls,
    rustdoc::broken_intra_doc_links,
    rustdoc::invalid_html_tags,
    unreachable_pub,
    reason = "generated code is laid out by its generator"
)]

include!("gen/coretex.v1.rs");
