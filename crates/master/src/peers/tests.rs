//! Two members over a real port: what is delivered, and who is refused with which words.

use super::*;
use crate::core::Event;
use bytes::Bytes;
use lane::{Course, What, open};
use rpc::{ServerConfig, SystemEntropy};
use std::path::Path;
use std::time::Duration;
use testkit::eventually_async;

const PATIENCE: Duration = Duration::from_secs(30);

fn identity(dir: &Path, key: &ClusterKey, own: u64, members: &[&str], disk: u128) -> Arc<Identity> {
    let members: Vec<String> = members.iter().map(|&member| member.to_owned()).collect();
    let members = Members::new(&members).expect("a group");
    let home = dir.join(format!("member-{own}-{disk}-{}", members.ids().len()));
    std::fs::create_dir_all(&home).expect("a directory");
    let group = Group::create(&home, MemberId(own), members.clone(), disk).expect("written");
    Arc::new(Identity {
        own: MemberId(own),
        disk,
        addresses: members.addresses(),
        cluster: key.group_id(),
        token: key.peer_token(),
        group: Mutex::new(group),
    })
}

fn serve(identity: Arc<Identity>) -> (Running, Arc<Inbox>) {
    let inbox: Arc<Inbox> = Arc::default();
    let gate = Arc::new(Gate::new(identity, inbox.clone(), Arc::new(SystemEntropy)));
    let routes = Routes::new().service(PeersServer::from_arc(gate).max_decoding_message_size(MESSAGE_BYTES));
    let server = Server::bind("127.0.0.1:0", ServerConfig { threads: 1, ..ServerConfig::default() }).expect("a port");
    (server.serve(move |_| routes.clone()).expect("it serves"), inbox)
}

fn course(identity: Arc<Identity>, server: &Running) -> Course {
    let (to, address) = (MemberId(2), server.local_addr().to_string());
    Course { identity, inbox: Arc::default(), to, address, what: What::Rest }
}

async fn refusal(identity: Arc<Identity>, server: &Running) -> String {
    match open(&course(identity, server)).await {
        Ok(_) => panic!("it was let in"),
        Err(why) => why,
    }
}

#[tokio::test]
async fn messages_arrive_in_order_and_say_how_far_everybody_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let key = ClusterKey::create(&dir.path().join("key")).expect("a key");
    let (server, inbox) = serve(identity(dir.path(), &key, 2, &["a:1", "b:1", "c:1"], 22));
    let one = identity(dir.path(), &key, 1, &["a:1", "b:1", "c:1"], 11);
    let lane = Lane::start(course(one, &server), &tokio::runtime::Handle::current());
    let mut sent = 0_u64;
    let mut arrived: Vec<Event> = Vec::new();
    eventually_async(PATIENCE, || {
        if sent < 10 && lane.send(Bytes::from(sent.to_string()), LogIndex(sent)) {
            sent += 1;
        }
        arrived.extend(inbox.take());
        std::future::ready(arrived.len() == 10)
    })
    .await;
    for (number, event) in (0..).zip(arrived) {
        let Event::PeerMessage { from, message, everywhere } = event else { panic!("{event:?}") };
        assert_eq!((from, message, everywhere), (MemberId(1), Bytes::from(number.to_string()), LogIndex(number)));
    }
    assert!(!lane.send(Bytes::from(vec![0; 64 << 20]), LogIndex(0)), "more than a lane holds");
}

#[tokio::test]
async fn who_does_not_belong_is_told_why() {
    let dir = tempfile::tempdir().expect("a directory");
    let list = ["a:1", "b:1", "c:1"];
    let key = ClusterKey::create(&dir.path().join("key")).expect("a key");
    let (server, inbox) = serve(identity(dir.path(), &key, 2, &list, 22));
    let other_key = ClusterKey::create(&dir.path().join("other")).expect("a key");
    let why = refusal(identity(dir.path(), &other_key, 1, &list, 11), &server).await;
    assert!(why.contains("formatted with another key"), "{why}");
    let why = refusal(identity(dir.path(), &key, 1, &["a:1", "b:1", "d:1"], 11), &server).await;
    assert!(why.contains("formatted for the group a:1,b:1,d:1, this one for a:1,b:1,c:1"), "{why}");
    let why = refusal(identity(dir.path(), &key, 2, &list, 22), &server).await;
    assert!(why.contains("two masters have the same address"), "{why}");
    open(&course(identity(dir.path(), &key, 1, &list, 11), &server)).await.map(drop).expect("it belongs");
    let why = refusal(identity(dir.path(), &key, 1, &list, 12), &server).await;
    assert!(why.contains("member-1 (a:1) comes with another disk than before"), "{why}");
    // A key alone is not enough: the claimed id must be proven.
    let liar = Identity {
        cluster: key.group_id(),
        token: other_key.peer_token(),
        ..Arc::into_inner(identity(dir.path(), &other_key, 3, &list, 33)).expect("nobody else has it")
    };
    let why = refusal(Arc::new(liar), &server).await;
    assert!(why.contains("does not hold this cluster's key"), "{why}");
    assert!(inbox.take().is_empty());
}

#[test]
fn an_inbox_holds_so_much_and_no_more() {
    let inbox = Inbox::default();
    let message =
        || Event::PeerMessage { from: MemberId(1), message: Bytes::from(vec![0; 1 << 20]), everywhere: LogIndex(0) };
    let taken = (0..100).take_while(|_| inbox.push(message())).count();
    assert_eq!(taken, 63, "64 MiB, less what each event costs");
    assert_eq!(inbox.take().len(), taken);
    assert!(inbox.push(message()), "there is room again");
}
