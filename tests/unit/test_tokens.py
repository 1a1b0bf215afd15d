"""Token shards: written once, resumed after a power cut, renewed when stale, read where they lie."""

import fcntl
import json
import re
import tarfile
import threading
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from webdataset.tariterators import group_by_keys, tar_file_expander

from genie_lite.data.loading.token_windows import TokenWindows, token_loader, validation_tokens
from genie_lite.data.shards.index import index_of, load_index
from genie_lite.data.shards.shards import ShardDamage, ShardSet
from genie_lite.data.shards.token_shards import NO_CODE, TokenShards, npy
from genie_lite.data.shards.verify import verify
from genie_lite.errors import UserError
from genie_lite.files import sha256_of, write_json
from genie_lite.models.lam import LatentActionModel
from genie_lite.models.tokenizer import VideoTokenizer
from genie_lite.train import tokens as module
from genie_lite.train.config import LAMStage, TokenizerStage
from genie_lite.train.tokens import encode_shot, tokenize
from tests.forked import run_forked
from tests.training import stage_config, write_shards

PARENTS = {"tokenizer": "a" * 64, "lam": "b" * 64}
Models = tuple[VideoTokenizer, LatentActionModel]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return write_shards(tmp_path_factory.mktemp("data") / "shards")


@pytest.fixture(scope="module")
def models() -> Models:
    torch.manual_seed(0)
    tokenizer, lam = stage_config("tokenizer"), stage_config("lam")
    assert isinstance(tokenizer, TokenizerStage)
    assert isinstance(lam, LAMStage)
    return VideoTokenizer(tokenizer.model).eval(), LatentActionModel(lam.model).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, shards: ShardSet, models: Models) -> Path:
    folder = tmp_path_factory.mktemp("run") / "tokens"
    tokenize(shards, *models, folder, PARENTS)
    return folder


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The lengths of the shots that are tokenised."""
    lengths: list[int] = []
    real = encode_shot

    def count(frames: torch.Tensor, *models: Any) -> Any:
        lengths.append(len(frames))
        return real(frames, *models)

    monkeypatch.setattr(module, "encode_shot", count)
    return lengths


def windows_of(folder: Path, clip_frames: int = 4) -> TokenWindows:
    return TokenWindows(TokenShards.open(folder), clip_frames, 0, "train")


def shot_of(shards: ShardSet, number: int) -> torch.Tensor:
    frames = list(shards.samples("train"))[number].frames()
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


# What is in them


def test_they_are_webdataset_with_what_the_video_said(folder: Path, shards: ShardSet, models: Models) -> None:
    """For other trainers: tokens, codes and meta of every sample, under the key of its video."""
    video = list(shards.samples("train"))
    found: list[dict[str, Any]] = []
    for shard in shards.of("train"):
        with (folder / shard.file).open("rb") as file:
            found += group_by_keys(tar_file_expander([{"url": shard.file, "stream": file}]))
    assert [sample["__key__"] for sample in found] == [sample.key for sample in video]
    for number, (sample, expected) in enumerate(zip(found, video, strict=True)):
        tokens, codes = (np.load(BytesIO(sample[name])) for name in ("tokens.npy", "codes.npy"))
        shot_tokens, shot_codes = encode_shot(shot_of(shards, number), *models)
        assert shot_codes is not None
        np.testing.assert_array_equal(tokens, shot_tokens)
        np.testing.assert_array_equal(codes, shot_codes)
        assert (tokens.dtype, codes.dtype) == (np.uint16, np.uint16)
        assert json.loads(sample["json"]) == expected.meta


def test_the_index_says_whose_tokens_they_are(folder: Path, shards: ShardSet, models: Models) -> None:
    index = json.loads((folder / "shards.json").read_text())
    assert (index["kind"], index["members"]) == ("tokens", ["tokens.npy", "codes.npy", "json"])
    about = index["config"]["tokens"]
    assert (about["parents"], about["num_tokens"]) == (PARENTS, 4)
    assert about["num_codes"] == {"tokenizer": models[0].num_codes, "lam": models[1].num_codes}
    assert about["shards"] == {shard.file: shard.sha256 for shard in shards.shards}
    opened = TokenShards.open(folder, PARENTS)
    assert (opened.fingerprint, opened.frame_hw, opened.rate_hz) == (
        shards.fingerprint,
        shards.frame_hw,
        shards.rate_hz,
    )
    assert opened.num_frames("train") == shards.num_frames("train")


def test_the_last_frame_of_a_shot_has_no_code(shards: ShardSet, models: Models) -> None:
    _, codes = encode_shot(shot_of(shards, 0), *models)
    assert codes is not None
    assert codes[-1] == NO_CODE
    assert (codes[:-1] < models[1].num_codes).all()
    _, code = encode_shot(shot_of(shards, 0)[:1], *models)
    assert code is not None
    assert code.tolist() == [NO_CODE]


# How they are read


def test_windows_cover_every_place_of_every_shot_and_nothing_else(folder: Path, shards: ShardSet) -> None:
    windows = windows_of(folder)
    assert len(windows) == shards.num_windows("train", 4) == 3 * (6 + 4)
    for window in map(windows.at, range(len(windows))):
        assert not (window.codes == NO_CODE).any()


def test_row_k_is_the_transition_from_frame_k_to_the_next(
    folder: Path, shards: ShardSet, models: Models
) -> None:
    tokens, codes = encode_shot(shot_of(shards, 1), *models)
    assert codes is not None
    window = windows_of(folder).at(6 + 2)  # the third window of the second shot
    assert window.tokens.tolist() == tokens[2:6].flatten().tolist()
    assert window.codes.tolist() == codes[2:5].tolist()


def test_a_batch_is_what_the_model_reads(folder: Path) -> None:
    clip = next(iter(token_loader(TokenShards.open(folder), 4, 5, 0)))
    assert (clip.tokens.shape, clip.codes.shape, len(clip)) == ((5, 4, 4), (5, 3), 5)
    assert (clip.tokens.dtype, clip.codes.dtype) == (torch.int64, torch.int64)
    assert clip.to("meta").tokens.device.type == "meta"


def test_loading_processes_change_nothing(folder: Path) -> None:
    tokens = TokenShards.open(folder)
    alone, helped = (iter(token_loader(tokens, 4, 5, 0, num_workers=workers)) for workers in (0, 2))
    for _ in range(5):
        assert torch.equal(next(alone).tokens, next(helped).tokens)


def test_validation_is_spread_evenly_and_the_same_every_time(folder: Path) -> None:
    clips = validation_tokens(TokenShards.open(folder), 4, 3)
    again = validation_tokens(TokenShards.open(folder), 4, 3)
    assert [len(clip) for clip in clips] == [1, 1, 1]
    for clip, other in zip(clips, again, strict=True):
        assert torch.equal(clip.tokens, other.tokens)
    windows = TokenWindows(TokenShards.open(folder), 4, 0, "test")
    for clip, place in zip(clips, (0, 4, 9), strict=True):
        assert clip.tokens.flatten().tolist() == windows.at(place).tokens.tolist()


def test_no_shot_that_is_long_enough_is_the_users_to_know(folder: Path) -> None:
    with pytest.raises(UserError, match="no shot of split 'train' has 10 frames"):
        windows_of(folder, clip_frames=10)


def test_tokens_without_codes_are_no_food_for_the_dynamics(
    tmp_path: Path, shards: ShardSet, models: Models
) -> None:
    out = tmp_path / "tokens"
    summary = tokenize(shards, models[0], None, out, {"tokenizer": "a" * 64})
    assert not summary.has_codes
    tokens = TokenShards.open(out, {"tokenizer": "a" * 64})
    assert tokens.files.members == ("tokens.npy", "json")
    with pytest.raises(UserError, match=r"holds no codes.*genie-lite tokenize RUN .* --out"):
        TokenWindows(tokens, 4, 0, "train")
    with pytest.raises(UserError, match="were made without a lam"):
        TokenShards.open(out, PARENTS)


@pytest.mark.parametrize("how", ["cut", "gone", "other"])
def test_a_shard_that_changed_after_opening_is_replaced_and_counted(
    folder: Path, tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for name, data in contents(folder).items():
        (copy / name).write_bytes(data)
    tokens = TokenShards.open(copy)
    path = copy / tokens.of("train")[1].file
    if how == "cut":
        path.write_bytes(path.read_bytes()[:3000])
    elif how == "gone":
        path.unlink()
    else:
        path.write_bytes(
            (copy / tokens.of("train")[0].file).read_bytes().replace(b"tokens.npy", b"tokens.nqy")
        )
    whole = token_loader(TokenShards.open(folder), 4, 10, 0)
    loader = token_loader(tokens, 4, 10, 0)
    for _, found, expected in zip(range(6), loader, whole, strict=False):
        assert found.tokens.shape == expected.tokens.shape
    assert loader.replaced == {f"{copy}: {path.name}": 2 * 10}
    assert sum(path.name in record.getMessage() for record in caplog.records) == 1
    with pytest.raises(UserError, match=path.name) as told:
        next(iter(token_loader(tokens, 4, 30, 0, strict=True)))
    assert "\n" not in str(told.value)


def test_more_shards_than_files_that_may_be_open(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genie_lite.data.loading.token_windows.MAPPED_SHARDS", 1)
    few = windows_of(folder)
    monkeypatch.undo()
    for here, there in zip(few.read(range(60)), windows_of(folder).read(range(60)), strict=True):
        assert here.tokens.tolist() == there.tokens.tolist()


def rewritten(folder: Path, out: Path, change: Callable[[str, bytes], bytes]) -> TokenShards:
    """A copy whose first shard of training has other members, and an index that vouches for them."""
    out.mkdir()
    for path in folder.iterdir():
        (out / path.name).write_bytes(path.read_bytes())
    index, name = load_index(folder), "train-000000.tar"
    with (
        tarfile.open(folder / name) as old,
        tarfile.open(out / name, "w", format=tarfile.USTAR_FORMAT) as new,
    ):
        for member in old:
            file = old.extractfile(member)
            assert file is not None
            data = change(member.name, file.read())
            member.size = len(data)
            new.addfile(member, BytesIO(data))
    about = {"sha256": sha256_of(out / name), "bytes": (out / name).stat().st_size}
    shards = [replace(shard, **about) if shard.file == name else shard for shard in index.shards]
    write_json(out / "shards.json", index_of(shards, index.config, index.kind, index.members))
    return TokenShards.open(out)


REWRITES: dict[str, Callable[[np.ndarray], bytes]] = {
    "float16": lambda rows: npy(rows.astype(np.float16)),
    "int16": lambda rows: npy(rows.astype(np.int16)),
    "big-endian": lambda rows: npy(rows.astype(">u2")),
    "Fortran order": lambda rows: npy(np.asfortranarray(rows)),
    "transposed": lambda rows: npy(np.ascontiguousarray(rows.T)),
    "more rows": lambda rows: npy(np.concatenate([rows, rows])),
    "two bytes more": lambda rows: npy(rows) + bytes(2),
    "two bytes less": lambda rows: npy(rows)[:-2],
    "no npy": lambda rows: bytes(len(npy(rows))),
    "cut in the header": lambda rows: npy(rows)[:8],
}


@pytest.mark.parametrize("how", REWRITES)
def test_rows_that_are_not_as_the_index_says_are_damage(folder: Path, tmp_path: Path, how: str) -> None:
    def change(name: str, data: bytes) -> bytes:
        return REWRITES[how](np.load(BytesIO(data))) if name.endswith("tokens.npy") else data

    tokens = rewritten(folder, tmp_path / "copy", change)
    with pytest.raises(ShardDamage, match=r"tokens\.npy: .* expected") as told:
        tokens.map(tokens.of("train")[0])
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(("suffix", "parent"), [("tokens.npy", "tokenizer"), ("codes.npy", "lam")])
def test_what_no_embedding_has_never_reaches_one(
    folder: Path, tmp_path: Path, suffix: str, parent: str, models: Models
) -> None:
    num = (models[0] if parent == "tokenizer" else models[1]).num_codes

    def change(name: str, data: bytes) -> bytes:
        rows = np.load(BytesIO(data)) if name.endswith(suffix) else None
        if rows is None:
            return data
        rows[3] = num
        return npy(rows)

    tokens = rewritten(folder, tmp_path / "copy", change)
    loader = token_loader(tokens, 4, 10, 0)
    for _, clip in zip(range(6), loader, strict=False):
        assert clip.tokens.max() < models[0].num_codes
        assert clip.codes.max() < models[1].num_codes
    assert set(loader.replaced) == {f"{tokens.place}: train-000000.tar"}
    with pytest.raises(UserError, match=f"holds {num}, its {parent} has 0 to {num - 1}"):
        next(iter(token_loader(tokens, 4, 30, 0, strict=True)))
    old = replace(tokens, origin=replace(tokens.origin, num_codes={}))  # as earlier versions wrote
    assert "num_codes" not in old.origin.to_json()
    assert not any(token_loader(old, 4, 30, 0, strict=True).replaced)


# When they are made, and made again


def test_two_processes_on_one_folder_work_in_turn(
    tmp_path: Path,
    folder: Path,
    shards: ShardSet,
    models: Models,
    encoded: list[int],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The second one waits, and then finds the work done; nobody touches what the first is writing."""
    out, done = tmp_path / "tokens", []
    out.mkdir()
    waits = threading.Event()
    real = module.log.warning
    monkeypatch.setattr(module.log, "warning", lambda *told: (real(*told), waits.set()))
    with (out / ".lock").open("w") as lock:  # the first
        fcntl.flock(lock, fcntl.LOCK_EX)
        half = out / ".train-000000.tar.01234567.tmp"
        half.write_bytes(b"half")
        second = threading.Thread(target=lambda: done.append(tokenize(shards, *models, out, PARENTS)))
        second.start()
        assert waits.wait(60)
        assert (half.exists(), done, encoded) == (True, [], [])
        half.unlink()
        for name, data in contents(folder).items():
            (out / name).write_bytes(data)
    second.join(60)
    assert [(summary.made, summary.kept) for summary in done] == [(0, 4)]
    assert encoded == []
    assert contents(out) == contents(folder)
    assert sum("waiting" in record.getMessage() for record in caplog.records) == 1
    assert not verify(out, deep=True).notes


