"""The table of latent actions: what a stranger reads in its files, and that nothing changes on the way."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from genie_lite.errors import UserError
from genie_lite.latents.table import (
    STAMP_KEY,
    Latents,
    concatenate,
    encode_part,
    holds,
    read_latents,
    read_manifest,
    read_part,
    read_stamp,
    write_part,
)

KNOWN = np.array([True, False, True, True])
CHOICES = np.array([2, -1, 0, 1])
VECTORS = np.where(KNOWN[:, None], np.arange(8, dtype=np.float32).reshape(4, 2), np.nan).astype(np.float32)


def latents(action: np.ndarray | None = None) -> Latents:
    """Two shots of two frames; codes of three tokens."""
    valid = np.array([True, False, True, False])
    nan = np.where(valid, 1.0, np.nan).astype(np.float32)
    return Latents(
        source=np.repeat(["a.mp4", "ü/b.mp4"], 2),
        key=np.repeat(["a-0", "b-0"], 2),
        split=np.repeat(["train", "test"], 2),
        frame_index=np.array([0, 3, 7, 10]),
        timestamp_s=np.array([0.0, 0.1, 0.7 / 3, 1 / 3]),
        horizon_frames=np.where(valid, 3, 0).astype(np.int32),
        dt_s=0.1 * nan,
        code=np.where(valid, 5, -1).astype(np.int32),
        tokens=np.where(valid[:, None], [[1, 0, 1]], -1).astype(np.int32),
        embedding=np.arange(8, dtype=np.float32).reshape(4, 2) * nan[:, None],
        recon_psnr_db=20 * nan,
        copy_psnr_db=10 * nan,
        valid=valid,
        action=action,
    )


def assert_same(one: Latents, other: Latents) -> None:
    for field in fields(Latents):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if mine is None:
            assert theirs is None, field.name
            continue
        np.testing.assert_array_equal(mine, theirs, err_msg=field.name)
        assert mine.dtype.kind == theirs.dtype.kind, field.name


@pytest.mark.parametrize("action", [None, CHOICES, VECTORS], ids=["without", "choices", "vectors"])
def test_what_is_written_is_read_again(action: np.ndarray | None, tmp_path: Path) -> None:
    rows = latents(action)
    write_part(tmp_path / "part.parquet", rows, {"lam": "a"})
    assert_same(read_part(tmp_path / "part.parquet"), rows)
    assert read_stamp(tmp_path / "part.parquet") == {"lam": "a"}


@pytest.mark.parametrize("action", [None, CHOICES, VECTORS], ids=["without", "choices", "vectors"])
def test_the_same_rows_are_the_same_bytes(action: np.ndarray | None) -> None:
    rows = latents(action)
    again = concatenate([rows.select(np.arange(2)), rows.select(np.arange(4) >= 2)])
    assert encode_part(again, {}) == encode_part(rows, {})


def test_columns_have_the_types_that_others_rely_on(tmp_path: Path) -> None:
    write_part(tmp_path / "part.parquet", latents(CHOICES), {})
    schema = pq.read_schema(tmp_path / "part.parquet")
    assert {name: str(schema.field(name).type) for name in schema.names} == {
        "source": "string",
        "key": "string",
        "split": "string",
        "frame_index": "int64",
        "timestamp_s": "double",
        "horizon_frames": "int32",
        "dt_s": "float",
        "code": "int32",
        "tokens": "fixed_size_list<element: int32>[3]",
        "embedding": "fixed_size_list<element: float>[2]",
        "recon_psnr_db": "float",
        "copy_psnr_db": "float",
        "valid": "bool",
        "action": "int64",
    }
    write_part(tmp_path / "part.parquet", latents(VECTORS), {})
    assert str(pq.read_schema(tmp_path / "part.parquet").field("action").type) == (
        "fixed_size_list<element: float>[2]"
    )


def test_a_stranger_reads_it_as_any_parquet_file(tmp_path: Path) -> None:
    """Nothing of ours: what a trainer of somebody else's would do."""
    write_part(tmp_path / "part.parquet", latents(VECTORS), {})
    rows = pq.read_table(tmp_path / "part.parquet").to_pylist()
    assert [row["source"] for row in rows] == ["a.mp4", "a.mp4", "ü/b.mp4", "ü/b.mp4"]
    used = {(row["source"], row["frame_index"]): row for row in rows if row["valid"]}
    assert list(used) == [("a.mp4", 0), ("ü/b.mp4", 7)]
    row = used["ü/b.mp4", 7]
    assert (row["code"], row["tokens"], row["embedding"], row["action"]) == (5, [1, 0, 1], [4, 5], [4, 5])
    assert (row["horizon_frames"], row["split"]) == (3, "test")
    for end in (rows[1], rows[3]):
        assert (end["code"], end["tokens"], end["horizon_frames"]) == (-1, [-1, -1, -1], 0)
        assert np.isnan([end["recon_psnr_db"], end["copy_psnr_db"], end["dt_s"], *end["embedding"]]).all()
    assert [row["action"] for row in rows] == [[0, 1], None, [4, 5], [6, 7]]


