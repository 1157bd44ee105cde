"""Real processes for the official Python clients, on free ports: one `goosefs local` per session, groups of three masters."""

import os
import pathlib
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest
from line import Line

START_SECONDS = 60


def eventually(condition, seconds=30, what="the condition"):
    """Waits until `condition()` is true; the only place that waits for time to pass."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not hold within {seconds} s")
        time.sleep(0.05)


class Ports:
    """Numbers that no connection is given and no other test process has: claimed in runs, as crates/testkit/src/ports.rs does."""

    FIRST, END, RUN = 10_240, 32_768, 32

    def __init__(self):
        self.claims, self.left, self.runs = [], iter(()), iter(range(self.FIRST, self.END, self.RUN))

    def claim(self):
        for first in self.runs:
            claim = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                claim.bind(f"\0goosefs-testkit-ports-{first}")
            except OSError:
                claim.close()
                continue
            self.claims.append(claim)
            self.left = iter(range(first, first + self.RUN))
            return
        raise AssertionError("all ports for tests are claimed")

    def next(self):
        while True:
            for port in self.left:
                if is_free(port):
                    return port
            self.claim()


def is_free(port):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


PORTS = Ports()


def free_ports(count):
    return [PORTS.next() for _ in range(count)]


class Local:
    """`goosefs local`: a master and a worker in one process, all state under one directory."""

    def __init__(self, directory):
        self.binary = os.environ.get("GOOSEFS_BIN", "goosefs")
        self.directory = pathlib.Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        names = ["rpc", "web", "internal", "worker", "worker_web"]
        self.ports = dict(zip(names, free_ports(len(names))))
        self.process = None

    @property
    def address(self):
        return f"127.0.0.1:{self.ports['rpc']}"

    def settings(self):
        return {
            "goosefs.master.rpc.port": self.ports["rpc"],
            "goosefs.master.web.port": self.ports["web"],
            "goosefs.master.internal.rpc.port": self.ports["internal"],
            "goosefs.worker.rpc.port": self.ports["worker"],
            "goosefs.worker.web.port": self.ports["worker_web"],
            "goosefs.master.hostname": "127.0.0.1",
            "goosefs.worker.hostname": "127.0.0.1",
        }

    def start(self):
        arguments = [self.binary, "local", "--dir", str(self.directory)]
        arguments += [f"-D{key}={value}" for key, value in self.settings().items()]
        self.log = open(self.directory / "output.log", "ab")
        self.process = subprocess.Popen(arguments, stdout=self.log, stderr=self.log)
        eventually(self.ready, START_SECONDS, "goosefs local to be ready")
        return self

    def ready(self):
        if self.process.poll() is not None:
            output = (self.directory / "output.log").read_text(errors="replace")
            raise AssertionError(f"goosefs local ended with {self.process.returncode}:\n{output[-4000:]}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports['web']}/readyz", timeout=2) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def cli(self, *arguments):
        """Runs a command of ours against this cluster and returns its output."""
        command = [self.binary, *arguments, f"-Dgoosefs.master.rpc.addresses={self.address}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    @property
    def store(self):
        return self.directory / "ufs"


class Group:
    """Three masters and a worker, each a process."""

    MASTERS = range(3)

    def __init__(self, directory):
        self.binary = os.environ.get("GOOSEFS_BIN", "goosefs")
        self.directory = pathlib.Path(directory)
        (self.directory / "ufs").mkdir(parents=True)
        names = ["rpc", "web", "internal", "journal"]
        ports = free_ports(len(names) * len(self.MASTERS) + 2)
        self.worker_ports = ports[:2]
        self.ports = [dict(zip(names, ports[2 + len(names) * n :])) for n in self.MASTERS]
        # Between clients and each master.
        self.lines = [Line(port, self.ports[n]["rpc"]) for n, port in zip(self.MASTERS, free_ports(len(self.MASTERS)))]
        self.processes = {}

    def client_addresses(self):
        return ",".join(f"127.0.0.1:{line.port}" for line in self.lines)

    def addresses(self, name):
        return ",".join(f"127.0.0.1:{ports[name]}" for ports in self.ports)

    def settings(self, home):
        return {
            "goosefs.work.dir": self.directory / home,
            "goosefs.security.secret.key.file": self.directory / "secret.key",
            "goosefs.master.mount.table.root.ufs": self.directory / "ufs",
            "goosefs.master.hostname": "127.0.0.1",
            "goosefs.worker.hostname": "127.0.0.1",
            "goosefs.master.rpc.addresses": self.addresses("rpc"),
            "goosefs.master.internal.rpc.addresses": self.addresses("internal"),
            "goosefs.master.embedded.journal.addresses": self.addresses("journal"),
        }

    def command(self, words, home, settings=()):
        settings = self.settings(home) | dict(settings)
        return [self.binary, *words, *(f"-D{key}={value}" for key, value in settings.items())]

    def master(self, n):
        keys = {"rpc": "rpc", "web": "web", "internal": "internal.rpc", "journal": "embedded.journal"}
        return {f"goosefs.master.{key}.port": self.ports[n][name] for name, key in keys.items()}

    def run(self, *words, settings=()):
        done = subprocess.run(self.command(words, words[0], settings), capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def spawn(self, name, command):
        log = open(self.directory / f"{name}.log", "ab")
        self.processes[name] = subprocess.Popen(command, stdout=log, stderr=log)

    def start(self):
        for n in self.MASTERS:
            self.format(n)
            self.start_master(n)
        self.leader()
        rpc, web = self.worker_ports
        settings = {"goosefs.worker.rpc.port": rpc, "goosefs.worker.web.port": web}
        self.spawn("worker", self.command(["worker"], "worker", settings))
        eventually(lambda: get(web, "/readyz") is not None, START_SECONDS, "the worker to be ready")
        return self

    def format(self, n):
        done = subprocess.run(self.command(["formatMaster"], f"master{n}", self.master(n)), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def start_master(self, n):
        self.spawn(f"master{n}", self.command(["master"], f"master{n}", self.master(n)))

    def kill(self, n):
        process = self.processes.pop(f"master{n}")
        process.kill()
        process.wait()

    def stop_master(self, n):
        process = self.processes.pop(f"master{n}")
        process.terminate()
        assert process.wait(START_SECONDS) == 0

    def metric(self, n, name):
        page = get(self.ports[n]["web"], "/metrics/prometheus") or ""
        values = [line.split()[1] for line in page.splitlines() if line.startswith(f"{name} ")]
        return int(values[0]) if values else None

    def leader(self):
        """Waits until a master leads; which."""
        found = eventually(
            lambda: [n for n in self.MASTERS if self.metric(n, "Master_IsLeader") == 1], START_SECONDS, "a master to lead"
        )
        return found[0]

    def caught_up(self, n):
        index = "Master_LastAppliedCommitJournalIndex"
        target = self.metric(self.leader(), index)
        eventually(lambda: (self.metric(n, index) or -1) >= target, START_SECONDS, f"master {n} to catch up")

    def elect(self, n):
        address = f"127.0.0.1:{self.ports[n]['journal']}"
        self.run("fsadmin", "journal", "quorum", "elect", "-address", address)

    def pause(self, n):
        self.processes[f"master{n}"].send_signal(signal.SIGSTOP)

    def resume(self, n):
        self.processes[f"master{n}"].send_signal(signal.SIGCONT)

    def stop(self):
        for line in self.lines:
            line.close()
        for process in self.processes.values():
            process.kill()
            process.wait()


def get(port, path):
    """The page there, if there is one."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
            return answer.read().decode()
    except (urllib.error.URLError, OSError):
        return None


