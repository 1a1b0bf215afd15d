"""Extraction: every transition once, aligned, marked at the ends, resumable, and readable by anybody."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genie_lite.data.shards.shards import ShardSet
from genie_lite.errors import UserError
from genie_lite.latents import extract as extraction
from genie_lite.latents.extract import encode_shot, extract, pieces, reach
from genie_lite.latents.table import Latents, read_latents, read_manifest
from genie_lite.metrics import psnr_db
from genie_lite.models.lam import LatentActionModel
from tests import models
from tests.footage import write_shards


@pytest.fixture
def shards(tmp_path: Path) -> ShardSet:
    return write_shards(tmp_path / "shards", ("train", "train", "test"))


@pytest.fixture
def lam() -> LatentActionModel:
    return models.lam().eval()


def test_every_frame_has_one_row_and_every_shot_one_end(
    shards: ShardSet, lam: LatentActionModel, tmp_path: Path
) -> None:
    extract(lam, shards, tmp_path / "out", lam_sha="a")
    rows = read_latents(tmp_path / "out")
    samples = [sample for split in ("train", "test") for sample in shards.samples(split)]
    pairs = set(zip(rows.source.tolist(), rows.frame_index.tolist(), strict=True))
    wanted = {(sample.meta["source"], index) for sample in samples for index in sample.meta["source_frames"]}
    assert pairs == wanted
    assert len(rows) == len(wanted)
    assert (~rows.valid).sum() == len(samples)
    for sample in samples:
        own = rows.select(rows.key == sample.key)
        assert own.valid.tolist() == [True] * (len(own) - 1) + [False]
        assert set(own.split) == {sample.meta["split"]}


def test_the_last_row_is_marked_not_clamped(shards: ShardSet, lam: LatentActionModel, tmp_path: Path) -> None:
    extract(lam, shards, tmp_path / "out", lam_sha="a")
    rows = read_latents(tmp_path / "out")
    ends, others = rows.select(~rows.valid), rows.select(rows.valid)
    assert (ends.code == -1).all()
    assert (ends.horizon_frames == 0).all()
    for column in (ends.embedding, ends.recon_psnr_db, ends.copy_psnr_db, ends.dt_s):
        assert np.isnan(column).all()
    assert (others.code >= 0).all()
    assert np.isfinite(others.embedding).all()
    np.testing.assert_allclose(others.dt_s, 0.1, rtol=1e-6)
    assert (others.horizon_frames == 3).all()
    np.testing.assert_allclose(others.timestamp_s, others.frame_index / 30)


def test_row_k_describes_frame_k_to_frame_k_plus_1(
    shards: ShardSet, lam: LatentActionModel, tmp_path: Path
) -> None:
    extract(lam, shards, tmp_path / "out", lam_sha="a")
    rows = read_latents(tmp_path / "out")
    sample = next(iter(shards.samples("test")))
    own = rows.select(rows.key == sample.key)
    clip = torch.from_numpy(sample.frames()).permute(0, 3, 1, 2)[None].float() / 255
    with torch.no_grad():
        result = lam(clip)
    assert own.code[:-1].tolist() == result.code.index[0].tolist()
    np.testing.assert_allclose(own.embedding[:-1], result.code.embedding[0].numpy(), atol=1e-5)
    copied = psnr_db(clip[0, 2:3], clip[0, 3:4])
    assert own.copy_psnr_db[2] == pytest.approx(float(copied), abs=1e-3)
    made = psnr_db(result.prediction[0, 2:3], clip[0, 3:4])
    assert own.recon_psnr_db[2] == pytest.approx(float(made), abs=1e-3)


def test_manifest_says_what_was_done(shards: ShardSet, lam: LatentActionModel, tmp_path: Path) -> None:
    manifest = extract(lam, shards, tmp_path / "out", lam_sha="a")
    assert manifest == read_manifest(tmp_path / "out")
    assert manifest["counts"]["transitions"] == shards.num_transitions("train") + shards.num_transitions(
        "test"
    )
    assert sum(manifest["counts"]["by_code"]) == manifest["counts"]["transitions"]
    assert manifest["shards"]["fingerprint"] == shards.fingerprint
    assert np.asarray(manifest["code_centres"]).shape == (lam.num_codes, lam.code_dim)
    assert manifest["quality"]["codes_used"] <= lam.num_codes
    assert [part["file"] for part in manifest["parts"]] == [
        "train-000000.parquet",
        "train-000001.parquet",
        "test-000002.parquet",
    ]


def test_columns_have_the_types_that_others_rely_on(
    shards: ShardSet, lam: LatentActionModel, tmp_path: Path
) -> None:
    extract(lam, shards, tmp_path / "out", lam_sha="a")
    schema = pq.read_schema(tmp_path / "out/test-000002.parquet")
    types = {name: str(schema.field(name).type) for name in schema.names}
    assert types == {
        "source": "string",
        "key": "string",
        "split": "string",
        "frame_index": "int64",
        "timestamp_s": "double",
        "horizon_frames": "int32",
        "dt_s": "float",
        "code": "int32",
        "embedding": "fixed_size_list<element: float>[4]",
        "recon_psnr_db": "float",
        "copy_psnr_db": "float",
        "valid": "bool",
    }


def test_a_broken_extraction_goes_on_where_it_stopped(
    shards: ShardSet, lam: LatentActionModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    extract(lam, shards, whole, lam_sha="a")
    described = []
    describe = extraction._describe

    def count_and_fail(*args: object) -> Latents:
        described.append(1)
        if len(described) == 3:
            raise KeyboardInterrupt
        return describe(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(extraction, "_describe", count_and_fail)
    with pytest.raises(KeyboardInterrupt):
        extract(lam, shards, broken, lam_sha="a")
    assert [path.name for path in broken.iterdir()] == ["train-000000.parquet"]
    with pytest.raises(UserError, match=r"manifest\.json is missing"):
        read_latents(broken)
    extract(lam, shards, broken, lam_sha="a")
    assert len(described) == 7, "2 before it broke, 1 that broke, 4 afterwards: nothing twice"
    for path in whole.iterdir():
        assert (broken / path.name).read_bytes() == path.read_bytes()
    extract(lam, shards, broken, lam_sha="a")
    assert len(described) == 7, "finished work is not done again"


def test_another_model_or_a_damaged_part_is_extracted_again(
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


def test_parts_of_other_shards_are_removed(shards: ShardSet, lam: LatentActionModel, tmp_path: Path) -> None:
    extract(lam, shards, tmp_path / "out", lam_sha="a")
    extract(lam, write_shards(tmp_path / "others", ("train",)), tmp_path / "out", lam_sha="a")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "manifest.json",
        "train-000000.parquet",
    ]
    assert set(read_latents(tmp_path / "out").split) == {"train"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "no valid JSON"),
        ("7", "expected an object, found int"),
        ('{"format": 0}', "format 0"),
        ('{"format": 1}', "lam: missing"),
    ],
)
def test_a_damaged_manifest_is_told_in_one_line(
    content: str, said: str, shards: ShardSet, lam: LatentActionModel, tmp_path: Path
) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(content)
    for read in (lambda: read_manifest(tmp_path), lambda: extract(lam, shards, tmp_path, lam_sha="a")):
        with pytest.raises(UserError, match=said) as error:
            read()
        assert str(error.value).startswith(str(path))
        assert "delete it and run extract again" in str(error.value)


def test_a_model_for_other_frames_is_refused(shards: ShardSet, tmp_path: Path) -> None:
    other = LatentActionModel(models.lam().config.model_copy(update={"frame_hw": (32, 32)}))
    with pytest.raises(UserError, match="frames of 16x16 pixels, the latent action model reads 32x32"):
        extract(other.eval(), shards, tmp_path / "out", lam_sha="a")


def test_progress_counts_samples(shards: ShardSet, lam: LatentActionModel, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    extract(
        lam, shards, tmp_path / "out", lam_sha="a", progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(2, 6), (4, 6), (6, 6)]


def test_a_long_shot_in_pieces_gives_the_same_codes(lam: LatentActionModel) -> None:
    shot = models.frames(batch=1, num=30)[0]
    whole, pieced = encode_shot(lam, shot), encode_shot(lam, shot, max_frames=reach(lam) + 4)
    assert pieced["code"].tolist() == whole["code"].tolist()
    for name in ("embedding", "recon_psnr_db", "copy_psnr_db"):
        np.testing.assert_allclose(pieced[name], whole[name], atol=1e-4)


def test_the_overlap_is_as_long_as_it_must_be(lam: LatentActionModel) -> None:
    """With one block's reach less, the pieces would see too little of the past."""
    assert reach(lam) == 2 * (2 + 2)


@settings(max_examples=200)
@given(st.integers(2, 60), st.integers(2, 20), st.integers(0, 8))
def test_pieces_give_every_transition_once(num_frames: int, max_frames: int, overlap: int) -> None:
    given_out: list[int] = []
    for start, stop, skip in pieces(num_frames, max_frames, overlap):
        assert 0 <= start < stop <= num_frames
        assert stop - start <= max(max_frames, overlap + 2)
        transitions = list(range(start, stop - 1))
        assert transitions[0] == 0 or skip >= overlap
        given_out += transitions[skip:]
    assert given_out == list(range(num_frames - 1))
