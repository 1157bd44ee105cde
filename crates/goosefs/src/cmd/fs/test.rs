//! `goosefs fs test`

use crate::cmd::{Context, Done, PathArg};
use client::FileStatus;
use std::process::ExitCode;

#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  goosefs fs test -f /data/_SUCCESS && echo done")]
pub struct Args {
    #[arg(value_name = "PATH")]
    path: PathArg,
    #[command(flatten)]
    question: Question,
}

/// Exactly one of these.
#[derive(clap::Args, Debug)]
#[group(required = true, multiple = false)]
struct Question {
    /// It exists
    #[arg(short = 'e')]
    exists: bool,
    /// It is a directory
    #[arg(short = 'd')]
    directory: bool,
    /// It is a file
    #[arg(short = 'f')]
    file: bool,
    /// It is a directory with entries, or a file with bytes
    #[arg(short = 's')]
    filled: bool,
    /// It is an empty file
    #[arg(short = 'z')]
    empty: bool,
}

pub async fn run(args: &Args, context: &Context) -> Done {
    let status = context.connect_at(&[&args.path]).await?.find(&args.path.path).await?;
    Ok(if status.is_some_and(|status| holds(&args.question, &status)) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn holds(question: &Question, status: &FileStatus) -> bool {
    question.exists
        || (question.directory && status.folder)
        || (question.file && !status.folder)
        || (question.filled && status.length > 0)
        || (question.empty && !status.folder && status.length == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cmd::fs::ls::tests::file;
    use clap::Parser;

    #[derive(Parser, Debug)]
    struct Test {
        #[command(flatten)]
        args: Args,
    }

    fn ask(flag: &str, status: &FileStatus) -> bool {
        holds(&Test::try_parse_from(["test", flag, "/x"]).expect("parses").args.question, status)
    }

    #[test]
    fn questions() {
        let (full, empty) = (file("/x", 1), file("/x", 0));
        let directory = FileStatus { folder: true, length: 2, ..file("/x", 0) };
        assert!(ask("-e", &full) && ask("-f", &full) && ask("-s", &full) && !ask("-z", &full) && !ask("-d", &full));
        assert!(ask("-z", &empty) && !ask("-s", &empty));
        assert!(ask("-d", &directory) && ask("-s", &directory) && !ask("-f", &directory) && !ask("-z", &directory));
    }

    #[test]
    fn exactly_one_question_is_asked() {
        assert!(Test::try_parse_from(["test", "/x"]).is_err());
        assert!(Test::try_parse_from(["test", "-d", "-f", "/x"]).is_err());
    }
}
