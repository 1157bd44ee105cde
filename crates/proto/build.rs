//! Compiles the `.proto` files with protox: no protoc needed.

use std::error::Error;

const FILES: [&str; 18] = [
    "grpc/block_worker.proto",
    "grpc/common.proto",
    "grpc/file_system_master.proto",
    "grpc/fscommon.proto",
    "grpc/metric_master.proto",
    "grpc/sasl/sasl_server.proto",
    "grpc/version.proto",
    "grpc/worker_manager_master.proto",
    "proto/dataserver/protocol.proto",
    "proto/dataserver/status.proto",
    "proto/security/capability_token.proto",
    "proto/security/token.proto",
    "proto/shared/acl.proto",
    "proto/shared/location.proto",
    "goosefs/admin.proto",
    "goosefs/batches.proto",
    "goosefs/internal.proto",
    "goosefs/peers.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    // Absolute: protox would strip a relative `proto` from names that begin with it.
    let root = std::path::PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("proto");
    let descriptors = protox::compile(FILES, [root])?;
    tonic_prost_build::configure()
        .bytes(".")
        .generate_default_stubs(true)
        .include_file("all.rs")
        .compile_fds(descriptors)?;
    Ok(())
}
