//! The metadata cache against its neighbours.

use super::{Figure, Ground, example};
use anyhow::Result;

/// Files, as so many of the largest tree of other parts: the price of the baseline grows with its cache.
const TREES: u64 = 8;

pub async fn measure(ground: &Ground) -> Result<Vec<Figure>> {
    let dir = ground.directory("metacache")?;
    let files = (ground.files * TREES).to_string();
    example::run("metacache", vec!["--files".into(), files.into(), "--dir".into(), dir.into()]).await
}
