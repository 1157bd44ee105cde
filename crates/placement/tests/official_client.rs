//! The ring against the official client's own: writes go where the client looks.

use goosefs_sdk::block::WorkerRouter;
use goosefs_sdk::proto::grpc::{WorkerNetAddress, block::WorkerInfo};
use placement::{Member, Ring};
use types::{ContainerId, WorkerId};

fn info(member: &Member) -> WorkerInfo {
    WorkerInfo {
        id: Some(member.id.0.cast_signed()),
        address: Some(WorkerNetAddress {
            host: Some(member.host.clone()),
            rpc_port: Some(9203),
            ..WorkerNetAddress::default()
        }),
        virtual_node_num: Some(i32::try_from(member.virtual_nodes).expect("small")),
        ..WorkerInfo::default()
    }
}

#[test]
fn places_are_those_the_official_client_chooses() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let members: Vec<Member> = (0..7u64)
        .map(|number| Member {
            id: WorkerId(number * 0x1357_9bdf_0246_8ace % (1 << 62) + 1),
            host: format!("198.51.100.{}", number % 5),
            virtual_nodes: 100 + 37 * u32::try_from(number).expect("small"),
        })
        .collect();
    let ring = Ring::new(&members);
    runtime.block_on(async {
        let router = WorkerRouter::new();
        router.update_workers(members.iter().map(info).collect()).await;
        let dead = &members[2];
        router.mark_failed(info(dead).address.as_ref().expect("set above"));
        for container in 1..300 {
            let block = ContainerId(container * 7919).block(container % 9).expect("a small index");
            for count in [1, 2, 3, 7] {
                let theirs = router.select_workers(block.to_wire(), count).await.expect("live workers");
                let theirs: Vec<i64> = theirs.iter().filter_map(|worker| worker.id).collect();
                let ours = ring.candidates(block, count, |id| id == dead.id);
                let ours: Vec<i64> = ours.iter().map(|id| id.0.cast_signed()).collect();
                assert_eq!(ours, theirs, "{block}, {count} places");
            }
        }
    });
}
