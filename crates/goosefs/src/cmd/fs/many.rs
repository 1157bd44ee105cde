//! One line for each of many paths, whatever becomes of the others.

use crate::cmd::Done;
use client::ForPath;
use futures::stream::{Stream, StreamExt};
use std::pin::pin;
use std::process::ExitCode;
use types::GfsPath;

/// Prints `done` of every path something was done with, and on standard error why not with the others. Fails if any failed.
pub async fn report(outcomes: impl Stream<Item = ForPath<()>>, done: impl Fn(&GfsPath) -> String) -> Done {
    let mut outcomes = pin!(outcomes);
    let mut code = ExitCode::SUCCESS;
    while let Some((path, outcome)) = outcomes.next().await {
        match outcome {
            Ok(()) => println!("{}", done(&path)),
            Err(error) => {
                eprintln!("goosefs: {}", types::sentence(&error));
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}
