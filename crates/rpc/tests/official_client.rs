//! The official client connects, stays connected over a restart, and is who it says.

mod common;

use common::{LONG, Setup, start};
use goosefs_sdk::FileSystemContext;
use goosefs_sdk::auth::AuthType as SdkAuth;
use goosefs_sdk::config::GoosefsConfig;
use rpc::AuthType;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

fn config(addresses: Vec<String>, auth: SdkAuth) -> GoosefsConfig {
    GoosefsConfig::from_addresses(addresses).with_auth_type(auth).with_auth_username("testuser")
}

async fn owner(context: &Arc<FileSystemContext>) -> Result<String, goosefs_sdk::error::Error> {
    let info = context.acquire_master().get_status("/x").await?;
    Ok(info.owner.unwrap_or_default())
}

/// Who the worker list was answered to: the stub names the caller as host.
async fn lister(context: &Arc<FileSystemContext>) -> Result<String, goosefs_sdk::error::Error> {
    let manager = context.acquire_worker_manager().expect("the list came at connect");
    let workers = manager.get_worker_info_list().await?;
    Ok(workers[0].address.clone().and_then(|address| address.host).unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn simple_clients_connect_and_are_who_they_say() {
    let server = start(Setup::default());
    let context = FileSystemContext::connect(config(vec![server.address()], SdkAuth::Simple)).await.expect("connects");
    assert_eq!(owner(&context).await.expect("answered"), "testuser");
    assert_eq!(lister(&context).await.expect("answered"), "testuser");
    // Metadata, worker list and metrics: a channel each.
    assert_eq!(server.channels.open_count(), 3);
    context.close().await.expect("closes");
    drop(context);
    testkit::eventually_async(LONG, || async { server.channels.open_count() == 0 }).await;
    assert_eq!(server.channels.known_count(), 3, "remembered for a restart");
    assert_eq!(server.running.stop(LONG).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_several_masters_the_version_is_asked_before_any_handshake() {
    let server = start(Setup { strict_channel: true, ..Setup::default() });
    let addresses = vec!["127.0.0.1:1".to_owned(), server.address()];
    let context = FileSystemContext::connect(config(addresses, SdkAuth::Simple)).await.expect("finds the second");
    assert_eq!(owner(&context).await.expect("answered"), "testuser");
    server.running.stop(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_server_takes_both_kinds_of_clients() {
    let server = start(Setup { auth: AuthType::NoSasl, ..Setup::default() });
    for (auth, expected) in [(SdkAuth::NoSasl, "nobody"), (SdkAuth::Simple, "testuser")] {
        let context = FileSystemContext::connect(config(vec![server.address()], auth)).await.expect("connects");
        assert_eq!(owner(&context).await.expect("answered"), expected);
    }
    server.running.stop(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_a_handshake_is_told_to_do_one() {
    let server = start(Setup::default());
    let context = FileSystemContext::connect(config(vec![server.address()], SdkAuth::NoSasl)).await;
    // The worker list is one of the tolerant calls, so connecting works; metadata do not.
    let error = owner(&context.expect("connects")).await.expect_err("unauthenticated");
    assert!(error.to_string().to_lowercase().contains("auth"), "{error}");
    server.running.stop(Duration::ZERO).await;
}

/// A client that never repairs its worker channel must find itself known after the server came back.
#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_server_knows_its_clients_again() {
    let dir = TempDir::new().expect("a directory");
    let file = dir.path().join("channels");
    let server = start(Setup { channel_file: Some(&file), strict_channel: true, ..Setup::default() });
    let address = server.address();
    let context = FileSystemContext::connect(config(vec![address.clone()], SdkAuth::Simple)).await.expect("connects");
    assert_eq!(lister(&context).await.expect("answered"), "testuser");
    // As a kill does it: no drain, no goodbye.
    server.running.stop(Duration::ZERO).await;
    let again = start(Setup { address, channel_file: Some(&file), strict_channel: true, ..Setup::default() });
    // The worker-list channel is never authenticated again by this client.
    let who = testkit::eventually_async(LONG, || lister(&context)).await;
    assert_eq!(who, "testuser");
    assert_eq!(again.channels.open_count(), 0, "known from the file, not by a new handshake");
    assert_eq!(owner(&context).await.expect("answered"), "testuser");
    again.running.stop(Duration::ZERO).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_file_tolerant_calls_still_work_and_the_rest_is_repaired() {
    let server = start(Setup::default());
    let address = server.address();
    let context = FileSystemContext::connect(config(vec![address.clone()], SdkAuth::Simple)).await.expect("connects");
    server.running.stop(Duration::ZERO).await;
    let again = start(Setup { address, ..Setup::default() });
    let who = testkit::eventually_async(LONG, || lister(&context)).await;
    assert_eq!(who, "nobody", "an unknown channel on a tolerant call");
    assert_eq!(owner(&context).await.expect("authenticated again"), "testuser");
    again.running.stop(Duration::ZERO).await;
}
