//! Ids that outlive restarts and disks.

use super::world::*;
use crate::*;
use types::{SessionEpoch, WorkerId};

fn register(worker: Option<u64>, identity: u128, host: &str, lost: bool) -> RegisterWorker {
    RegisterWorker {
        worker: worker.map(WorkerId),
        new_id: WorkerId(100 + u64::try_from(identity).expect("a small one")),
        identity,
        host: host.to_owned(),
        rpc_port: 9203,
        web_port: 9204,
        session_lost: lost,
    }
}

#[track_caller]
fn takes(world: &mut World, op: RegisterWorker, id: u64) -> SessionEpoch {
    match world.run(Op::RegisterWorker(op)).outcome {
        Ok(Done::Worker { id: got, epoch }) => {
            assert_eq!(got, WorkerId(id));
            assert_eq!(world.namespace.workers()[&got].epoch, epoch);
            epoch
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_worker_keeps_its_id_and_gets_a_new_epoch() {
    let mut world = World::with("");
    let first = takes(&mut world, register(None, 1, "a", true), 101);
    let second = takes(&mut world, register(Some(101), 1, "a", false), 101);
    assert!(second > first);
    takes(&mut world, register(Some(101), 1, "moved", false), 101);
    takes(&mut world, register(None, 1, "moved", false), 101); // the first answer was lost
    assert_eq!(workers(&world.store).expect("a map").len(), 1);
}

#[test]
fn a_blank_disk_takes_over_the_id_of_its_address_once_that_is_free() {
    let mut world = World::with("");
    takes(&mut world, register(None, 1, "a", true), 101);
    let alive = world.run(Op::RegisterWorker(register(None, 2, "a", false))).outcome;
    assert_eq!(alive, Err(Reject::WorkerTwice(WorkerId(101))));
    takes(&mut world, register(None, 2, "a", true), 101);
    takes(&mut world, register(None, 3, "b", true), 103);
}

#[test]
fn an_id_alive_in_two_places_is_refused_to_the_second() {
    let mut world = World::with("");
    takes(&mut world, register(None, 1, "a", true), 101);
    let copy = register(Some(101), 2, "b", false);
    assert_eq!(world.run(Op::RegisterWorker(copy)).outcome, Err(Reject::WorkerTwice(WorkerId(101))));
    takes(&mut world, register(Some(55), 5, "c", true), 55);
    let clash = RegisterWorker { new_id: WorkerId(55), ..register(None, 6, "d", true) };
    assert_eq!(short(&world.run(Op::RegisterWorker(clash)).outcome), "Busy");
}
