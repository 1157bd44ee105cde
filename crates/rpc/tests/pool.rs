//! Our own client side: handshake, pool and retries over a restart.

mod common;

use common::{LONG, Setup, start};
use proto::grpc::file::GetStatusPRequest;
use proto::grpc::file::file_system_master_client_service_client::FileSystemMasterClientServiceClient;
use rpc::{AuthType, Connection, Error, Identity, Pool, RetryPolicy, SystemEntropy, retry};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use types::{ErrorKind, OperationId};

fn ann() -> Identity {
    Identity { user: "ann".to_owned(), auth: AuthType::Simple }
}

fn soon() -> Instant {
    Instant::now() + LONG
}

async fn owner(connection: &Connection) -> Result<String, Error> {
    let mut client = FileSystemMasterClientServiceClient::new(connection.service());
    let answer = client.get_status(GetStatusPRequest { path: Some("/".into()), ..Default::default() }).await?;
    Ok(answer.into_inner().file_info.and_then(|info| info.owner).unwrap_or_default())
}

#[tokio::test]
async fn connections_take_turns_and_are_kept() {
    let server = start(Setup::default());
    let pool = Pool::new(ann(), 2);
    let first = pool.get(&server.address(), soon()).await.expect("connects");
    let second = pool.get(&server.address(), soon()).await.expect("connects");
    let third = pool.get(&server.address(), soon()).await.expect("connects");
    assert!(Arc::ptr_eq(&first, &third) && !Arc::ptr_eq(&first, &second));
    assert_eq!(owner(&first).await.expect("answered"), "ann");
    assert_eq!(server.channels.open_count(), 2);
    pool.observe(&first, ErrorKind::NotFound);
    assert!(Arc::ptr_eq(&pool.get(&server.address(), soon()).await.expect("kept"), &second));
    pool.observe(&first, ErrorKind::Unauthenticated);
    let fresh = pool.get(&server.address(), soon()).await.expect("connects");
    assert!(!Arc::ptr_eq(&fresh, &first));
    drop((pool, first, second, third, fresh));
    testkit::eventually_async(LONG, || async { server.channels.open_count() == 0 }).await;
    server.running.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn a_restarted_server_is_reached_again_with_a_new_handshake() {
    let server = start(Setup::default());
    let (address, pool) = (server.address(), Pool::new(ann(), 1));
    let call = async |address: &str| {
        retry(RetryPolicy::default(), OperationId(1), soon(), &SystemEntropy, async |_| {
            let connection = pool.get(address, soon()).await?;
            let result = owner(&connection).await;
            if let Err(error) = &result {
                pool.observe(&connection, error.kind());
            }
            result
        })
        .await
    };
    assert_eq!(call(&address).await.expect("answered"), "ann");
    server.running.stop(Duration::ZERO).await;
    let again = start(Setup { address: address.clone(), ..Setup::default() });
    assert_eq!(call(&address).await.expect("answered again"), "ann");
    assert_eq!(again.channels.open_count(), 1, "by a handshake of its own");
    again.running.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn what_cannot_be_reached_is_named() {
    let deadline = Instant::now() + LONG;
    let nobody = Connection::open("127.0.0.1:1", &ann(), deadline).await.expect_err("nobody");
    assert_eq!(nobody.kind(), ErrorKind::Unavailable);
    assert!(nobody.to_string().contains("connect to 127.0.0.1:1: nobody answers there"), "{nobody}");
    let bad = Connection::open("not an address", &ann(), deadline).await.expect_err("bad");
    assert_eq!(bad.kind(), ErrorKind::Invalid, "{bad}");
    let server = start(Setup::default());
    let nameless = Identity { user: String::new(), auth: AuthType::Simple };
    let error = Connection::open(&server.address(), &nameless, deadline).await.expect_err("no name");
    assert!(error.to_string().contains("the user name is empty"), "{error}");
    server.running.stop(Duration::ZERO).await;
    // A port that accepts and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("bound").to_string();
    let late = Connection::open(&address, &ann(), Instant::now() + Duration::from_millis(100)).await;
    assert_eq!(late.expect_err("silent").kind(), ErrorKind::Timeout);
}
