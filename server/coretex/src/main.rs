//! `coretex`: see `cli`.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // One provider for everything that speaks TLS; it can only be there already if a test put it there.
    let _ = rustls::crypto::ring::default_provider().install_default();
    ExitCode::from(coretex::cli::main(std::env::args_os()))
}
