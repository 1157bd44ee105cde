//! A namespace of many files, a directory of as many children, and as many block locations.

use super::{Figure, Ground, example};
use anyhow::Result;

pub async fn measure(ground: &Ground) -> Result<Vec<Figure>> {
    let dir = ground.directory("scale")?;
    let files = ground.many_files.to_string();
    let binary = std::path::absolute(&ground.binary)?;
    let arguments = ["--files".into(), files.into(), "--dir".into(), dir.into(), "--goosefs".into(), binary.into()];
    example::run("scale", arguments.into()).await
}
