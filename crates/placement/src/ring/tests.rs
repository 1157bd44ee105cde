use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn member(id: u64, host: &str, virtual_nodes: u32) -> Member {
    Member { id: WorkerId(id), host: host.to_owned(), virtual_nodes }
}

fn block(raw: i64) -> BlockId {
    BlockId::from_wire(raw).expect("a valid block id")
}

fn all_live(_: WorkerId) -> bool {
    false
}

/// Five real worker ids; the places were recorded from a Java cluster with 200 points per worker.
#[test]
fn golden_places_of_a_live_cluster() {
    let ring = Ring::new(&[
        member(8769479697893324776, "172.16.16.42", 200),
        member(8349952073724719185, "172.16.16.14", 200),
        member(144281688392029313, "172.16.16.35", 200),
        member(6124739522353643542, "172.16.16.46", 200),
        member(8816614835528527236, "172.16.16.18", 200),
    ]);
    for (raw, expected) in [
        (85429583872, 8816614835528527236),
        (85429583874, 8769479697893324776),
        (85429583875, 6124739522353643542),
        (85429583876, 8769479697893324776),
        (85429583877, 8349952073724719185),
    ] {
        assert_eq!(ring.candidates(block(raw), 1, all_live), [WorkerId(expected)], "block {raw}");
    }
}

/// Recorded from the Java server. 42 is no block id of ours, hence the walk itself.
#[test]
fn golden_replicas_go_to_different_hosts() {
    let ring = Ring::new(&[member(1, "w1", 200), member(2, "w1", 200), member(3, "w2", 200), member(4, "w3", 200)]);
    assert_eq!(ring.walk(42, 3, all_live), [2, 3, 4].map(WorkerId));
    assert_eq!(ring.walk(42, 4, all_live).len(), 3, "there are three hosts");
}

#[test]
fn workers_without_a_host_are_not_taken_for_one_host() {
    let ring = Ring::new(&[member(1, "", 50), member(2, "", 50)]);
    assert_eq!(ring.candidates(block(1 << 24), 2, all_live).len(), 2);
}

#[test]
fn nothing_to_choose_from_gives_an_empty_list() {
    let empty = Ring::new(&[]);
    assert!(empty.is_empty());
    assert!(empty.candidates(block(1 << 24), 3, all_live).is_empty());
    let weightless = Ring::new(&[member(1, "a", 0)]);
    assert!(weightless.candidates(block(1 << 24), 1, all_live).is_empty());
    let ring = Ring::new(&[member(1, "a", 10), member(2, "b", 10)]);
    assert!(ring.candidates(block(1 << 24), 0, all_live).is_empty());
    assert!(ring.candidates(block(1 << 24), 2, |_| true).is_empty(), "all failed");
}

#[test]
fn a_point_two_members_share_belongs_to_the_later_one() {
    // The same id twice makes every point collide.
    let ring = Ring::new(&[member(5, "old", 20), member(5, "new", 20)]);
    assert!(ring.points.iter().all(|(_, number)| *number == 1));
}

proptest! {
    #[test]
    fn removing_a_worker_moves_only_its_blocks(
        ids in proptest::collection::btree_set(1u64..1 << 62, 2..8),
        gone in any::<prop::sample::Index>(),
        blocks in proptest::collection::vec(1i64 << 24..1 << 50, 1..50),
    ) {
        let all: Vec<Member> = ids.iter().map(|id| member(*id, &format!("host-{id}"), 40)).collect();
        let gone = all[gone.index(all.len())].id;
        let rest: Vec<Member> = all.iter().filter(|member| member.id != gone).cloned().collect();
        let (before, after) = (Ring::new(&all), Ring::new(&rest));
        for raw in blocks {
            let place = before.candidates(block(raw), 1, all_live);
            if place != [gone] {
                prop_assert_eq!(after.candidates(block(raw), 1, all_live), place);
            }
        }
    }

    #[test]
    fn candidates_are_distinct_live_and_a_prefix_of_more(
        ids in proptest::collection::btree_set(1u64..1 << 62, 1..10),
        raw in 1i64 << 24..1 << 50,
        failed_below in 0u64..1 << 62,
        count in 1usize..6,
    ) {
        let members: Vec<Member> = ids.iter().map(|id| member(*id, &format!("host-{}", id % 4), 30)).collect();
        let ring = Ring::new(&members);
        let failed = |id: WorkerId| id.0 < failed_below;
        let places = ring.candidates(block(raw), count, failed);
        prop_assert!(places.len() <= count);
        prop_assert!(places.iter().all(|id| !failed(*id)));
        let hosts: BTreeSet<u64> = places.iter().map(|id| id.0 % 4).collect();
        prop_assert_eq!(hosts.len(), places.len());
        let more = ring.candidates(block(raw), count + 1, failed);
        prop_assert_eq!(&more[..places.len()], &places[..]);
    }
}
