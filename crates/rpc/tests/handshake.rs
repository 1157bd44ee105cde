//! Handshakes by hand: what the server answers, holds and forgets.

mod common;

use common::{LONG, Setup, TestServer, start};
use proto::grpc::file::file_system_master_client_service_client::FileSystemMasterClientServiceClient;
use proto::grpc::file::{GetStatusPRequest, ListStatusPRequest};
use proto::grpc::sasl::SaslMessage;
use proto::grpc::sasl::sasl_authentication_service_client::SaslAuthenticationServiceClient;
use proto::grpc::version::GetServiceVersionPRequest;
use proto::grpc::version::service_version_client_service_client::ServiceVersionClientServiceClient;
use rpc::{AuthType, CHANNEL_ID, Impersonation};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

async fn channel(server: &TestServer) -> Channel {
    Channel::from_shared(format!("http://{}", server.address())).expect("a URI").connect().await.expect("connects")
}

fn hello(id: &str, plain: &[u8]) -> SaslMessage {
    SaslMessage {
        message_type: Some(0),
        message: Some(plain.to_vec().into()),
        client_id: Some(id.to_owned()),
        authentication_scheme: Some(1),
        channel_ref: Some("rust-client-12345678".to_owned()),
    }
}

type Open = (mpsc::Sender<SaslMessage>, Streaming<SaslMessage>);

async fn open(channel: &Channel, first: Option<SaslMessage>) -> Result<Open, Status> {
    let (send, receive) = mpsc::channel(4);
    if let Some(first) = first {
        send.send(first).await.expect("room");
    }
    let mut client = SaslAuthenticationServiceClient::new(channel.clone());
    let theirs = client.authenticate(ReceiverStream::new(receive)).await?.into_inner();
    Ok((send, theirs))
}

async fn status_of(channel: &Channel, id: Option<&str>) -> Result<String, Status> {
    let mut request = Request::new(GetStatusPRequest { path: Some("/".into()), ..Default::default() });
    if let Some(id) = id {
        request.metadata_mut().insert(CHANNEL_ID, id.parse().expect("a header"));
    }
    let answer = FileSystemMasterClientServiceClient::new(channel.clone()).get_status(request).await?;
    Ok(answer.into_inner().file_info.and_then(|info| info.owner).unwrap_or_default())
}

