"""The official Python client, as users install it, against real servers: every operation, every write type."""

import concurrent.futures
import random
import zlib

import goosefs
import pytest
from conftest import config_for, eventually
from goosefs import WriteType, exceptions

BLOCK = 1 << 20
WRITE_TYPES = [
    WriteType.MustCache,
    WriteType.TryCache,
    WriteType.CacheThrough,
    WriteType.Through,
    WriteType.AsyncThrough,
]
THROUGH = [WriteType.CacheThrough, WriteType.Through]


def pattern(size, seed=7):
    chunk = 64 << 20
    if size > chunk:
        return b"".join(pattern(min(chunk, size - at), f"{seed}:{at}") for at in range(0, size, chunk))
    return random.Random(f"{seed}:{size}").randbytes(size)


@pytest.mark.parametrize("write_type", WRITE_TYPES, ids=lambda kind: kind.as_str())
@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 17])
def test_what_was_written_is_read(fs, folder, local, write_type, size):
    path, data = f"{folder}/file", pattern(size)
    assert fs.write_file(path, data, write_type=write_type, block_size_bytes=BLOCK) == size
    status = fs.get_status(path)
    assert (status.length, status.is_completed(), status.is_folder()) == (size, True, False)
    assert len(status.block_ids) == -(-size // BLOCK)
    assert status.mode & 0o777 == 0o644
    assert fs.read_file(path) == data
    if write_type in THROUGH:
        assert status.is_persisted()
        assert (local.store / path.lstrip("/")).read_bytes() == data
    if write_type == WriteType.MustCache:
        assert status.persistence_state == "NOT_PERSISTED"
        assert not (local.store / path.lstrip("/")).exists()


def test_an_asynchronous_write_reaches_the_store(fs, folder, local):
    path, data = f"{folder}/later", pattern(3 * BLOCK + 5)
    fs.write_file(path, data, write_type=WriteType.AsyncThrough, block_size_bytes=BLOCK)
    assert fs.get_status(path).persistence_state in ("TO_BE_PERSISTED", "PERSISTED")
    eventually(lambda: fs.get_status(path).persistence_state == "PERSISTED", what="the file to be persisted")
    assert (local.store / path.lstrip("/")).read_bytes() == data
    assert fs.read_file(path) == data


def test_a_large_file_in_many_blocks(fs, folder):
    path, data = f"{folder}/large", pattern(300 << 20)
    fs.write_file(path, data, write_type=WriteType.CacheThrough)
    assert zlib.crc32(fs.read_file(path)) == zlib.crc32(data)
    for offset, length in [(0, 1), (64 << 20, 100), ((64 << 20) - 50, 100), (len(data) - 10, 10)]:
        assert fs.read_range(path, offset, length) == data[offset : offset + length]


@pytest.mark.parametrize("name", ["with space", "ünïcödé", "日本語", "a+b&c=d%20#?;'\"", "..dots..", "~tilde!@$^*()[]{}"])
@pytest.mark.parametrize("write_type", [WriteType.MustCache, WriteType.CacheThrough], ids=lambda kind: kind.as_str())
def test_names_are_kept_as_they_are(fs, folder, name, write_type):
    path = f"{folder}/{name}"
    fs.write_file(path, b"x", write_type=write_type)
    assert fs.get_status(path).path == path
    assert name in [entry.name for entry in fs.list_status(folder)]
    assert fs.read_file(path) == b"x"
    fs.rename(path, path + "-2")
    assert fs.exists(path + "-2") and not fs.exists(path)
    fs.delete(path + "-2")
    assert not fs.exists(path + "-2")


def test_reading_by_position_seeking_and_streaming(fs, folder):
    path, data = f"{folder}/seek", pattern(4 * BLOCK + 99)
    fs.write_file(path, data, write_type=WriteType.CacheThrough, block_size_bytes=BLOCK)
    reader = fs.open_file(path)
    assert reader.read(10) == data[:10]
    reader.seek(2 * BLOCK - 5)
    assert reader.read(10) == data[2 * BLOCK - 5 : 2 * BLOCK + 5]
    assert reader.read_at(BLOCK + 3, BLOCK) == data[BLOCK + 3 : 2 * BLOCK + 3]
    reader.close()
    for index in range(5):
        assert fs.positioned_read(path, block_index=index) == data[index * BLOCK : (index + 1) * BLOCK]
    for _ in range(12):
        assert fs.read_file(path) == data


def test_a_streaming_writer_and_its_cancel(fs, folder):
    path = f"{folder}/stream"
    with fs.create_file(path, write_type=WriteType.CacheThrough, block_size_bytes=BLOCK) as writer:
        for part in range(5):
            writer.write(pattern(BLOCK // 2, part))
    assert fs.read_file(path) == b"".join(pattern(BLOCK // 2, part) for part in range(5))
    cancelled = f"{folder}/cancelled"
    writer = fs.create_file(cancelled, write_type=WriteType.MustCache, block_size_bytes=BLOCK)
    writer.write(pattern(3 * BLOCK))
    writer.cancel()
    assert not fs.exists(cancelled)
    # This client drops the blocks and leaves the incomplete name, which can be removed at once.
    fs.delete(cancelled)
    failed = f"{folder}/failed"
    with pytest.raises(ValueError):
        with fs.create_file(failed, write_type=WriteType.CacheThrough) as writer:
            writer.write(b"half")
            raise ValueError("the job failed")
    assert not fs.exists(failed)


def test_errors_are_the_ones_clients_know(fs, folder):
    with pytest.raises(exceptions.NotFound):
        fs.get_status(f"{folder}/nothing")
    with pytest.raises(exceptions.NotFound):
        fs.read_file(f"{folder}/nothing")
    with pytest.raises(exceptions.GoosefsError):
        fs.get_status("")
    fs.write_file(f"{folder}/a", b"1", write_type=WriteType.MustCache)
    fs.write_file(f"{folder}/b", b"2", write_type=WriteType.MustCache)
    with pytest.raises(exceptions.AlreadyExists):
        fs.write_file(f"{folder}/a", b"1", write_type=WriteType.MustCache)
    with pytest.raises(exceptions.AlreadyExists):
        fs.rename(f"{folder}/a", f"{folder}/b")
    with pytest.raises(exceptions.NotFound):
        fs.rename(f"{folder}/nothing", f"{folder}/c")
    with pytest.raises(exceptions.NotFound):
        fs.rename(f"{folder}/a", f"{folder}/no/such/parent")
    with pytest.raises(exceptions.DirectoryNotEmpty):
        fs.delete(folder)
    with pytest.raises(exceptions.NotFound):
        fs.write_file(f"{folder}/no/such/parent", b"", recursive=False)
    assert not fs.exists(f"{folder}/no")
    with pytest.raises(exceptions.IsADirectory):
        fs.read_file(folder)


def test_directories(fs, folder):
    fs.mkdir(f"{folder}/x/y/z", recursive=True)
    fs.mkdir(f"{folder}/x/y/z", recursive=True)
    for index in range(50):
        fs.write_file(f"{folder}/x/y/f{index}", b"data", write_type=WriteType.MustCache)
    entries = fs.list_status(f"{folder}/x/y")
    assert sorted(entry.name for entry in entries) == sorted(["z"] + [f"f{index}" for index in range(50)])
    assert all(entry.creation_time_ms > 0 and entry.last_modification_time_ms > 0 for entry in entries)
    listed = {entry.path: entry for entry in entries}
    one = fs.get_status(f"{folder}/x/y/f7")
    assert listed[one.path].block_ids == one.block_ids
    fs.rename(f"{folder}/x", f"{folder}/moved")
    assert fs.read_file(f"{folder}/moved/y/f9") == b"data"
    assert len(fs.list_status(f"{folder}", recursive=True)) == 53
    fs.delete(f"{folder}/moved", recursive=True)
    assert fs.list_status(folder) == []


def test_rename_keeps_the_file_and_moves_the_object(fs, folder, local):
    fs.write_file(f"{folder}/from", b"content", write_type=WriteType.CacheThrough)
    before = fs.get_status(f"{folder}/from").file_id
    fs.rename(f"{folder}/from", f"{folder}/to")
    assert fs.get_status(f"{folder}/to").file_id == before
    assert fs.read_file(f"{folder}/to") == b"content"
    store = local.store / folder.lstrip("/")
    assert (store / "to").read_bytes() == b"content"
    assert not (store / "from").exists()


def test_of_two_renames_onto_one_name_one_wins(local, fs, folder):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for round_number in range(10):
            for index in range(8):
                fs.write_file(f"{folder}/{round_number}-{index}", str(index).encode(), write_type=WriteType.MustCache)

            def move(index):
                try:
                    fs.rename(f"{folder}/{round_number}-{index}", f"{folder}/{round_number}-target")
                    return True
                except exceptions.AlreadyExists:
                    return False

            assert sum(pool.map(move, range(8))) == 1


def test_removal_from_goosefs_only_leaves_the_store(fs, folder, local):
    path = f"{folder}/kept"
    fs.write_file(path, b"stays", write_type=WriteType.CacheThrough)
    fs.delete(path, goosefs_only=True)
    assert (local.store / path.lstrip("/")).read_bytes() == b"stays"
    assert fs.read_file(path) == b"stays", "ONCE finds it in the store again"
    fs.delete(path)
    assert not (local.store / path.lstrip("/")).exists()
    assert not fs.exists(path)


def test_a_removed_asynchronous_file_is_not_persisted(fs, folder, local):
    path = f"{folder}/gone"
    fs.write_file(path, b"", write_type=WriteType.AsyncThrough)
    fs.delete(path, goosefs_only=True)
    with pytest.raises(exceptions.NotFound):
        fs.get_status(path)


def test_files_that_appear_in_the_store_are_found(fs, folder, local):
    directory = local.store / folder.lstrip("/") / "outside"
    directory.mkdir(parents=True)
    (directory / "one").write_bytes(b"first")
    (directory / "two").write_bytes(b"second")
    assert fs.read_file(f"{folder}/outside/one") == b"first"
    assert sorted(entry.name for entry in fs.list_status(f"{folder}/outside")) == ["one", "two"]
    assert fs.get_status(f"{folder}/outside/two").length == 6


def test_thirty_two_clients_at_once(local, folder):
    def work(number):
        client = goosefs.Goosefs(config_for(local))
        data = pattern(BLOCK + number, number)
        path = f"{folder}/client-{number}"
        for kind in WRITE_TYPES:
            name = f"{path}-{kind.as_str()}"
            client.write_file(name, data, write_type=kind, block_size_bytes=BLOCK // 2)
            assert client.read_file(name) == data
        client.close()
        return True

    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        assert all(pool.map(work, range(32)))


def test_batches(fs, folder):
    paths = [f"{folder}/batch-{index}" for index in range(20)]
    for path in paths:
        fs.write_file(path, b"b", write_type=WriteType.MustCache)
    assert all(fs.batch_exists(paths))
    assert [status.path for status in fs.batch_get_status(paths)] == paths
    fs.batch_rename([name for path in paths for name in (path, path + "x")])
    fs.batch_delete([path + "x" for path in paths])
    assert not any(fs.batch_exists(paths))


def test_an_unknown_block_is_an_rpc_error(local):
    client = goosefs.WorkerClient.connect(f"127.0.0.1:{local.ports['worker']}", config_for(local))
    with pytest.raises(exceptions.RpcError):
        client.read_block_positioned(9_999_999_999_999_999, 0, 10)
    client.close()


def test_a_connected_client_outlives_a_kill(own_local):
    client = goosefs.Goosefs(config_for(own_local))
    client.write_file("/before", b"acknowledged", write_type=WriteType.CacheThrough)
    client.write_file("/cached", b"cached only", write_type=WriteType.MustCache)
    own_local.kill()
    own_local.start()
    assert client.read_file("/before") == b"acknowledged"
    assert client.read_file("/cached") == b"cached only"
    for index in range(12):
        client.write_file(f"/after-{index}", b"new", write_type=WriteType.CacheThrough)
        assert client.read_file(f"/after-{index}") == b"new"
    client.close()


def test_nosasl_clients_are_served(local):
    client = goosefs.Goosefs(config_for(local, **{"goosefs.security.authentication.type": "NOSASL"}))
    # A SIMPLE server answers UNAUTHENTICATED to metadata calls without a handshake.
    with pytest.raises(exceptions.GoosefsError):
        client.write_file("/nosasl", b"x")
    client.close()
