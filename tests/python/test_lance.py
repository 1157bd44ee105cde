"""Lance writes and reads a dataset through GooseFS with the client inside its published wheel."""

import os

import pytest

lance = pytest.importorskip("lance")
pa = pytest.importorskip("pyarrow")


def test_a_dataset_survives_append_and_delete(local, monkeypatch):
    monkeypatch.setenv("GOOSEFS_WRITE_TYPE", "CACHE_THROUGH")
    monkeypatch.setenv("GOOSEFS_USER_FILE_REPLICATION_DURABLE", "1")
    monkeypatch.setenv("GOOSEFS_USER_FILE_REPLICATION_DURABLE_MIN", "1")
    uri = f"goosefs://{local.address}/lance/dataset"
    table = pa.table({"id": list(range(1000)), "text": [f"row {n}" for n in range(1000)]})
    lance.write_dataset(table, uri)
    lance.write_dataset(table, uri, mode="append")
    dataset = lance.dataset(uri)
    assert dataset.count_rows() == 2000
    dataset.delete("id < 10")
    assert lance.dataset(uri).count_rows() == 1980
    assert lance.dataset(uri).to_table(columns=["id"])["id"].to_pylist()[-1] == 999
    assert os.path.isdir(local.store / "lance" / "dataset")