#[tokio::test]
async fn success_is_explicit_and_the_stream_stays_until_the_client_leaves() {
    let server = start(Setup::default());
    let channel = channel(&server).await;
    assert_eq!(status_of(&channel, Some("id-1")).await.expect_err("unknown yet").code(), Code::Unauthenticated);
    let (ours, mut theirs) = open(&channel, Some(hello("id-1", b"\0ann\0noPassword"))).await.expect("accepted");
    let answer = theirs.message().await.expect("no error").expect("an answer");
    assert_eq!(answer.message_type, Some(1));
    assert_eq!(status_of(&channel, Some("id-1")).await.expect("known"), "ann");
    assert_eq!(server.channels.open_count(), 1);
    // Nothing more comes.
    assert!(tokio::time::timeout(Duration::from_millis(50), theirs.message()).await.is_err());
    drop(ours);
    assert!(theirs.message().await.expect("an orderly end").is_none());
    testkit::eventually_async(LONG, || async { server.channels.open_count() == 0 }).await;
    server.running.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn a_connection_that_breaks_ends_its_handshake() {
    let server = start(Setup::default());
    let channel = channel(&server).await;
    let (_ours, mut theirs) = open(&channel, Some(hello("id-1", b"\0ann\0x"))).await.expect("accepted");
    theirs.message().await.expect("no error").expect("an answer");
    drop((channel, theirs, _ours));
    testkit::eventually_async(LONG, || async { server.channels.open_count() == 0 }).await;
    server.running.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn bad_handshakes_end_with_a_sentence() {
    let server = start(Setup::default());
    let channel = channel(&server).await;
    for (first, says) in [
        (SaslMessage { authentication_scheme: Some(3), ..hello("id", b"\0ann\0x") }, "KERBEROS is not served here"),
        (hello("id", b"ann"), "three parts"),
        (hello("id", b"bob\0ann\0x"), "\"ann\" may not act for \"bob\""),
        (hello("", b"\0ann\0x"), "clientId"),
    ] {
        let refused = open(&channel, Some(first)).await.expect_err(says);
        assert_eq!(refused.code(), Code::Unauthenticated);
        assert!(refused.message().contains(says), "{}", refused.message());
    }
    let (ours, _theirs) = open(&channel, Some(hello("id", b"\0ann\0x"))).await.expect("accepted");
    let taken = open(&channel, Some(hello("id", b"\0bob\0x"))).await.expect_err("another user's");
    assert!(taken.message().contains("belongs to another user"), "{}", taken.message());
    drop(ours);
    server.running.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn a_second_message_ends_the_handshake() {
    let server = start(Setup::default());
    let channel = channel(&server).await;
    let (ours, mut theirs) = open(&channel, Some(hello("id", b"\0ann\0x"))).await.expect("accepted");
    theirs.message().await.expect("no error").expect("an answer");
    ours.send(hello("id", b"\0bob\0x")).await.expect("room");
    let error = theirs.message().await.expect_err("once is enough");
    assert!(error.message().contains("authenticated once"), "{}", error.message());
    server.running.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn impersonation_needs_a_rule() {
    let impersonation = Impersonation::none().for_users("hue", "ann,bob");
    let server = start(Setup { impersonation, ..Setup::default() });
    let channel = channel(&server).await;
    let (_ours, _theirs) = open(&channel, Some(hello("id", b"bob\0hue\0x"))).await.expect("allowed");
    assert_eq!(status_of(&channel, Some("id")).await.expect("known"), "bob");
    let refused = open(&channel, Some(hello("id-2", b"cy\0hue\0x"))).await.expect_err("no rule");
    assert!(refused.message().contains("goosefs.master.security.impersonation.hue.users"), "{}", refused.message());
    server.running.stop(Duration::ZERO).await;
}

/// A stream without a message must cost a slot, not the server.
#[tokio::test]
async fn half_open_handshakes_do_not_keep_others_out() {
    let server = start(Setup::default());
    let channel = channel(&server).await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        let channel = channel.clone();
        silent.push(tokio::spawn(async move { open(&channel, None).await.map(|_| ()) }));
    }
    let (_ours, _theirs) = open(&channel, Some(hello("id", b"\0ann\0x"))).await.expect("accepted");
    assert_eq!(status_of(&channel, Some("id")).await.expect("known"), "ann");
    // A drain does not wait for them, and tells each.
    assert_eq!(server.running.stop(LONG).await, 0);
    for task in silent {
        let refused = task.await.expect("no panic").expect_err("sent away");
        assert_eq!(refused.code(), Code::Unavailable, "{}", refused.message());
    }
}

#[tokio::test]
async fn the_version_needs_no_handshake_and_everything_else_does() {
    let server = start(Setup { strict_channel: true, ..Setup::default() });
    let channel = channel(&server).await;
    let mut version = ServiceVersionClientServiceClient::new(channel.clone());
    let answer = version.get_service_version(GetServiceVersionPRequest::default()).await.expect("for anybody");
    assert_eq!(answer.into_inner().version, Some(2));
    let error = status_of(&channel, None).await.expect_err("who is it");
    assert_eq!(error.code(), Code::Unauthenticated);
    assert!(error.message().contains("do the SASL handshake first"), "{}", error.message());
    server.running.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn what_nobody_serves_answers_with_its_name() {
    let server = start(Setup { auth: AuthType::NoSasl, ..Setup::default() });
    let channel = channel(&server).await;
    let mut client = FileSystemMasterClientServiceClient::new(channel.clone());
    let error = client.list_status(ListStatusPRequest::default()).await.expect_err("a stub");
    assert_eq!(error.code(), Code::Unimplemented);
    assert!(
        error.message().contains("com.qcloud.cos.goosefs.grpc.file.FileSystemMasterClientService/ListStatus"),
        "{}",
        error.message()
    );
    let mut unknown = proto::admin::admin_client::AdminClient::new(channel);
    let error = unknown.master_info(proto::admin::MasterInfoRequest {}).await.expect_err("no such service here");
    assert!(error.message().contains("goosefs.v1.Admin/MasterInfo is not implemented"), "{}", error.message());
    server.running.stop(Duration::ZERO).await;
}
