"""The token cache on an imaginary tokenizer whose tokens tell where they came from."""

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genie_lite.data.shards import ShardSet
from genie_lite.errors import UserError
from genie_lite.models.lam import LatentActionModel
from genie_lite.models.tokenizer import VideoTokenizer
from genie_lite.train.config import LAMStage, TokenizerStage
from genie_lite.train.tokens import NO_CODE, TokenLoader, TokenWindows, encode_shot, spread, write_tokens
from tests.training import stage_config, write_shards

PARENTS = {"tokenizer": "a" * 64, "lam": "b" * 64}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return write_shards(tmp_path_factory.mktemp("data") / "shards")


@pytest.fixture(scope="module")
def models() -> tuple[VideoTokenizer, LatentActionModel]:
    torch.manual_seed(0)
    tokenizer, lam = stage_config("tokenizer"), stage_config("lam")
    assert isinstance(tokenizer, TokenizerStage)
    assert isinstance(lam, LAMStage)
    return VideoTokenizer(tokenizer.model).eval(), LatentActionModel(lam.model).eval()


@pytest.fixture(scope="module")
def cache(
    tmp_path_factory: pytest.TempPathFactory,
    shards: ShardSet,
    models: tuple[VideoTokenizer, LatentActionModel],
) -> Path:
    folder = tmp_path_factory.mktemp("run") / "tokens"
    write_tokens(folder, shards, *models, PARENTS)
    return folder


def windows_of(cache: Path, shards: ShardSet, clip_frames: int = 4) -> TokenWindows:
    return TokenWindows(cache, shards, PARENTS, "train", clip_frames)


def shot_of(shards: ShardSet, number: int) -> torch.Tensor:
    frames = list(shards.samples("train"))[number].frames()
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255


def test_windows_cover_every_place_of_every_shot_and_nothing_else(cache: Path, shards: ShardSet) -> None:
    windows = windows_of(cache, shards)
    assert len(windows) == shards.num_windows("train", 4) == 3 * (6 + 4)
    clip = windows.read(range(len(windows)))
    assert not (clip.codes == NO_CODE).any()


def test_row_k_is_the_transition_from_frame_k_to_the_next(
    cache: Path, shards: ShardSet, models: tuple[VideoTokenizer, LatentActionModel]
) -> None:
    tokens, codes = encode_shot(shot_of(shards, 1), *models)
    clip = windows_of(cache, shards).read([6])  # the first window of the second shot
    assert clip.tokens[0].tolist() == tokens[:4].tolist()
    assert clip.codes[0].tolist() == codes[:3].tolist()


def test_the_last_frame_of_a_shot_has_no_code(
    shards: ShardSet, models: tuple[VideoTokenizer, LatentActionModel]
) -> None:
    _, codes = encode_shot(shot_of(shards, 0), *models)
    assert codes[-1] == NO_CODE
    assert (codes[:-1] < models[1].num_codes).all()
    assert encode_shot(shot_of(shards, 0)[:1], *models)[1].tolist() == [NO_CODE]


def test_a_finished_shard_is_not_made_again(
    tmp_path: Path, shards: ShardSet, models: tuple[VideoTokenizer, LatentActionModel]
) -> None:
    assert write_tokens(tmp_path, shards, *models, PARENTS) == 4
    assert write_tokens(tmp_path, shards, *models, PARENTS) == 0
    (tmp_path / "train-000001.json").unlink()  # as if broken off before the record was written
    assert write_tokens(tmp_path, shards, *models, PARENTS) == 1


@pytest.mark.parametrize("name", ["tokenizer", "lam"])
def test_new_weights_of_a_parent_make_every_record_stale(
    tmp_path: Path, shards: ShardSet, models: tuple[VideoTokenizer, LatentActionModel], name: str
) -> None:
    write_tokens(tmp_path, shards, *models, PARENTS)
    changed = PARENTS | {name: "c" * 64}
    with pytest.raises(UserError, match="no valid tokens"):
        TokenWindows(tmp_path, shards, changed, "train", 4)
    assert write_tokens(tmp_path, shards, *models, changed) == 4


def test_a_changed_shard_makes_its_own_record_stale(
    tmp_path: Path, shards: ShardSet, models: tuple[VideoTokenizer, LatentActionModel]
) -> None:
    write_tokens(tmp_path, shards, *models, PARENTS)
    record = json.loads((tmp_path / "test-000000.json").read_text())
    (tmp_path / "test-000000.json").write_text(json.dumps(record | {"shard": "d" * 64}))
    assert write_tokens(tmp_path, shards, *models, PARENTS) == 1


def test_no_shot_that_is_long_enough_is_the_users_to_know(cache: Path, shards: ShardSet) -> None:
    with pytest.raises(UserError, match="no shot of split 'train' has 10 frames"):
        windows_of(cache, shards, clip_frames=10)


def positions(windows: TokenWindows, loader: TokenLoader, num: int) -> list[list[list[int]]]:
    """What a loader reads, as something that compares."""
    return [clip.tokens.flatten(1).tolist() for clip in islice(iter(loader), num)]


def test_the_order_depends_on_the_seed_alone(cache: Path, shards: ShardSet) -> None:
    windows = windows_of(cache, shards)
    first, second, other = (positions(windows, TokenLoader(windows, 4, seed), 5) for seed in (1, 1, 2))
    assert first == second
    assert first != other


def test_an_epoch_reads_every_window_once(cache: Path, shards: ShardSet) -> None:
    class Spy(TokenWindows):
        seen: list[int] = []

        def read(self, windows):
            self.seen.extend(windows)
            return super().read(windows)

    windows = Spy(cache, shards, PARENTS, "train", 4)
    list(islice(iter(TokenLoader(windows, 5, 0)), 2 * len(windows) // 5))
    epochs = np.array(Spy.seen).reshape(2, -1)
    assert [sorted(epoch) for epoch in epochs.tolist()] == 2 * [list(range(len(windows)))]
    assert epochs[0].tolist() != epochs[1].tolist()


def test_processes_share_the_batches_of_one(cache: Path, shards: ShardSet) -> None:
    windows = windows_of(cache, shards)
    whole = positions(windows, TokenLoader(windows, 4, 0), 20)
    halves = [
        positions(windows, TokenLoader(windows, 2, 0, rank=rank, world_size=2), 20) for rank in range(2)
    ]
    for batch, even, odd in zip(whole, *halves, strict=True):
        assert batch[::2] == even
        assert batch[1::2] == odd


def test_a_resumed_loader_reads_what_the_other_would_have_read(cache: Path, shards: ShardSet) -> None:
    windows = windows_of(cache, shards)
    loader = TokenLoader(windows, 4, 0)
    batches = iter(loader)
    list(islice(batches, 11))  # into the second epoch
    state = loader.state_dict()
    expected = [clip.tokens.tolist() for clip in islice(batches, 9)]
    resumed = TokenLoader(windows, 4, 0)
    resumed.load_state_dict(state)
    assert [clip.tokens.tolist() for clip in islice(iter(resumed), 9)] == expected


@given(num=st.integers(1, 500), limit=st.integers(1, 50))
def test_spread_takes_both_ends_and_no_number_twice(num: int, limit: int) -> None:
    chosen = spread(num, limit)
    assert len(chosen) == len(set(chosen)) == min(num, limit)
    assert chosen == sorted(chosen)
    assert 0 <= chosen[0] <= chosen[-1] < num
    if len(chosen) > 1:
        assert (chosen[0], chosen[-1]) == (0, num - 1)
