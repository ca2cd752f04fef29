//! The binary: hands the arguments to [`kerbgate::cli`] and its answer to the system.

use std::process::ExitCode;

// Many short-lived TLS buffers fragment the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    kerbgate::cli::main()
}
