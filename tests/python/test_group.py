"""The official Python client, as users install it, against three masters that come and go."""

import concurrent.futures
import itertools
import os
import pwd
import random
import threading

import goosefs
import pytest
from conftest import eventually, rounds
from goosefs import WriteType, exceptions

SIZE = 50_000
# Files a client must have written, read and renamed before, during and after each failover.
BETWEEN = 5
# Calls the client gives up around one failover at most: those that were on the wire, and those its broken connection takes.
GIVEN_UP = 8


def content(number):
    return random.Random(number).randbytes(SIZE)


def connect(group, **more):
    address = group.client_addresses().split(",")[0]
    properties = {
        "goosefs.master.rpc.addresses": group.client_addresses(),
        # The root directory belongs to who runs the masters.
        "goosefs.security.login.username": pwd.getpwuid(os.getuid()).pw_name,
        "goosefs.user.file.replication.durable": "1",
        "goosefs.user.file.replication.durable.min": "1",
    } | more
    return goosefs.Goosefs(goosefs.Config(address, properties=properties))


def was_given_up(error):
    """What the client calls a connection that broke under a call: SEMANTICS.md says that its outcome is unknown."""
    return any(words in str(error) for words in ["transport error", "transport::Error", "hyper::Error"])


class Load:
    """Writes files, reads each again and renames it, until told to stop."""

    def __init__(self, client):
        self.client = client
        self.stop = threading.Event()
        self.done, self.given_up = [], []

    def step(self, number):
        before, after, data = f"/made-{number}", f"/renamed-{number}", content(number)
        kind = WriteType.MustCache if number % 2 else WriteType.CacheThrough
        try:
            assert self.client.write_file(before, data, write_type=kind) == SIZE
            assert self.client.read_file(before) == data
            self.client.rename(before, after)
            self.done.append(number)
        except exceptions.RpcError as error:
            if not was_given_up(error):
                raise
            self.given_up.append(number)

    def run(self):
        for number in itertools.count():
            if self.stop.is_set():
                return
            self.step(number)


def kill(group, gone, goes_on):
    group.kill(gone)
    goes_on()
    group.start_master(gone)
    group.caught_up(gone)


def kill_the_leader(group, leader, other, goes_on, chance):
    kill(group, leader, goes_on)


def kill_a_follower(group, leader, other, goes_on, chance):
    kill(group, other, goes_on)


def hand_the_lead_over(group, leader, other, goes_on, chance):
    group.elect(other)
    goes_on()


def a_follower_hangs(group, leader, other, goes_on, chance):
    group.pause(other)
    goes_on()
    group.resume(other)
    group.caught_up(other)


def the_leader_hangs(group, leader, other, goes_on, chance):
    """The client waits for it as long as it hangs, and no longer: by then it follows another one."""
    group.pause(leader)
    eventually(lambda: any(group.metric(n, "Master_IsLeader") == 1 for n in group.MASTERS if n != leader), 90, "another leader")
    group.resume(leader)
    goes_on()
    group.caught_up(leader)


def far_from_the_client(group, leader, other, goes_on, chance):
    group.lines[leader].delay = chance.uniform(0.02, 0.15)
    goes_on()
    group.lines[leader].delay = 0.0


def cut_from_the_client(group, leader, other, goes_on, chance):
    """What was under way arrives late, at a master that follows by then."""
    group.lines[leader].hold()
    group.elect(other)
    group.lines[leader].release()
    goes_on()


TROUBLES = [
    kill_the_leader,
    kill_a_follower,
    hand_the_lead_over,
    a_follower_hangs,
    the_leader_hangs,
    far_from_the_client,
    cut_from_the_client,
]
# Of the night's 200 rounds each trouble is dealt 50 times.
ROUNDS_A_TURN = 4