@pytest.fixture
def group(tmp_path):
    cluster = Group(tmp_path / "group")
    try:
        yield cluster.start()
    finally:
        cluster.stop()


def rounds(few):
    """How often a random test repeats: `few`, or what the night says."""
    return int(os.environ.get("GOOSEFS_TEST_ROUNDS", few))


@pytest.fixture(scope="session")
def local(tmp_path_factory):
    cluster = Local(tmp_path_factory.mktemp("goosefs")).start()
    yield cluster
    cluster.stop()


@pytest.fixture
def own_local(tmp_path):
    cluster = Local(tmp_path / "goosefs").start()
    yield cluster
    cluster.stop()


def config_for(cluster, **properties):
    import goosefs

    # One worker: two durable replicas cannot be had, so an asynchronous write asks for one.
    # With properties, the client takes the address from them alone.
    base = {
        "goosefs.master.rpc.addresses": cluster.address,
        "goosefs.user.file.replication.durable": "1",
        "goosefs.user.file.replication.durable.min": "1",
    }
    base.update(properties)
    return goosefs.Config(cluster.address, properties=base)


@pytest.fixture
def fs(local):
    import goosefs

    client = goosefs.Goosefs(config_for(local))
    yield client
    client.close()


@pytest.fixture
def folder(fs, request):
    """A directory of the test's own."""
    name = "".join(c if c.isalnum() else "_" for c in request.node.name)
    path = f"/{name}"
    fs.mkdir(path, recursive=True)
    return path
