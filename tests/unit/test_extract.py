"""Extraction: every frame once, aligned, marked at the ends, resumable, and readable by anybody."""

import math
import os
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from genie_lite import __version__
from genie_lite.data.labels import Labels
from genie_lite.data.shards.index import index_of
from genie_lite.data.shards.shards import ShardSet, ShardWriter
from genie_lite.data.video.codec import encode_mp4
from genie_lite.errors import UserError
from genie_lite.files import write_bytes, write_json
from genie_lite.latents import pool
from genie_lite.latents.extract import extract
from genie_lite.latents.formats.registry import write
from genie_lite.latents.manifest import described
from genie_lite.latents.part import Task
from genie_lite.latents.table import read_latents, read_manifest, read_stamp
from genie_lite.metrics import psnr_db
from genie_lite.models.lam import LatentActionModel
from genie_lite.nn.quantize import CodeConfig, FSQConfig, ResidualVQConfig, VAEConfig, VQConfig
from tests import models
from tests.footage import write_shards

PARTS = ["test-000002.parquet", "train-000000.parquet", "train-000001.parquet"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shards(tmp_path_factory.mktemp("made") / "shards", ("train", "train", "test")).folder


@pytest.fixture
def shards(made: Path, tmp_path: Path) -> ShardSet:
    return ShardSet.open(shutil.copytree(made, tmp_path / "shards"))


@pytest.fixture
def lam() -> LatentActionModel:
    return models.lam().eval()


def with_code(code: CodeConfig) -> LatentActionModel:
    torch.manual_seed(0)
    return LatentActionModel(models.lam().config.model_copy(update={"code": code})).eval()


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# --- rows ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("horizon", [1, 3, 8])
def test_every_frame_has_one_row_and_those_without_a_future_are_not_valid(
    horizon: int, shards: ShardSet, lam: LatentActionModel, tmp_path: Path
) -> None:
    extract(lam, shards, tmp_path / "out", lam_sha="a", window_s=horizon / 10)
    rows = read_latents(tmp_path / "out")
    samples = [sample for split in ("train", "test") for sample in shards.samples(split)]
    pairs = set(zip(rows.source.tolist(), rows.frame_index.tolist(), strict=True))
    wanted = {(sample.meta["source"], index) for sample in samples for index in sample.meta["source_frames"]}
    assert pairs == wanted
    assert len(rows) == len(wanted)
    for sample in samples:
        own = rows.select(rows.key == sample.key)
        num = max(0, len(own) - horizon)
        assert own.valid.tolist() == [True] * num + [False] * (len(own) - num)
        assert set(own.split) == {sample.meta["split"]}


def test_rows_without_a_future_are_marked_not_clamped(
    shards: ShardSet, lam: LatentActionModel, tmp_path: Path
) -> None:
    extract(lam, shards, tmp_path / "out", lam_sha="a", window_s=0.2)
    rows = read_latents(tmp_path / "out")
    ends, others = rows.select(~rows.valid), rows.select(rows.valid)
    assert len(ends) == 2 * 6
    assert (ends.code == -1).all()
    assert (ends.tokens == -1).all()
    assert (ends.horizon_frames == 0).all()
    for column in (ends.embedding, ends.recon_psnr_db, ends.copy_psnr_db, ends.dt_s):
        assert np.isnan(column).all()
    assert (others.code >= 0).all()
    assert np.isfinite(others.embedding).all()
    np.testing.assert_allclose(others.dt_s, 0.2, rtol=1e-6)
    assert (others.horizon_frames == 6).all()
    np.testing.assert_allclose(others.timestamp_s, others.frame_index / 30)


def test_row_k_describes_frame_k_to_the_frame_a_window_later(
    shards: ShardSet, lam: LatentActionModel, tmp_path: Path
) -> None:
    extract(lam, shards, tmp_path / "out", lam_sha="a", window_s=0.2)
    rows = read_latents(tmp_path / "out")
    sample = next(iter(shards.samples("test")))
    own = rows.select(rows.key == sample.key)
    clip = torch.from_numpy(sample.frames()).permute(0, 3, 1, 2)[None].float() / 255
    for comb in (0, 1):
        with torch.no_grad():
            result = lam(clip[:, comb::2])
        mine = own.select(np.arange(comb, len(own), 2))
        assert mine.code[mine.valid].tolist() == result.code.index[0].tolist()
        assert mine.tokens[mine.valid].tolist() == result.code.tokens[0].tolist()
        np.testing.assert_allclose(mine.embedding[mine.valid], result.code.embedding[0], atol=1e-5)
    copied = psnr_db(clip[0, 2:3], clip[0, 4:5])
    assert own.copy_psnr_db[2] == pytest.approx(float(copied), abs=1e-3)


def test_rows_of_every_frame_are_those_of_every_step_at_the_same_window(
    shards: ShardSet, lam: LatentActionModel, tmp_path: Path
) -> None:
    with pytest.warns(UserWarning, match="1 of its frames are 3 of a video; .* the video's own rate"):
        frame = extract(lam, shards, tmp_path / "frame", lam_sha="a", every="frame", window_s=0.1)
    step = extract(lam, shards, tmp_path / "step", lam_sha="a")
    assert (frame["every"], step["every"]) == ("frame", "step")
    assert frame | {"every": "step"} == step
    for name in PARTS:
        assert (tmp_path / "frame" / name).read_bytes() == (tmp_path / "step" / name).read_bytes()


def test_no_row_is_valid_where_shots_are_shorter_than_the_window(
    shards: ShardSet, lam: LatentActionModel, tmp_path: Path
) -> None:
    with pytest.warns(UserWarning, match="no shot is longer than the window of 20 frames"):
        manifest = extract(lam, shards, tmp_path / "out", lam_sha="a", window_s=2.0)
    assert manifest["counts"]["rows"] == manifest["counts"]["invalid"] == 3 * 16
    assert manifest["quality"]["recon_psnr_db"] is None
    assert read_latents(tmp_path / "out").embedding.shape == (3 * 16, 4)


# --- labels ----------------------------------------------------------------------------------------------------


def test_the_action_of_row_k_is_the_label_of_frame_k(
    shards: ShardSet, lam: LatentActionModel, tmp_path: Path
) -> None:
    source = np.array(["train-0-1.mp4"] * 3 + ["else.mp4"])
    labels = Labels(source, np.array([18, 0, 3, 0]), np.array([2, 0, 1, 1]), "discrete", ("l", "s", "r"))
    manifest = extract(lam, shards, tmp_path / "out", lam_sha="a", labels=labels)
    rows = read_latents(tmp_path / "out")
    assert rows.action is not None
    own = rows.select(rows.source == "train-0-1.mp4")
    assert own.frame_index.tolist() == [0, 3, 6, 9, 12, 15, 18]
    assert own.action is not None
    assert own.action.tolist() == [0, 1, -1, -1, -1, -1, 2], "the last frame's too"
    assert rows.has_action.sum() == manifest["counts"]["labelled"] == 3
    assert manifest["actions"]["kind"] == "discrete"
    assert manifest["actions"]["names"] == ["l", "s", "r"]


def test_labels_that_are_vectors_stay_vectors(
    shards: ShardSet, lam: LatentActionModel, tmp_path: Path
) -> None:
    labels = Labels(
        np.array(["test-2-0.mp4"]),
        np.array([3]),
        np.array([[0.5, -1.0]], np.float32),
        "continuous",
        ("x", "y"),
    )
    extract(lam, shards, tmp_path / "out", lam_sha="a", labels=labels)
    rows = read_latents(tmp_path / "out")
    assert rows.action is not None
    assert rows.action.shape == (3 * 16, 2)
    assert rows.action[rows.has_action].tolist() == [[0.5, -1.0]]
    assert rows.select(rows.has_action).frame_index.tolist() == [3]


def test_other_labels_are_written_and_labels_of_other_videos_are_told(
    shards: ShardSet, lam: LatentActionModel, tmp_path: Path
) -> None:
    def labelled(source: str, action: int) -> Labels:
        return Labels(np.array([source]), np.array([3]), np.array([action]), "discrete", ("l", "r"))

    out = tmp_path / "out"
    assert extract(lam, shards, out, lam_sha="a")["actions"] is None
    for action in (0, 1):
        extract(lam, shards, out, lam_sha="a", labels=labelled("test-2-0.mp4", action))
        rows = read_latents(out)
        assert rows.action is not None
        assert rows.action[rows.has_action].tolist() == [action]
    with pytest.warns(UserWarning, match=r"none of 48 frames has a label\. Label source 'there/a\.mp4'"):
        extract(lam, shards, out, lam_sha="a", labels=labelled("there/a.mp4", 0))


# --- manifest --------------------------------------------------------------------------------------------------


def test_manifest_says_what_was_done(shards: ShardSet, lam: LatentActionModel, tmp_path: Path) -> None:
    manifest = extract(lam, shards, tmp_path / "out", lam_sha="a", window_s=0.3)
    assert manifest == read_manifest(tmp_path / "out")
    rows = read_latents(tmp_path / "out")
    used = rows.select(rows.valid)
    assert manifest["window"] == {"frames": 3, "native_frames": 9, "s": pytest.approx(0.3)}
    assert manifest["rate_hz"] == 10.0
    counts = {name: value for name, value in manifest["counts"].items() if name != "by_code"}
    assert counts == {
        "rows": 48,
        "transitions": 48 - 6 * 3,
        "invalid": 6 * 3,
        "uneven": 0,
        "labelled": 0,
        "shots": 6,
        "sources": 6,
        "skipped_shards": 0,
    }
    assert manifest["counts"]["by_code"] == np.bincount(used.code, minlength=4).tolist()
    assert manifest["lam"]["sha256"] == "a"
    assert manifest["lam"]["config"]["frame_hw"] == [16, 16]
    assert manifest["shards"]["fingerprint"] == shards.fingerprint
    assert (manifest["num_codes"], manifest["num_tokens"], manifest["embedding_width"]) == (4, 1, 4)
    assert np.asarray(manifest["code_centres"]).shape == (lam.num_codes, lam.code_dim)
    assert manifest["skipped"] == []
    assert [part["file"] for part in manifest["parts"]] == [*PARTS[1:], PARTS[0]]
    assert [part["transitions"] for part in manifest["parts"]] == [10, 10, 10]


def test_quality_is_that_of_the_valid_rows(shards: ShardSet, lam: LatentActionModel, tmp_path: Path) -> None:
    quality = extract(lam, shards, tmp_path / "out", lam_sha="a")["quality"]
    rows = read_latents(tmp_path / "out")
    used = rows.select(rows.valid)
    share = np.bincount(used.code) / len(used)
    share = share[share > 0]
    assert quality["recon_psnr_db"] == pytest.approx(float(used.recon_psnr_db.mean()), rel=1e-5)
    assert quality["copy_psnr_db"] == pytest.approx(float(used.copy_psnr_db.mean()), rel=1e-5)
    assert quality["closer_than_copy"] == (used.recon_psnr_db > used.copy_psnr_db).mean()
    assert quality["still"] == (used.copy_psnr_db >= 50).mean()
    assert quality["codes_used"] == len(np.unique(used.code))
    assert quality["perplexity"] == pytest.approx(np.exp(-(share * np.log(share)).sum()))
    assert quality["tokens"] == [{name: quality[name] for name in ("codes_used", "perplexity")}]
    assert quality["active_units"] is None, "codes are choices"


def test_codes_of_several_tokens_are_surveyed_token_by_token(shards: ShardSet, tmp_path: Path) -> None:
    code = VQConfig(num_codes=3, dim=2, tokens=2, restart_below=1.0)
    manifest = extract(with_code(code), shards, tmp_path / "out", lam_sha="a")
    rows = read_latents(tmp_path / "out")
    used = rows.select(rows.valid)
    assert rows.tokens.shape == (48, 2)
    assert (rows.tokens[~rows.valid] == -1).all()
    assert used.code.tolist() == (3 * used.tokens[:, 0] + used.tokens[:, 1]).tolist()
    assert (manifest["num_codes"], manifest["num_tokens"], manifest["codes_per_token"]) == (9, 2, 3)
    for column, told in zip(used.tokens.T, manifest["quality"]["tokens"], strict=True):
        assert told["codes_used"] == len(np.unique(column))


@pytest.mark.parametrize(
    "code",
    [
        VQConfig(num_codes=64, dim=2, tokens=8, restart_below=1.0),  # LAPO's
        ResidualVQConfig(num_codes=128, dim=4, depth=8),  # as many as Moto's
        FSQConfig(levels=(8, 8, 8, 5, 5, 5, 5)),
    ],
    ids=lambda code: code.kind,
)
def test_codes_of_an_alphabet_that_nobody_could_list_are_extracted(
    code: CodeConfig, shards: ShardSet, tmp_path: Path
) -> None:
    lam, out = with_code(code), tmp_path / "out"
    manifest = extract(lam, shards, out, lam_sha="a")
    rows = read_latents(out)
    used = rows.select(rows.valid)
    assert manifest["num_codes"] == math.prod(code.sizes) > 2**16
    wide = manifest["num_codes"] > 2**31
    assert rows.code.dtype == (np.int64 if wide else np.int32)
    assert pq.read_schema(out / PARTS[0]).field("code").type == (pa.int64() if wide else pa.int32())
    again = lam.quantizer.index_of(torch.from_numpy(used.tokens).long())
    assert used.code.tolist() == again.tolist()
    assert int(used.code.max()) > 2**15
    assert (rows.code[~rows.valid] == -1).all()
    assert manifest["counts"]["by_code"] is None
    assert manifest["code_centres"] is None
    assert manifest["quality"]["codes_used"] == len(np.unique(used.code))
    assert len(manifest["quality"]["tokens"]) == len(code.sizes)
    assert extract(lam, shards, out, lam_sha="a") == manifest, "nothing is made again"
    for name in ("lapa", "webdataset", "lerobot-v3"):
        write(name, out, shards, tmp_path / name)


def test_units_of_a_continuous_code_that_vary_are_counted(shards: ShardSet, tmp_path: Path) -> None:
    lam = with_code(VAEConfig(dim=3, menu=4))
    with torch.no_grad():
        lam.quantizer.project.weight *= 100.0
        lam.quantizer.project.weight[1] = 0.0
    manifest = extract(lam, shards, tmp_path / "out", lam_sha="a")
    rows = read_latents(tmp_path / "out")
    assert manifest["quality"]["active_units"] == 2
    assert (rows.embedding[rows.valid].var(axis=0) > 0.01).tolist() == [True, False, True]
    assert np.asarray(manifest["code_centres"]).shape == (4, 3), "the menu"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "no valid JSON"),
        ("7", "expected an object, found int"),
        ('{"format": 0}', "format 0"),
        ('{"format": 2}', "lam: missing"),
        ('{"format": "lapa", "complete": true, "job": {}}', "format lapa"),
        ('{"format": true, "lam": {}, "shards": {}, "parts": []}', "format True"),
    ],
)
def test_a_manifest_of_something_else_is_told_in_one_line_and_stays(
    text: str, said: str, shards: ShardSet, lam: LatentActionModel, tmp_path: Path
) -> None:
    out, path = tmp_path / "out", tmp_path / "out/manifest.json"
    write_bytes(path, text.encode())
    write_bytes(out / ".train-000000.parquet.1a2b3c4d.tmp", b"whose?")
    with pytest.raises(UserError, match=said) as error:
        read_manifest(out)
    assert str(error.value).startswith(str(path))
    assert "delete it and run extract again" in str(error.value)
    before = content(out)
    with pytest.raises(UserError, match="holds something else than a manifest of latents") as error:
        extract(lam, shards, out, lam_sha="a")
    assert str(error.value).startswith(str(path))
    assert content(out) == before


