"""Whatever happens to the bytes of a shard, it is found, and nothing but a fault is raised."""

import io
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genie_lite.data.shards.index import fingerprint_of, parse_index
from genie_lite.data.shards.shards import ShardDamage, ShardSet
from genie_lite.data.shards.tar import Fault, read_records
from genie_lite.data.shards.verify import verify
from genie_lite.errors import UserError
from tests.shard_folders import write_folder

Change = Callable[[bytes], bytes]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return write_folder(tmp_path_factory.mktemp("damage") / "shards")


def flipped(share: float, mask: int) -> Change:
    def change(data: bytes) -> bytes:
        place = int(share * len(data))
        return data[:place] + bytes([data[place] ^ mask]) + data[place + 1 :]

    return change


def shortened(share: float) -> Change:
    return lambda data: data[: int(share * len(data))]


SHARES = st.floats(0, 1, exclude_max=True)
TRUNCATIONS = st.builds(shortened, SHARES)
CHANGES = st.builds(flipped, SHARES, st.integers(1, 255)) | TRUNCATIONS


class Damaged:
    """One of the shards is changed for as long as the block lasts."""

    def __init__(self, shards: ShardSet, number: int, change: Change) -> None:
        self.shard = shards.shards[number]
        self._path, self._change = shards.folder / self.shard.file, change

    def __enter__(self) -> "Damaged":
        self._before = self._path.read_bytes()
        self._path.write_bytes(self._change(self._before))
        return self

    def __exit__(self, *_: object) -> None:
        self._path.write_bytes(self._before)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2), CHANGES)
def test_any_flipped_byte_and_any_truncation_is_found_at_opening(
    whole: ShardSet, number: int, change: Change
) -> None:
    with Damaged(whole, number, change) as damaged:
        with pytest.warns(UserWarning, match=damaged.shard.file):
            shards = ShardSet.open(whole.folder)
        assert [file for file, _ in shards.skipped] == [damaged.shard.file]
        assert shards.fingerprint != whole.fingerprint
        with pytest.raises(UserError, match=damaged.shard.file):
            ShardSet.open(whole.folder, strict=True)
    assert ShardSet.open(whole.folder) == whole


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2), CHANGES)
def test_any_flipped_byte_and_any_truncation_is_found_by_verify(
    whole: ShardSet, number: int, change: Change
) -> None:
    with Damaged(whole, number, change) as damaged:
        found = verify(whole.folder, deep=True)
        assert [shard.file for shard in found.damaged] == [damaged.shard.file]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2), TRUNCATIONS)
def test_any_truncation_is_found_when_reading(whole: ShardSet, number: int, change: Change) -> None:
    with Damaged(whole, number, change) as damaged, pytest.raises(ShardDamage, match=damaged.shard.file):
        whole.read(damaged.shard)


@settings(max_examples=200, deadline=None)
@given(st.lists(CHANGES, min_size=1, max_size=6))
def test_reading_anything_gives_the_samples_or_a_fault(whole: ShardSet, changes: list[Change]) -> None:
    shard = whole.shards[0]
    data = (whole.folder / shard.file).read_bytes()
    for change in changes:
        data = change(data) or b"\0"
    with suppress(Fault):
        found = list(read_records(io.BufferedReader(io.BytesIO(data)), whole.members, shard.lengths))
        assert tuple(record.meta["num_frames"] for record in found) == shard.lengths


@settings(max_examples=200, deadline=None)
@given(st.lists(CHANGES, min_size=1, max_size=3))
def test_an_index_of_any_bytes_is_an_index_or_a_mistake(whole: ShardSet, changes: list[Change]) -> None:
    text = (whole.folder / "shards.json").read_bytes()
    for change in changes:
        text = change(text) or b"{"
    with suppress(UserError):
        index = parse_index(text, "shards.json")
        assert fingerprint_of(index.shards) == whole.fingerprint
