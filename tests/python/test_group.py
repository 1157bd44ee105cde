"""The official Python client, as users install it, against three masters that come and go."""

import concurrent.futures
import itertools
import os
import pwd
import random
import threading

import goosefs
from conftest import eventually, rounds
from goosefs import WriteType, exceptions

SIZE = 50_000
# Files a client must have written, read and renamed before, during and after each failover.
BETWEEN = 5
# Calls the client gives up around one failover at most: those that were on the wire, and those its broken connection takes.
GIVEN_UP = 8


def content(number):
    return random.Random(number).randbytes(SIZE)


def connect(group):
    address = group.addresses("rpc").split(",")[0]
    properties = {
        "goosefs.master.rpc.addresses": group.addresses("rpc"),
        # The root directory belongs to who runs the masters.
        "goosefs.security.login.username": pwd.getpwuid(os.getuid()).pw_name,
        "goosefs.user.file.replication.durable": "1",
        "goosefs.user.file.replication.durable.min": "1",
    }
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


def test_a_client_rides_over_failovers_and_nothing_acknowledged_is_lost_or_doubled(group):
    count = rounds(4)
    client = connect(group)
    load = Load(client)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(load.run)

        def goes_on():
            target = len(load.done) + BETWEEN
            eventually(lambda: running.done() or len(load.done) >= target, 90, "the client to go on")
            assert not running.done(), running.result()

        try:
            for seed in range(count):
                chance = random.Random(seed)
                goes_on()
                leader = group.leader()
                other = (leader + chance.choice([1, 2])) % len(group.MASTERS)
                what = chance.choice(["kill the leader", "kill the leader", "kill a follower", "hand the lead over"])
                print(f"round {seed}: {what}, {leader} leads")
                if what == "hand the lead over":
                    group.elect(other)
                    goes_on()
                    continue
                gone = other if what == "kill a follower" else leader
                group.kill(gone)
                goes_on()
                group.start_master(gone)
                group.caught_up(gone)
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
    print(f"{count} failovers: {len(load.done)} files, {len(load.given_up)} calls given up")
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
