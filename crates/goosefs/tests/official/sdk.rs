//! The crate `goosefs-sdk`: its file system, its readers and writers, and the calls below them.

mod blocks;
mod endurance;
mod namespace;
mod reading;
mod writing;

use crate::BLOCK;
use crate::support::Local;
use goosefs_sdk::config::GoosefsConfig;
use goosefs_sdk::fs::BaseFileSystem;
use goosefs_sdk::io::{GoosefsFileReader, GoosefsFileWriter};
use goosefs_sdk::proto::grpc::file::{CreateFilePOptions, WritePType};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// For what follows in the background.
const PATIENCE: Duration = Duration::from_secs(60);

/// As a site file gives it: one worker, so one durable copy.
fn config_for(masters: &[SocketAddr]) -> GoosefsConfig {
    let masters: Vec<String> = masters.iter().map(ToString::to_string).collect();
    let properties = format!(
        "goosefs.master.rpc.addresses={}\n\
         goosefs.security.authentication.type=SIMPLE\n\
         goosefs.security.login.username=root\n\
         goosefs.user.block.size.bytes.default=64KB\n\
         goosefs.user.network.data.transfer.chunk.size=16KB\n\
         goosefs.user.file.replication.durable=1\n\
         goosefs.user.file.replication.durable.min=1\n",
        masters.join(",")
    );
    let config = GoosefsConfig::from_properties_str(&properties);
    assert_eq!((config.block_size, config.chunk_size), (BLOCK, 16 << 10), "the properties are read");
    config
}

fn config(local: &Local) -> GoosefsConfig {
    config_for(&[local.master_addr()])
}

async fn connect(local: &Local) -> Arc<BaseFileSystem> {
    BaseFileSystem::connect(config(local)).await.expect("the client connects")
}

fn create_options(write_type: WritePType) -> CreateFilePOptions {
    CreateFilePOptions { write_type: Some(write_type as i32), ..CreateFilePOptions::default() }
}

async fn write(fs: &BaseFileSystem, path: &str, data: &[u8], write_type: WritePType) {
    let options = Some(create_options(write_type));
    let context = fs.context().clone();
    let written = GoosefsFileWriter::write_file_with_context_and_options(context, path, data, options).await;
    let written = written.unwrap_or_else(|err| panic!("{path} is written as {}: {err}", write_type.as_str_name()));
    assert_eq!(written, data.len() as u64);
}

async fn read(fs: &BaseFileSystem, path: &str) -> Vec<u8> {
    let read = GoosefsFileReader::read_file_with_context(fs.context().clone(), path).await;
    read.unwrap_or_else(|err| panic!("{path} is read: {err}")).to_vec()
}