def test_the_manifest_of_a_newer_version_stays(
    shards: ShardSet, lam: LatentActionModel, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    write_json(out / "manifest.json", extract(lam, shards, out, lam_sha="a") | {"format": 3})
    before = content(out)
    with pytest.raises(UserError, match="format 3, this version writes 2; choose another folder"):
        extract(lam, shards, out, lam_sha="a")
    assert content(out) == before


@pytest.mark.parametrize(
    "damage",
    [
        {"format": 1},
        {"parts": [3]},
        {"parts": [{"file": 3}]},
        {"parts": [{"file": "train-000000.parquet"}]},
        {"actions": {"kind": "discrete"}, "window": {}},
        {"window": 3},
        {"lam": {}},
    ],
)
def test_an_old_or_damaged_manifest_of_ours_is_made_again_from_its_parts(
    damage: dict[str, object],
    shards: ShardSet,
    lam: LatentActionModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    whole = extract(lam, shards, out, lam_sha="a")
    write_json(out / "manifest.json", whole | damage)
    monkeypatch.delattr(Task, "_describe")  # nothing is encoded again
    assert extract(lam, shards, out, lam_sha="a") == whole


def test_a_manifest_whose_parts_are_none_is_told_when_it_is_read(
    shards: ShardSet, lam: LatentActionModel, tmp_path: Path
) -> None:
    whole = extract(lam, shards, tmp_path, lam_sha="a")
    for entries in ([3], [{}], [{"file": None}]):
        for name in ("parts", "skipped"):
            write_json(tmp_path / "manifest.json", whole | {name: entries})
            with pytest.raises(UserError, match=rf"not a manifest of latents, {name}: found .*delete it and"):
                read_latents(tmp_path)


def test_the_version_is_noted_and_of_another_version_nothing_is_made_again(
    shards: ShardSet, lam: LatentActionModel, tmp_path: Path
) -> None:
    whole = extract(lam, shards, tmp_path, lam_sha="a")
    assert whole["genie_lite"] == __version__
    for other in (whole | {"genie_lite": "0.0.1"}, {k: v for k, v in whole.items() if k != "genie_lite"}):
        write_json(tmp_path / "manifest.json", other)
        assert extract(lam, shards, tmp_path, lam_sha="a") == other


# --- resuming --------------------------------------------------------------------------------------------------


def test_a_broken_extraction_goes_on_where_it_stopped(
    shards: ShardSet, lam: LatentActionModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    extract(lam, shards, whole, lam_sha="a")
    described = []
    describe = Task._describe

    def count_and_fail(*args: object) -> object:
        described.append(1)
        if len(described) == 3:
            raise KeyboardInterrupt
        return describe(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(Task, "_describe", count_and_fail)
    with pytest.raises(KeyboardInterrupt):
        extract(lam, shards, broken, lam_sha="a")
    assert [path.name for path in broken.iterdir()] == ["train-000000.parquet"]
    with pytest.raises(UserError, match=r"manifest\.json is missing"):
        read_latents(broken)
    seen: list[tuple[int, int]] = []
    extract(lam, shards, broken, lam_sha="a", progress=lambda done, total: seen.append((done, total)))
    assert len(described) == 7, "2 before it broke, 1 that broke, 4 afterwards: nothing twice"
    assert seen == [(2, 6), (3, 6), (4, 6), (5, 6), (6, 6)]
    assert content(broken) == content(whole)
    extract(lam, shards, broken, lam_sha="a")
    assert len(described) == 7, "finished work is not done again"


def test_what_was_made_from_something_else_is_extracted_again(
    shards: ShardSet, lam: LatentActionModel, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    first = extract(lam, shards, out, lam_sha="a")
    (out / "train-000000.parquet").write_bytes(b"damaged")
    assert extract(lam, shards, out, lam_sha="a") == first
    other = models.lam(seed=1).eval()
    second = extract(other, shards, out, lam_sha="b")
    assert second["lam"]["sha256"] == "b"
    assert second["parts"][0]["sha256"] != first["parts"][0]["sha256"]
    third = extract(other, shards, out, lam_sha="b", window_s=0.2)
    assert third["window"]["frames"] == 2
    assert third["parts"][0]["sha256"] != second["parts"][0]["sha256"]


@pytest.mark.parametrize("has_manifest", [True, False])
def test_a_part_that_was_altered_is_made_again(
    has_manifest: bool, shards: ShardSet, lam: LatentActionModel, tmp_path: Path
) -> None:
    """Its stamp still says that it was made from the same."""
    whole, out, path = tmp_path / "whole", tmp_path / "out", tmp_path / "out/train-000000.parquet"
    extract(lam, shards, whole, lam_sha="a")
    for column in ("code", "embedding", "frame_index"):
        shutil.copytree(whole, out, dirs_exist_ok=True)
        table = pq.read_table(path)
        values = table[column].to_pylist()
        values[0] = [9.0] * len(values[0]) if column == "embedding" else values[0] + 1
        altered = pa.array(values, table.schema.field(column).type)
        pq.write_table(table.set_column(table.schema.get_field_index(column), column, altered), path)
        assert read_stamp(path) == read_stamp(whole / path.name)
        if not has_manifest:
            (out / "manifest.json").unlink()
        extract(lam, shards, out, lam_sha="a")
        assert content(out) == content(whole), column


def test_what_a_killed_extraction_left_is_removed_and_what_is_not_ours_stays(
    shards: ShardSet, lam: LatentActionModel, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    extract(lam, shards, out, lam_sha="a")
    (out / ".train-000001.parquet.1a2b3c4d.tmp").write_bytes(b"half")
    (out / ".manifest.json.1a2b3c4d.tmp").write_bytes(b"half")
    theirs = (".cache.tmp", ".notes.1a2b3c4d.tmp", ".train-000001.parquet.1a2b.tmp", "labels.parquet")
    for name in theirs:
        (out / name).write_bytes(b"a user's")
    extract(lam, write_shards(tmp_path / "others", ("train",)), out, lam_sha="a")
    assert {path.name for path in out.iterdir()} == {*theirs, "manifest.json", "train-000000.parquet"}
    assert set(read_latents(out).split) == {"train"}


def test_two_do_not_write_to_one_folder(shards: ShardSet, lam: LatentActionModel, tmp_path: Path) -> None:
    out, told = tmp_path / "out", []

    def meanwhile(done: int, total: int) -> None:
        with pytest.raises(UserError, match="another extraction is writing here") as error:
            extract(lam, shards, out, lam_sha="b")
        told.append(str(error.value))

    extract(lam, shards, out, lam_sha="a", progress=meanwhile)
    assert len(told) == 6
    assert read_manifest(out)["lam"]["sha256"] == "a"


# --- mistakes and damage -----------------------------------------------------------------------------------------


def test_a_model_for_other_frames_is_refused(shards: ShardSet, tmp_path: Path) -> None:
    other = LatentActionModel(models.lam().config.model_copy(update={"frame_hw": (32, 32)}))
    with pytest.raises(UserError, match="frames of 16x16 pixels, the latent action model reads 32x32"):
        extract(other.eval(), shards, tmp_path / "out", lam_sha="a")


def test_a_folder_that_is_a_file_and_no_workers_are_refused(
    shards: ShardSet, lam: LatentActionModel, tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(UserError, match="out: cannot be written to"):
        extract(lam, shards, tmp_path / "out", lam_sha="a")
    with pytest.raises(UserError, match="workers: found 0, expected at least 1"):
        extract(lam, shards, tmp_path / "out", lam_sha="a", workers=0)


def test_a_shard_that_cannot_be_read_is_told_and_does_not_end_the_rest(
    shards: ShardSet, lam: LatentActionModel, tmp_path: Path
) -> None:
    out, path = tmp_path / "out", shards.folder / "train-000001.tar"
    whole = extract(lam, shards, tmp_path / "whole", lam_sha="a")
    good = path.read_bytes()
    path.write_bytes(good[:-512])
    with pytest.warns(UserWarning, match=r"1 of 3 shards cannot be read .*train-000001\.tar: "):
        manifest = extract(lam, shards, out, lam_sha="a")
    assert [skipped["file"] for skipped in manifest["skipped"]] == ["train-000001.tar"]
    assert manifest["counts"]["skipped_shards"] == 1
    assert manifest["counts"]["rows"] == len(read_latents(out)) == 2 * 16
    path.write_bytes(good)
    assert extract(lam, shards, out, lam_sha="a") == whole
    assert content(out) == content(tmp_path / "whole")


def test_what_is_left_of_a_shard_that_is_damaged_now_does_not_stay(
    shards: ShardSet, lam: LatentActionModel, tmp_path: Path
) -> None:
    out, path = tmp_path / "out", shards.folder / "train-000001.tar"
    extract(lam, shards, out, lam_sha="a")
    path.write_bytes(path.read_bytes()[:-512])
    with pytest.warns(UserWarning, match="cannot be read"):
        extract(lam, shards, out, lam_sha="b")
    assert not (out / "train-000001.parquet").exists()


def test_a_shot_that_cannot_be_decoded_costs_its_shard_only(
    shards: ShardSet, lam: LatentActionModel, tmp_path: Path
) -> None:
    path = shards.folder / "train-000000.tar"
    mp4 = next(iter(shards.samples("train"))).mp4
    path.write_bytes(path.read_bytes().replace(mp4[200:], bytes(len(mp4) - 200)))
    with pytest.warns(UserWarning, match=r"train-000000\.tar: mp4 in memory: cannot be decoded"):
        manifest = extract(lam, shards, tmp_path / "out", lam_sha="a")
    assert manifest["counts"]["rows"] == 2 * 16


HOSTILE = {
    "reversed": lambda meta: meta["source_frames"].reverse(),
    "missing": lambda meta: meta.pop("source_frames"),
    "huge": lambda meta: meta["source_frames"].__setitem__(-1, 10**30),
    "times": lambda meta: meta.update(times_s=[0.0]),
    "source": lambda meta: meta.update(source={"a": 1}),
}


@pytest.fixture
def hostile(tmp_path: Path) -> Callable[[Callable[[dict], object]], ShardSet]:
    """Shards of which the last shot of the second says something else, with the right checksums."""

    def change_last(change: Callable[[dict], object]) -> ShardSet:
        folder = tmp_path / "hostile"
        before = write_shards(folder, ("train", "train"))
        samples = before.read(before.shards[1])
        change(samples[-1].meta)
        with ShardWriter(folder, "train", 1) as writer:
            for sample in samples:
                writer.add(sample)
            shard = writer.close()
        assert shard is not None
        write_json(folder / "shards.json", index_of([before.shards[0], shard], before.config))
        return ShardSet.open(folder)

    return change_last


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_a_shot_that_contradicts_itself_costs_its_shard_only(
    change: Callable[[dict], object],
    hostile: Callable[[Callable[[dict], object]], ShardSet],
    lam: LatentActionModel,
    tmp_path: Path,
) -> None:
    found = hostile(change)
    with pytest.warns(UserWarning, match=r"train-000001\.tar: sample train-1-1: (source|times_s)"):
        manifest = extract(lam, found, tmp_path / "out", lam_sha="a")
    assert [skipped["file"] for skipped in manifest["skipped"]] == ["train-000001.tar"]
    assert manifest["counts"]["rows"] == len(read_latents(tmp_path / "out")) == 16


@pytest.mark.parametrize("name", ["webdataset", "lapa", "lerobot-v3"])
def test_what_was_left_out_is_left_out_of_every_format_too(
    name: str,
    hostile: Callable[[Callable[[dict], object]], ShardSet],
    lam: LatentActionModel,
    tmp_path: Path,
) -> None:
    found = hostile(HOSTILE["missing"])
    with pytest.warns(UserWarning, match="1 of 2 shards cannot be read"):
        manifest = extract(lam, found, tmp_path / "latents", lam_sha="a")
    source = described(found, manifest)
    assert [shard.file for shard in source.shards] == ["train-000000.tar"]
    assert [file for file, _ in source.skipped] == ["train-000001.tar"]
    assert source.fingerprint != found.fingerprint
    written = write(name, tmp_path / "latents", found, tmp_path / "out")
    assert written == write(name, tmp_path / "latents", source, tmp_path / "out"), "the same job"
    assert not written.get("left_out")


def test_of_whole_latents_all_shards_are_described(
    shards: ShardSet, lam: LatentActionModel, tmp_path: Path
) -> None:
    assert described(shards, extract(lam, shards, tmp_path / "out", lam_sha="a")) == shards


def test_a_shot_of_other_frames_costs_its_shard_only(lam: LatentActionModel, tmp_path: Path) -> None:
    folder = tmp_path / "hostile"
    before = write_shards(folder, ("train", "train"))
    samples = before.read(before.shards[1])
    with ShardWriter(folder, "train", 1) as writer:
        for sample in samples:
            large = encode_mp4(np.zeros((sample.meta["num_frames"], 32, 16, 3), np.uint8), 10.0)
            writer.add(replace(sample, mp4=large))
        shard = writer.close()
    assert shard is not None
    write_json(folder / "shards.json", index_of([before.shards[0], shard], before.config))
    with pytest.warns(UserWarning, match="frames of 32x16 pixels, its shards are of 16x16"):
        manifest = extract(lam, ShardSet.open(folder), tmp_path / "out", lam_sha="a")
    assert manifest["counts"]["rows"] == 16


def test_a_gap_of_years_between_two_frames_is_one_more_horizon(
    hostile: Callable[[Callable[[dict], object]], ShardSet], lam: LatentActionModel, tmp_path: Path
) -> None:
    found = hostile(lambda meta: meta["source_frames"].__setitem__(-1, 2_000_000_000))
    tracemalloc.start()
    manifest = extract(lam, found, tmp_path / "out", lam_sha="a")
    most_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most_bytes < 2**28
    assert (manifest["window"]["native_frames"], manifest["counts"]["uneven"]) == (3, 1)


def test_shards_that_were_left_out_when_they_were_opened_are_in_the_manifest(
    shards: ShardSet, lam: LatentActionModel, tmp_path: Path
) -> None:
    (shards.folder / "train-000001.tar").unlink()
    with pytest.warns(UserWarning, match="1 of 3 shards cannot be used"):
        found = ShardSet.open(shards.folder)
    manifest = extract(lam, found, tmp_path / "out", lam_sha="a")
    assert [skipped["file"] for skipped in manifest["skipped"]] == ["train-000001.tar"]
    before = (tmp_path / "out/manifest.json").stat().st_mtime_ns
    extract(lam, found, tmp_path / "out", lam_sha="a")
    assert (tmp_path / "out/manifest.json").stat().st_mtime_ns == before, "it is finished all the same"


def test_nothing_that_can_be_read_is_a_mistake(
    shards: ShardSet, lam: LatentActionModel, tmp_path: Path
) -> None:
    for shard in shards.shards:
        (shards.folder / shard.file).unlink()
    with pytest.raises(UserError, match="none of 3 shards can be read"):
        extract(lam, shards, tmp_path / "out", lam_sha="a")


# --- processes ---------------------------------------------------------------------------------------------------


def test_several_processes_write_the_same_bytes(
    shards: ShardSet, lam: LatentActionModel, tmp_path: Path
) -> None:
    labels = Labels(np.array(["test-2-0.mp4"]), np.array([3]), np.array([1]), "discrete", ("l", "r"))
    path = shards.folder / "train-000001.tar"
    path.write_bytes(path.read_bytes()[:-512])
    seen: dict[int, list[tuple[int, int]]] = {1: [], 2: []}
    for workers, told in seen.items():
        with pytest.warns(UserWarning, match=r"train-000001\.tar: "):
            extract(
                lam,
                shards,
                tmp_path / str(workers),
                lam_sha="a",
                window_s=0.2,
                labels=labels,
                workers=workers,
                progress=lambda done, total, told=told: told.append((done, total)),
            )
    assert content(tmp_path / "2") == content(tmp_path / "1")
    assert seen[2] == seen[1] == [(done, 6) for done in range(1, 5)]


CHILD = """
import os, sys, time
from multiprocessing.connection import Connection
parent = Connection(int(sys.argv[1]))
for _ in range(4):
    parent.recv_bytes()  # the task, the model and a shard
parent.send_bytes(b'{"kind": "sample"}')
"""


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """Child processes that do a shot and no more; the first one dies of it."""
    started: list[subprocess.Popen[bytes]] = []

    def start(handle: int) -> subprocess.Popen[bytes]:
        end = "time.sleep(1000)" if started else "os.kill(os.getpid(), 9)"
        command = [sys.executable, "-c", CHILD + end, str(handle)]
        started.append(subprocess.Popen(command, pass_fds=[handle]))
        return started[-1]

    monkeypatch.setattr(pool, "_child", start)
    return started


def test_a_process_that_dies_is_told_in_one_line(
    shards: ShardSet, lam: LatentActionModel, tmp_path: Path, children: list[subprocess.Popen[bytes]]
) -> None:
    with pytest.raises(UserError, match=r"a child process died \(SIGKILL\).*run extract again") as error:
        extract(lam, shards, tmp_path / "out", lam_sha="a", workers=2)
    assert "\n" not in str(error.value)
    assert [child.poll() for child in children] == [-9, -9], "the other was ended"
    assert not any((tmp_path / "out").iterdir())


def test_nothing_goes_on_after_it_was_stopped(
    shards: ShardSet, lam: LatentActionModel, tmp_path: Path, children: list[subprocess.Popen[bytes]]
) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extract(lam, shards, tmp_path / "out", lam_sha="a", workers=2, progress=stop)
    assert [child.poll() for child in children] == [-9, -9]


@pytest.mark.parametrize("begun", [b"", b"\x00\x00\x10\x00half"], ids=["between messages", "within one"])
def test_a_child_ends_without_a_word_when_its_parent_is_gone(begun: bytes) -> None:
    ours, theirs = cast(tuple[Connection, Connection], Pipe())
    os.write(ours.fileno(), begun)  # a message is its length, then its bytes
    ours.close()
    with theirs, pytest.raises(pool._ParentGone):
        pool._serve(pool._Parent(theirs))


def test_more_processes_than_shards_are_not_started(
    shards: ShardSet, lam: LatentActionModel, tmp_path: Path, children: list[subprocess.Popen[bytes]]
) -> None:
    one = replace(shards, shards=shards.shards[:1])
    extract(lam, one, tmp_path / "out", lam_sha="a", workers=8)
    assert not children, "this process does it"
