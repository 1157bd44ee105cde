//! Compiles the `.proto` files with protox: no protoc needed. Beside tonic's clients and servers it makes a table of the
//! methods with one answer, for transports that know nothing of HTTP.

use prost_build::{Service, ServiceGenerator};
use std::error::Error;
use std::fmt::Write as _;

const FILES: [&str; 19] = [
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
    "goosefs/frames.proto",
    "goosefs/internal.proto",
    "goosefs/peers.proto",
];

/// Services whose methods with one answer our own clients, or masters among each other, call by frames.
const CALLED: [&str; 7] = [
    "FileSystemMasterClientService",
    "WorkerManagerMasterClientService",
    "MetricsMasterClientService",
    "ServiceVersionClientService",
    "Admin",
    "Batches",
    "Peers",
];

/// Makes what tonic makes, and for each method with one answer a `Unary`, for each service of [`CALLED`] a function that
/// lists them.
struct Calls(Box<dyn ServiceGenerator>);

impl ServiceGenerator for Calls {
    fn generate(&mut self, service: Service, out: &mut String) {
        if CALLED.contains(&service.proto_name.as_str()) {
            calls(&service, out).expect("a string takes everything");
        }
        self.0.generate(service, out);
    }

    fn finalize(&mut self, out: &mut String) {
        self.0.finalize(out);
    }

    fn finalize_package(&mut self, package: &str, out: &mut String) {
        self.0.finalize_package(package, out);
    }
}

fn calls(service: &Service, out: &mut String) -> std::fmt::Result {
    let Service { proto_name, package, .. } = service;
    let module = service.name.chars().fold(String::new(), |mut name, letter| {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.extend(letter.to_lowercase());
        name
    });
    let unary = || service.methods.iter().filter(|method| !method.client_streaming && !method.server_streaming);
    for method in unary() {
        let (request, answer, name) = (&method.input_type, &method.output_type, &method.proto_name);
        writeln!(
            out,
            "impl crate::Unary for {request} {{\n    const PATH: &'static str = \"/{package}.{proto_name}/{name}\";\n    \
             type Answer = {answer};\n}}"
        )?;
    }
    writeln!(
        out,
        "/// Every method of {proto_name} that has one answer.\n\
         pub fn {module}_calls<T: {module}_server::{proto_name}, C: crate::Calls>(service: &std::sync::Arc<T>, calls: C) -> C {{"
    )?;
    for method in unary() {
        writeln!(
            out,
            "    let calls = calls.with({{\n        let service = service.clone();\n        \
             move |request: tonic::Request<{}>| {{\n            let service = service.clone();\n            \
             async move {{ service.{}(request).await }}\n        }}\n    }});",
            method.input_type, method.name
        )?;
    }
    writeln!(out, "    calls\n}}")
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    // Absolute: protox would strip a relative `proto` from names that begin with it.
    let root = std::path::PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("proto");
    let descriptors = protox::compile(FILES, [root])?;
    let tonic = tonic_prost_build::configure().generate_default_stubs(true).service_generator();
    prost_build::Config::new()
        .bytes(["."])
        .include_file("all.rs")
        .service_generator(Box::new(Calls(tonic)))
        .compile_fds(descriptors)?;
    Ok(())
}
