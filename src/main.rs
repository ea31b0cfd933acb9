//! The one binary. Without a subcommand it is the server, with etcd's flags.

use callboard::config::{self, Invocation};
use callboard::node::bootstrap::EngineOptions;
use callboard::node::member::Member;
use callboard::{env, logging};
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match config::parse(std::env::args_os(), std::env::vars_os()) {
        Ok(Invocation::Server(config)) => serve(*config),
        Ok(Invocation::Subcommand { name, arguments }) => subcommand(name, arguments),
        Ok(Invocation::Print(text)) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1))
        }
    }
}

fn subcommand(name: &str, _arguments: Vec<std::ffi::OsString>) -> ExitCode {
    eprintln!("{name} is not here yet");
    ExitCode::FAILURE
}

/// Runs a member until a signal or a failure ends it.
fn serve(config: config::Server) -> ExitCode {
    logging::start(config.log);
    logging::replay(&config.notices);
    let (code, signal) = env::block_on(async {
        let member = match Member::start(config, EngineOptions::default()).await {
            Ok(member) => member,
            Err(error) => {
                tracing::error!(%error, "cannot start this member");
                return (ExitCode::FAILURE, None);
            }
        };
        let mut signal = std::pin::pin!(env::shutdown_signal());
        let published = env::first(member.publish(), member.failed(), signal.as_mut()).await;
        let ended = match published {
            env::First::One(()) => {
                env::first(std::future::pending::<()>(), member.failed(), signal.as_mut()).await
            }
            ended => ended,
        };
        match ended {
            env::First::Three(signal) => {
                tracing::info!(signal, "received signal; shutting down");
                member.stop().await;
                (ExitCode::SUCCESS, Some(signal))
            }
            env::First::One(()) | env::First::Two(_) => (ExitCode::FAILURE, None),
        }
    });
    if let Some(signal) = signal {
        env::end_by_signal(signal);
    }
    code
}
