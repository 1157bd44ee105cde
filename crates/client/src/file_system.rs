//! The handle everything starts from.

use crate::master::Master;
use crate::workers::Workers;
use crate::{ClientConfig, Result, Way};
use std::sync::Arc;

/// A connection to a cluster. Cheap to clone; clones share connections and the worker list.
///
/// Each operation is a method, in a file of its own below `op`; reading and writing begin with
/// [`FileSystem::open`] and [`FileSystem::create`].
#[derive(Clone)]
pub struct FileSystem {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub config: Arc<ClientConfig>,
    pub master: Master,
    pub workers: Workers,
}

impl FileSystem {
    /// Connects to the leading master. Workers are looked up when data move.
    ///
    /// Errors: [`crate::Error::NoMaster`], after about 3 s without any answer.
    pub async fn connect(config: ClientConfig) -> Result<FileSystem> {
        let config = Arc::new(config);
        let master = Master::new(config.clone());
        master.connect().await?;
        let workers = Workers::new(config.clone());
        Ok(FileSystem { shared: Arc::new(Shared { config, master, workers }) })
    }

    /// A client whose masters are reached by `way`, found when something is first asked of them. Only what has one answer
    /// can be asked of them.
    pub fn over(config: ClientConfig, way: Arc<dyn Way>) -> FileSystem {
        let config = Arc::new(config);
        let (master, workers) = (Master::over(config.clone(), way), Workers::new(config.clone()));
        FileSystem { shared: Arc::new(Shared { config, master, workers }) }
    }

    /// What this handle was told.
    pub fn config(&self) -> &ClientConfig {
        &self.shared.config
    }
}