def test_where_nothing_can_be_locked_it_goes_on(
    tmp_path: Path,
    shards: ShardSet,
    models: Models,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(module.fcntl, "flock", refuse)
    assert tokenize(shards, *models, tmp_path, PARENTS).made == 4
    assert "cannot be locked (No locks available)" in caplog.text


def test_what_is_finished_is_not_touched(
    tmp_path: Path, shards: ShardSet, models: Models, encoded: list[int]
) -> None:
    first = tokenize(shards, *models, tmp_path, PARENTS)
    assert (first.made, first.kept, first.samples, first.frames) == (4, 0, 8, 64)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    encoded.clear()
    told: list[tuple[int, int]] = []
    second = tokenize(shards, *models, tmp_path, PARENTS, lambda done, total: told.append((done, total)))
    assert (second.made, second.kept, encoded) == (0, 4, [])
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_the_same_models_write_the_same_bytes(
    tmp_path: Path, folder: Path, shards: ShardSet, models: Models
) -> None:
    tokenize(shards, *models, tmp_path, PARENTS)
    assert contents(tmp_path) == contents(folder)


@pytest.mark.parametrize("name", ["tokenizer", "lam"])
def test_other_weights_of_a_parent_make_all_stale(
    tmp_path: Path, shards: ShardSet, models: Models, name: str
) -> None:
    tokenize(shards, *models, tmp_path, PARENTS)
    changed = PARENTS | {name: "c" * 64}
    command = f"genie-lite tokenize runs/my-run {shards.folder} --out {tmp_path}"
    with pytest.raises(UserError, match=f"stale: these tokens are those of another {name}") as told:
        TokenShards.open(tmp_path, changed, run=Path("runs/my-run"))
    assert str(told.value).endswith(f"make them again: {command}")
    assert tokenize(shards, *models, tmp_path, changed).made == 4
    TokenShards.open(tmp_path, changed)


def test_only_what_was_made_from_a_changed_shard_is_made_again(
    tmp_path: Path, models: Models, encoded: list[int]
) -> None:
    old, new = (write_shards(tmp_path / name, num_train=count) for name, count in (("old", 3), ("new", 4)))
    out = tmp_path / "tokens"
    tokenize(old, *models, out, PARENTS)
    encoded.clear()
    assert tokenize(new, *models, out, PARENTS).made == 1  # the others are byte for byte the same
    assert len(encoded) == 2
    assert TokenShards.open(out).fingerprint == new.fingerprint
    tokenize(old, *models, out, PARENTS)
    assert sorted(path.name for path in out.glob("*.tar")) == sorted(shard.file for shard in old.shards)
    assert TokenShards.open(out).fingerprint == old.fingerprint


def test_tokens_of_video_that_has_changed_are_stale(tmp_path: Path, models: Models) -> None:
    old, new = (write_shards(tmp_path / name, num_train=count) for name, count in (("old", 3), ("new", 4)))
    out = tmp_path / "tokens"
    tokenize(old, *models, out, PARENTS)
    tokens = TokenShards.open(out)
    tokens.expect_of(old)
    command = re.escape(f"genie-lite tokenize runs/my-run {new.folder} --out {out}")
    with pytest.raises(UserError, match=f"stale: .* differ: 1.; make them again: {command}$"):
        tokens.expect_of(new, Path("runs/my-run"))
    tokenize(new, *models, out, PARENTS)
    with pytest.raises(UserError, match=r"stale: .* differ: 1"):
        TokenShards.open(out).expect_of(old)
    # What cannot be read any more is not stale.
    TokenShards.open(out).expect_of(replace(old, skipped=(("train-000003.tar", "missing"),)))


def test_a_damaged_token_shard_is_made_again(
    tmp_path: Path, folder: Path, shards: ShardSet, models: Models
) -> None:
    tokenize(shards, *models, tmp_path, PARENTS)
    path = tmp_path / "train-000001.tar"
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(bytes(data))
    summary = tokenize(shards, *models, tmp_path, PARENTS)
    assert (summary.made, summary.kept) == (1, 3)
    assert contents(tmp_path) == contents(folder)


def test_video_that_cannot_be_read_is_left_out_and_counted(
    tmp_path: Path, models: Models, caplog: pytest.LogCaptureFixture
) -> None:
    shards = write_shards(tmp_path / "shards")
    path = shards.folder / shards.of("train")[2].file
    whole = path.read_bytes()
    path.write_bytes(whole[:2000])
    out = tmp_path / "tokens"
    assert tokenize(shards, *models, out, PARENTS).damaged == 1
    assert path.name in caplog.text
    assert len(TokenShards.open(out).of("train")) == 2
    path.write_bytes(whole)
    assert tokenize(shards, *models, out, PARENTS).made == 1
    assert TokenShards.open(out).fingerprint == shards.fingerprint


@pytest.mark.parametrize("holds", ["shards", "a part of shards"])
def test_other_shards_are_not_written_over(tmp_path: Path, models: Models, holds: str) -> None:
    shards = write_shards(tmp_path / "shards")
    if holds == "a part of shards":  # as a broken ingest leaves them
        (shards.folder / "shards.json").unlink()
    before = contents(shards.folder)
    with pytest.raises(UserError, match=r"give another folder|give an empty folder"):
        tokenize(shards, *models, shards.folder, PARENTS)
    assert contents(shards.folder) == before


def test_video_shards_are_no_token_shards(shards: ShardSet) -> None:
    with pytest.raises(UserError, match="holds video, expected tokens"):
        TokenShards.open(shards.folder)


def test_an_index_that_says_nothing_of_its_origin_is_refused(folder: Path, tmp_path: Path) -> None:
    for name, data in contents(folder).items():
        (tmp_path / name).write_bytes(data)
    index = json.loads((tmp_path / "shards.json").read_text())
    del index["config"]["tokens"]["shards"]["train-000000.tar"]
    (tmp_path / "shards.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"does not say what train-000000\.tar was made from"):
        TokenShards.open(tmp_path)
    del index["config"]["tokens"]
    (tmp_path / "shards.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="does not say what its tokens were made from"):
        TokenShards.open(tmp_path)


def test_more_codes_than_sixteen_bits_hold_are_refused(
    tmp_path: Path, shards: ShardSet, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(models[0]), "num_codes", 2**16 + 1)
    with pytest.raises(UserError, match="stored in 16 bits; choose a codebook of at most 65536 codes"):
        tokenize(shards, *models, tmp_path, PARENTS)


SCRIPT = """
import os, signal, sys
from pathlib import Path
import torch
from genie_lite.data.shards.shards import ShardSet
from genie_lite.models.lam import LatentActionModel
from genie_lite.models.tokenizer import VideoTokenizer
from genie_lite.train.tokens import tokenize
from tests.training import stage_config

torch.manual_seed(0)
models = VideoTokenizer(stage_config("tokenizer").model).eval(), LatentActionModel(stage_config("lam").model).eval()
shards, out = ShardSet.open(Path(sys.argv[1])), Path(sys.argv[2])

def tokenize_until(last):
    renamed = []

    def watch(event, arguments):
        if event == "os.rename":
            renamed.append(arguments[1])
            if len(renamed) == last:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    tokenize(shards, *models, out / str(last), {"tokenizer": "a" * 64, "lam": "b" * 64})
    os._exit(0)

for last in map(int, sys.argv[3:]):
    if (child := os.fork()) == 0:
        tokenize_until(last)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL, last
"""


def test_kill_9_at_any_moment_and_nothing_comes_twice(
    tmp_path: Path, folder: Path, shards: ShardSet, models: Models, encoded: list[int]
) -> None:
    """Just before the second shard appears, before its record does, and before the index does."""
    moments = {3: 1, 4: 1, 9: 4}
    argv = ["-c", SCRIPT, str(shards.folder), str(tmp_path), *map(str, moments)]
    run_forked(argv, Path(__file__).parents[2]).check_returncode()
    for moment, num_done in moments.items():
        out = tmp_path / str(moment)
        with pytest.raises(UserError, match="no finished shards here"):
            TokenShards.open(out)
        encoded.clear()
        assert tokenize(shards, *models, out, PARENTS).kept == num_done
        assert len(encoded) == 2 * (4 - num_done)
        assert contents(out) == contents(folder)


def test_the_tars_are_not_compressed_and_begin_at_even_bytes(folder: Path) -> None:
    """What reading by memory map rests on."""
    for path in folder.glob("*.tar"):
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                assert member.offset_data % 512 == 0
                assert member.name.endswith(".json") or member.size % 2 == 0