def test_a_client_rides_over_failovers_and_nothing_acknowledged_is_lost_or_doubled(group):
    turns = max(1, rounds(ROUNDS_A_TURN) // ROUNDS_A_TURN)
    count = turns * len(TROUBLES)
    client = connect(group)
    load = Load(client)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(load.run)

        def goes_on():
            target = len(load.done) + BETWEEN
            eventually(lambda: running.done() or len(load.done) >= target, 90, "the client to go on")
            assert not running.done(), running.result()

        try:
            for seed in range(turns):
                chance = random.Random(seed)
                for trouble in chance.sample(TROUBLES, len(TROUBLES)):
                    goes_on()
                    leader = group.leader()
                    other = (leader + chance.choice([1, 2])) % len(group.MASTERS)
                    print(f"turn {seed}: {trouble.__name__}, {leader} leads")
                    trouble(group, leader, other, goes_on, chance)
        finally:
            load.stop.set()
    running.result()
    assert len(load.given_up) <= GIVEN_UP * count, "it did not find the new leader"
    names = [entry.name for entry in client.list_status("/")]
    assert len(names) == len(set(names))
    for number in load.done:
        assert f"renamed-{number}" in names and f"made-{number}" not in names
        assert client.read_file(f"/renamed-{number}") == content(number)
    # What was given up happened once or not at all.
    for number in load.given_up:
        assert not {f"made-{number}", f"renamed-{number}"} <= set(names)
    print(f"{count} troubles: {len(load.done)} files, {len(load.given_up)} calls given up")
    client.close()


def test_a_client_rides_over_a_rolling_restart(group):
    client = connect(group)
    load = Load(client)
    turns = max(1, rounds(ROUNDS_A_TURN) // ROUNDS_A_TURN)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(load.run)
        try:
            for n in [master for _ in range(turns) for master in group.MASTERS]:
                target = len(load.done) + BETWEEN
                eventually(lambda: running.done() or len(load.done) >= target, 90, "the client to go on")
                assert not running.done(), running.result()
                group.stop_master(n)
                group.start_master(n)
                group.caught_up(n)
        finally:
            load.stop.set()
    running.result()
    assert not load.given_up
    names = [entry.name for entry in client.list_status("/")]
    assert len(names) == len(set(names))
    assert {f"renamed-{number}" for number in load.done} <= set(names)
    client.close()


def test_a_client_behind_a_silent_leader_is_told_in_its_own_time_and_goes_on_when_that_has_ended(group):
    """The client keeps its connection however many calls on it run out of time: SEMANTICS.md says what helps."""
    client = connect(group, **{"goosefs.user.network.rpc.timeout": "2s"})
    client.mkdir("/before")
    leader = group.leader()
    group.pause(leader)
    with pytest.raises(exceptions.RpcError, match="Timeout expired"):
        client.mkdir("/unknown")

    def goes_on():
        try:
            client.mkdir("/after", recursive=True)
            return True
        except exceptions.RpcError:
            return False

    group.kill(leader)
    eventually(goes_on, 60, "the client to go to another master")
    # What ran out of time happened once or not at all.
    names = [entry.name for entry in client.list_status("/") if entry.name != "unknown"]
    assert sorted(names) == ["after", "before"]
    client.close()


def test_an_open_file_is_read_from_the_cache_while_no_master_leads(group):
    client = connect(group)
    client.write_file("/cached", content(1), write_type=WriteType.MustCache)
    reader = client.open_file("/cached")
    assert reader.read(SIZE) == content(1)
    leader = group.leader()
    gone = [leader, (leader + 1) % len(group.MASTERS)]
    for n in gone:
        group.kill(n)
    survivor = (leader + 2) % len(group.MASTERS)
    eventually(lambda: group.metric(survivor, "Master_IsLeader") == 0, what="the survivor to know")
    for _ in range(50):
        reader.seek(0)
        assert reader.read(SIZE) == content(1)
        assert reader.read_at(SIZE // 2, 100) == content(1)[SIZE // 2 : SIZE // 2 + 100]
    assert group.metric(survivor, "Master_IsLeader") == 0
    for n in gone:
        group.start_master(n)
    group.leader()
    assert client.read_file("/cached") == content(1)
    reader.close()
    client.close()
