"""Whoever encodes, the latents are the same: this process, or the workers of a Ray cluster."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest

from genie_lite import extraction
from genie_lite.data.ingest.cluster import Cluster
from genie_lite.data.ingest.workers import Workers
from genie_lite.data.shards.shards import ShardSet
from genie_lite.errors import UserError
from genie_lite.extraction import Wanted, extract_latents
from genie_lite.latents.extract import extract
from genie_lite.pretrained import pretrained
from tests import models
from tests.footage import write_shards

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's own, about its own settings


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Workers]:
    with Cluster(1, None):
        yield Workers("ray", 1)


@pytest.fixture
def shards(tmp_path: Path) -> ShardSet:
    folder = write_shards(tmp_path / "shards", ("train", "train", "test")).folder
    damaged = folder / "train-000001.tar"
    found = ShardSet.open(folder)
    data = bytearray(damaged.read_bytes())
    data[1500:3000] = bytes(1500)  # found when it is read: it is as long as it was
    damaged.write_bytes(data)
    return found


def test_an_address_without_a_cluster_is_one_line(tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "shards", ("train",))
    with pytest.raises(UserError, match=r"--address: no Ray cluster at 127\.0\.0\.1:1"):
        extract(
            models.lam().eval(),
            shards,
            tmp_path / "out",
            lam_sha="a",
            cluster=Workers("ray", 1, "127.0.0.1:1"),
        )


def test_the_engine_that_is_asked_for_reads_and_encodes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of shards, too, where no video is read."""
    asked, ray = [], Workers("ray", 1)
    monkeypatch.setattr(Workers, "together", lambda self: nullcontext())
    monkeypatch.setattr(extraction, "extract", lambda *_, cluster, **__: asked.append(cluster) or {})
    shards = write_shards(tmp_path / "shards", ("train",)).folder
    for workers in (ray, Workers(num=1)):
        with pytest.raises(KeyError, match="counts"):
            extract_latents(pretrained("coinrun"), Wanted(str(shards), tmp_path / "out", workers=workers))
    assert asked == [ray, None]


@pytest.mark.filterwarnings("ignore:.*cannot be read and are left out")
def test_a_cluster_writes_the_bytes_of_one_process(
    cluster: Workers, shards: ShardSet, tmp_path: Path
) -> None:
    lam, seen = models.lam().eval(), []
    whole = extract(lam, shards, tmp_path / "here", lam_sha="a", window_s=0.2)
    assert [entry["file"] for entry in whole["skipped"]] == ["train-000001.tar"]
    extract(
        lam,
        shards,
        tmp_path / "ray",
        lam_sha="a",
        window_s=0.2,
        cluster=cluster,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert content(tmp_path / "ray") == content(tmp_path / "here")
    whole_shards = [shard for shard in shards.shards if shard.file != "train-000001.tar"]
    assert seen[-1] == (
        sum(shard.samples for shard in whole_shards),
        sum(shard.samples for shard in shards.shards),
    )


def test_what_a_worker_cannot_fetch_is_one_line(cluster: Workers, tmp_path: Path) -> None:
    shards = write_shards(tmp_path / "shards", ("train",))
    for path in shards.folder.glob("*.tar"):
        path.unlink()
    with pytest.raises(UserError, match="none of 1 shards can be read"):
        extract(models.lam().eval(), shards, tmp_path / "out", lam_sha="a", cluster=cluster)
