"""Real processes for the official Python clients: one `goosefs local` per session, on free ports."""

import os
import pathlib
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest

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


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


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
