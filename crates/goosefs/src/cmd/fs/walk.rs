//! Everything below a directory, one directory listing open per level.

use client::{FileStatus, FileSystem};
use futures::stream::{self, BoxStream, Stream, StreamExt};
use types::{GfsPath, MAX_DEPTH};

/// `root`'s children and theirs, parents before children, in listing order. A file yields itself.
///
/// Memory: what one listing message holds, per level.
pub fn below(fs: &FileSystem, root: GfsPath) -> impl Stream<Item = client::Result<FileStatus>> + Send + use<> {
    let open: Vec<BoxStream<'static, client::Result<FileStatus>>> = Vec::new();
    stream::try_unfold((fs.clone(), Some(root), open), |(fs, mut descend, mut open)| async move {
        loop {
            if let Some(directory) = descend.take() {
                // The depth of paths bounds the stack.
                debug_assert!(open.len() <= MAX_DEPTH);
                open.push(fs.list(&directory).await?.boxed());
            }
            let Some(deepest) = open.last_mut() else { return Ok(None) };
            match deepest.next().await {
                Some(status) => {
                    let status = status?;
                    descend = status.folder.then(|| status.path.clone());
                    return Ok(Some((status, (fs, descend, open))));
                }
                None => drop(open.pop()),
            }
        }
    })
}
