//! A bar on standard error while something long runs, if somebody watches.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::Duration;

/// Redraws per second.
const REDRAWS: u8 = 10;

/// A bar over bytes, with rate and time left. Hidden unless standard error is a terminal.
pub fn bytes(total: u64, what: &'static str) -> ProgressBar {
    let style = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta} left";
    let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(REDRAWS));
    bar.set_style(ProgressStyle::with_template(style).expect("the template is a constant, and a test draws it"));
    bar.set_message(what);
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}

/// A counter for work of unknown length. Hidden unless standard error is a terminal.
pub fn counter(what: &'static str) -> ProgressBar {
    unbounded(what, "{spinner} {msg} {human_pos} {per_sec}")
}

/// Bytes of work of unknown length. Hidden unless standard error is a terminal.
pub fn written(what: &'static str) -> ProgressBar {
    unbounded(what, "{spinner} {msg} {bytes} {bytes_per_sec}")
}

fn unbounded(what: &'static str, template: &str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(REDRAWS));
    let style = ProgressStyle::with_template(template);
    bar.set_style(style.expect("the template is a constant, and a test draws it"));
    bar.set_message(what);
    bar
}

#[cfg(test)]
mod tests {
    #[test]
    fn templates_are_sound() {
        let bar = super::bytes(100, "copy");
        bar.inc(50);
        bar.finish_and_clear();
        super::counter("list").finish_and_clear();
        super::written("backup").finish_and_clear();
    }
}