def test_an_action_that_is_not_known_is_null(tmp_path: Path) -> None:
    write_part(tmp_path / "part.parquet", latents(CHOICES), {})
    assert pq.read_table(tmp_path / "part.parquet")["action"].to_pylist() == [2, None, 0, 1]
    for action in (CHOICES, VECTORS):
        assert latents(action).has_action.tolist() == KNOWN.tolist()
    assert not latents().has_action.any()


def test_rows_are_chosen_in_every_column() -> None:
    rows = latents(VECTORS).select(np.array([3, 0]))
    assert rows.code.tolist() == [-1, 5]
    assert rows.tokens.tolist() == [[-1, -1, -1], [1, 0, 1]]
    assert rows.action is not None
    assert rows.action.tolist() == [[6, 7], [0, 1]]
    assert latents().select(np.array([0])).action is None


def test_a_part_without_a_column_is_told(tmp_path: Path) -> None:
    path = tmp_path / "part.parquet"
    write_part(path, latents(), {})
    pq.write_table(pq.read_table(path).drop_columns(["tokens"]), path)
    with pytest.raises(UserError, match=r"part\.parquet: not a part of extracted latents: .*tokens"):
        read_part(path)
    assert read_stamp(path) is not None
    path.write_bytes(b"PAR1")
    with pytest.raises(UserError, match="not a part of extracted latents"):
        read_part(path)
    assert read_stamp(path) is None


@pytest.mark.parametrize("action", [None, CHOICES, VECTORS], ids=["without", "choices", "vectors"])
def test_a_part_holds_what_was_written_until_any_value_of_it_is_another(
    action: np.ndarray | None, tmp_path: Path
) -> None:
    path, stamp = tmp_path / "shard=7" / "part.parquet", {"lam": "a"}
    assert not holds(path, stamp), "nothing there"
    write_part(path, latents(action), stamp)
    assert holds(path, stamp)
    assert not holds(path, {"lam": "b"})
    table = pq.ParquetFile(path).read()
    pq.write_table(table, path, compression="zstd", use_dictionary=False)
    assert holds(path, stamp), "the same rows in another file"
    for number, name in enumerate(table.column_names):
        column = table[name].take([2, 1, 0, 3])
        pq.write_table(table.set_column(number, name, column), path)
        assert read_stamp(path) == stamp
        is_same = column.to_pylist()[:3:2] == table[name].to_pylist()[:3:2]
        assert holds(path, stamp) == is_same, name
    pq.write_table(table.replace_schema_metadata({STAMP_KEY: table.schema.metadata[STAMP_KEY]}), path)
    assert read_stamp(path) == stamp
    assert not holds(path, stamp), "nobody knows what was written"


def test_latents_of_the_first_format_are_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"format": 1}')
    for read in (read_manifest, read_latents):
        with pytest.raises(
            UserError, match="format 1, this version reads 2; delete it and run extract again"
        ):
            read(tmp_path)


def test_parts_with_and_without_actions_do_not_mix() -> None:
    with pytest.raises(AssertionError, match="different extractions"):
        concatenate([latents(), replace(latents(), action=CHOICES)])
