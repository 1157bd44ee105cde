//! Two members over a real port: what is delivered, and who is refused with which words.

use super::*;
use crate::core::Event;
use bytes::Bytes;
use lane::{Course, What, open};
use proto::internal::{PeerMessage, PeerNote};
use rpc::{ServerConfig, SystemEntropy};
use std::path::Path;
use std::time::Duration;
use testkit::eventually_async;

const PATIENCE: Duration = Duration::from_secs(30);

fn identity(dir: &Path, key: &ClusterKey, own: u64, members: &[&str], disk: u128) -> Arc<Identity> {
    let members: Vec<String> = members.iter().map(|&member| member.to_owned()).collect();
    let members = Members::new(&members).expect("a group");
    let home = dir.join(format!("member-{own}-{disk}-{}", members.iter().count()));
    std::fs::create_dir_all(&home).expect("a directory");
    let group = Group::create(&home, MemberId(own), members.clone(), disk).expect("written");
    let membership = Arc::new(members.membership());
    Arc::new(Identity::new(group, "x:1".to_owned(), membership, key, Arc::default(), || true))
}

fn serve(identity: Arc<Identity>) -> (Running, Arc<Inbox>) {
    serve_by(identity, false)
}

fn serve_by(identity: Arc<Identity>, frames: bool) -> (Running, Arc<Inbox>) {
    let inbox: Arc<Inbox> = Arc::default();
    let gate = Arc::new(Gate::new(identity, inbox.clone(), Arc::new(SystemEntropy)));
    let server = Server::bind("127.0.0.1:0", ServerConfig { threads: 1, ..ServerConfig::default() }).expect("a port");
    let server = match frames {
        true => server.with_frames(peers_calls(&gate, FrameService::without_identity())),
        false => server,
    };
    let routes = Routes::new().service(PeersServer::from_arc(gate).max_decoding_message_size(MESSAGE_BYTES));
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
    // By frames, and as a release before them hears it.
    for frames in [true, false] {
        let dir = dir.path().join(frames.to_string());
        let (server, inbox) = serve_by(identity(&dir, &key, 2, &["a:1", "b:1", "c:1"], 22), frames);
        let one = identity(&dir, &key, 1, &["a:1", "b:1", "c:1"], 11);
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
        assert!(!lane.send(Bytes::from(vec![0; 33 << 20]), LogIndex(0)), "more than a lane holds");
    }
}

#[tokio::test]
async fn a_note_without_a_proven_session_is_refused_and_ends_the_connection() {
    let dir = tempfile::tempdir().expect("a directory");
    let key = ClusterKey::create(&dir.path().join("key")).expect("a key");
    let (server, inbox) = serve_by(identity(dir.path(), &key, 2, &["a:1", "b:1", "c:1"], 22), true);
    let watch = rpc::Watch { ask_after: PATIENCE, silence: PATIENCE, always: false };
    let until = tokio::time::Instant::now() + PATIENCE;
    let address = server.local_addr().to_string();
    let stranger = rpc::Frames::open_unnamed(&address, watch, until).await.expect("connects").expect("frames");
    let note = PeerNote { session: Bytes::from_static(b"made up"), message: Some(PeerMessage::default()) };
    assert!(stranger.note(&note, 1 << 20).expect("open"));
    let why = stranger.over().await;
    assert!(why.message().contains("say hello again"), "{why}");
    assert!(inbox.take().is_empty());
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
    let taken = (0..100).take_while(|_| inbox.put(message()).is_some()).count();
    assert_eq!(taken, 63, "64 MiB, less what each event costs");
    assert_eq!(inbox.take().len(), taken);
    assert!(inbox.put(message()).is_some(), "there is room again");
}

#[tokio::test]
async fn who_was_removed_is_told_so_and_a_waiting_master_is_taken_in_by_the_leader_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let list = ["a:1", "b:1", "c:1"];
    let key = ClusterKey::create(&dir.path().join("key")).expect("a key");
    let two = identity(dir.path(), &key, 2, &list, 22);
    let (server, _inbox) = serve(two.clone());
    let mut members = Membership::founding([2, 3].map(|id| (MemberId(id), format!("m{id}:1"))));
    *two.members.lock() = Arc::new(members.clone());
    let why = refusal(identity(dir.path(), &key, 1, &list, 11), &server).await;
    assert!(why.contains("member-1 was removed from the group"), "{why}");

    // A blank disk waits; who does not lead, or knows it as a voter, cannot take it in.
    let home = dir.path().join("waiting");
    std::fs::create_dir_all(&home).expect("a directory");
    let waiting = Group::create_waiting(&home, 99).expect("written");
    let none = Arc::new(Membership::founding([]));
    let (waiting, _inbox) =
        serve(Arc::new(Identity::new(waiting, "d:1".to_owned(), none, &key, Arc::default(), || false)));
    let call = |as_whom: u64, identity: Arc<Identity>| Course { to: MemberId(as_whom), ..course(identity, &waiting) };
    let three = identity(dir.path(), &key, 3, &list, 33);
    let why = open(&call(2, three.clone())).await.map(drop).expect_err("a voter");
    assert!(why.contains("waits for the leading one"), "{why}");
    members.reduce_to(MemberId(3));
    let learner = journal::Membership::decode(&with_learner(&members, 4)).expect("sound");
    *three.members.lock() = Arc::new(learner);
    open(&call(4, three)).await.map(drop).expect("taken in");
    let group = Group::open(&home).expect("readable").expect("there");
    assert_eq!((group.own, group.disk, group.members.addresses()), (MemberId(4), 99, list.map(str::to_owned).to_vec()));
}

/// The record of these members and a learner.
fn with_learner(members: &Membership, id: u64) -> Vec<u8> {
    let mut bytes = members.encode().to_vec();
    bytes[1..9].copy_from_slice(&(id + 1).to_le_bytes());
    bytes.extend_from_slice(&id.to_le_bytes());
    bytes.push(0);
    bytes.extend_from_slice(&0_u64.to_le_bytes());
    bytes.extend_from_slice(&[3, 0, b'd', b':', b'1']);
    bytes
}
