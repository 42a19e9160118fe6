//! The real server for tests.
//!
//! [`TestServer`] is engine and gateway in this process, on a free port of the loopback, with a memory store or a directory, and a
//! [`TestClock`] that stands still until it is told to move. [`ServerProcess`] is the real binary: it can be killed and started again.
//!
//! ```no_run
//! # async fn example() -> Result<(), coretex_testkit::Error> {
//! use coretex_sdk::JobRequest;
//! use std::time::Duration;
//!
//! let server = coretex_testkit::TestServer::start().await?;
//! let client = server.client().await?;
//! client.submit(JobRequest::new("job.late").run_in(Duration::from_secs(86_400 * 30))).await?;
//! server.advance(Duration::from_secs(86_400 * 30)).await; // a month later
//! server.stop().await;
//! # Ok(())
//! # }
//! ```

#![warn(missing_docs)]

mod clock;
mod process;
mod server;

pub use clock::TestClock;
pub use process::{ProcessBuilder, ServerProcess, binary};
pub use server::{Builder, TestServer};

/// Why a server for a test did not start.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
