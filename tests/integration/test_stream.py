"""The data under Lightning: where a broken run goes on, with other processes too, and on either kind of shards."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from genie_lite.artifact import read_artifact, write_artifact
from genie_lite.data.loading.clip import Clip, TokenClip
from genie_lite.data.loading.mixture import Corpora, Corpus
from genie_lite.data.loading.weight import FlowWeight
from genie_lite.data.shards.shards import ShardSet
from genie_lite.data.shards.token_shards import TokenShards
from genie_lite.errors import UserError
from genie_lite.models.lam import LatentActionModel
from genie_lite.models.tokenizer import VideoTokenizer
from genie_lite.train.config import LAMStage, StageConfig, StageName, TokenizerStage, TrainConfig
from genie_lite.train.framework import L, quiet_lightning
from genie_lite.train.stream import ClipData, Stream, TokenData
from tests.processes import link_parents, losses, tiny, train_with_two
from tests.training import CPU, train, write_shards

STEPS, KEPT = 12, 5
Data = ClipData | TokenData


class Diary(L.LightningModule):
    """Writes down which windows it is given, and keeps a checkpoint of step `KEPT`."""

    def __init__(self, checkpoint: Path | None = None) -> None:
        super().__init__()
        self.weight, self._checkpoint = nn.Parameter(torch.zeros(())), checkpoint
        self.seen: list[list[Any]] = []

    def training_step(self, clip: Clip | TokenClip, batch_idx: int) -> Tensor:
        if isinstance(clip, Clip):
            self.seen.append(list(zip(clip.key, clip.start, clip.dt_s, strict=True)))
        else:
            self.seen.append([*clip.tokens.flatten(1).tolist(), *clip.codes.tolist()])
        return self.weight * 1.0

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self._checkpoint is not None and self.trainer.global_step == KEPT:
            self.trainer.save_checkpoint(self._checkpoint)


def fit(data: Data, folder: Path, keep: Path | None = None, resume: Path | None = None) -> list[list[Any]]:
    diary = Diary(keep)
    with quiet_lightning():
        trainer = L.Trainer(
            max_steps=STEPS,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
            **CPU,
        )
        trainer.fit(diary, datamodule=data, ckpt_path=resume, weights_only=True)
    return diary.seen


def settings(**changes: Any) -> TrainConfig:
    given = {"steps": STEPS, "batch": 4, "clip_frames": 4, "val_clips": 4, "accumulate": 1} | changes
    return TrainConfig.model_validate(given)


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return write_shards(tmp_path_factory.mktemp("data") / "shards")


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> ShardSet:
    return write_shards(tmp_path_factory.mktemp("other") / "shards", num_train=2, num_test=2)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose tokenizer and latent action model are as they were drawn."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    nothing: dict[str, Any] = {"recipe": "", "parents": {}, "data": {}, "metrics": {}, "seconds": 0.0}
    tokenizer, lam = tiny("tokenizer", "auto"), tiny("lam", "auto")
    assert isinstance(tokenizer, TokenizerStage)
    assert isinstance(lam, LAMStage)
    torch.manual_seed(0)
    tokens, codes = VideoTokenizer(tokenizer.model), LatentActionModel(lam.model)
    write_artifact(folder / "tokenizer", "tokenizer", tokens, tokenizer.model, **nothing)
    write_artifact(folder / "lam", "lam", codes, lam.model, **nothing)
    return folder


def parents(run: Path) -> dict[str, str]:
    return {name: read_artifact(run / name, name).sha256 for name in ("tokenizer", "lam")}


def clip_data(given: ShardSet | Corpora[ShardSet], run: Path, **changes: Any) -> ClipData:
    return ClipData(given, settings(**changes), 0)


def paired_data(given: ShardSet | Corpora[ShardSet], run: Path, **changes: Any) -> ClipData:
    return ClipData(given, settings(**changes), 0, pair_s=(0.1, 0.3), weight=FlowWeight())


def token_data(given: Any, run: Path, **changes: Any) -> TokenData:
    return TokenData(given, run, parents(run), settings(**changes), 0)


PROCESSES = [(0, 0), (2, 1), (0, 2), (1, 0)]


@pytest.mark.parametrize(
    ("make", "before", "after"),
    [*[(make, *each) for make in (clip_data, token_data) for each in PROCESSES], (paired_data, 0, 2)],
)
def test_a_run_goes_on_with_other_loading_processes(
    tmp_path: Path, shards: ShardSet, others: ShardSet, run: Path, make: Any, before: int, after: int
) -> None:
    """In mid-epoch, on two corpora: what comes after the checkpoint is what would have come."""
    corpora = Corpora((Corpus(shards, 2.0), Corpus(others, 1.0)))
    keep = tmp_path / "kept.ckpt"
    whole = fit(make(corpora, run, num_workers=before), tmp_path, keep=keep)
    resumed = fit(make(corpora, run, num_workers=after), tmp_path, resume=keep)
    assert len(whole) == STEPS
    assert resumed == whole[KEPT:]


def test_pairs_in_seconds_and_weights_reach_training_and_validation(
    tmp_path: Path, shards: ShardSet, others: ShardSet, run: Path
) -> None:
    slow = ShardSet(others.folder, others.config | {"rate_hz": 5.0}, others.fingerprint, others.shards)
    corpora = Corpora((Corpus(shards), Corpus(slow)))
    seen = fit(paired_data(corpora, run), tmp_path)
    assert {round(dt_s, 6) for batch in seen for _, _, dt_s in batch} == {
        0.1,
        0.2,
    }  # no shot is long enough for 0.3
    clips = paired_data(corpora, run).validation_clips()
    assert len({clip.dt_s[0] for clip in clips}) > 1
    for clip in clips:
        assert clip.weight is not None
        assert clip.weight.mean() == pytest.approx(1, abs=1e-5)
        assert clip.weight.min() < 0.9
    assert all(clip.weight is None for clip in clip_data(shards, run).validation_clips())


@pytest.mark.parametrize("make", [clip_data, token_data])
def test_corpora_of_two_rates_need_a_range_of_seconds(
    shards: ShardSet, others: ShardSet, run: Path, make: Any
) -> None:
    slow = ShardSet(others.folder, others.config | {"rate_hz": 5.0}, others.fingerprint, others.shards)
    with pytest.raises(UserError, match=r"5 frames per second, but .* has 10 frames per second"):
        make(Corpora((Corpus(shards), Corpus(slow))), run)


def test_a_checkpoint_of_other_data_is_refused(
    tmp_path: Path, shards: ShardSet, others: ShardSet, run: Path
) -> None:
    keep = tmp_path / "kept.ckpt"
    fit(clip_data(shards, run), tmp_path, keep=keep)
    with pytest.raises(UserError, match=r"^last\.ckpt: the saved data position belongs to other data"):
        fit(clip_data(others, run), tmp_path, resume=keep)


def test_ready_tokens_are_trained_on_as_the_video_is(tmp_path: Path, shards: ShardSet, run: Path) -> None:
    own = token_data(shards, run)
    expected = fit(own, tmp_path)
    ready = TokenShards.open(run / "tokens")
    bare = tmp_path / "bare"
    link_parents(bare, run)
    data = token_data(ready, bare)
    assert fit(data, tmp_path) == expected
    assert not (bare / "tokens").exists()
    for found, wanted in zip(data.validation_clips(), own.validation_clips(), strict=True):
        assert torch.equal(found.tokens, wanted.tokens)


def test_tokens_of_another_run_are_refused_with_the_command(
    tmp_path: Path, shards: ShardSet, run: Path
) -> None:
    fit(token_data(shards, run), tmp_path)
    ready = TokenShards.open(run / "tokens")
    other = parents(run) | {"lam": "0" * 64}
    command = f"genie-lite tokenize {tmp_path} {shards.folder} --out {run / 'tokens'}"
    with pytest.raises(UserError, match=command):
        TokenData(ready, tmp_path, other, settings(), 0)


def test_every_corpus_of_video_has_its_own_tokens(
    tmp_path: Path, shards: ShardSet, others: ShardSet, run: Path
) -> None:
    bare = tmp_path / "bare"
    link_parents(bare, run)
    data = token_data(Corpora((Corpus(shards), Corpus(others))), bare)
    fit(data, tmp_path)
    opened = [TokenShards.open(bare / "tokens" / name) for name in ("000", "001")]
    assert [each.fingerprint for each in opened] == [shards.fingerprint, others.fingerprint]
    assert len(data.validation_clips()) == 4


def test_one_process_of_all_nodes_makes_the_tokens(shards: ShardSet, run: Path) -> None:
    """They share the folder; Lightning's default is one process per node."""
    assert not token_data(shards, run).prepare_data_per_node


@pytest.mark.parametrize("make", [clip_data, token_data])
def test_corpora_are_held_out_in_proportion_and_the_same_every_time(
    shards: ShardSet, others: ShardSet, run: Path, tmp_path: Path, make: Any
) -> None:
    data = make(Corpora((Corpus(shards, 1.0), Corpus(others, 3.0))), run, val_clips=8)
    alone = make(shards, run, val_clips=2)
    if make is token_data:
        for each in (alone, data):
            fit(each, tmp_path)  # which makes the tokens
    first, second = data.validation_clips(), data.validation_clips()
    assert len(first) == 8
    assert [rows_of(clip) for clip in first] == [rows_of(clip) for clip in second]
    assert [rows_of(clip) for clip in alone.validation_clips()] == [rows_of(first[k]) for k in (0, 2)]


def rows_of(clip: Clip | TokenClip) -> Any:
    return (clip.key, clip.start) if isinstance(clip, Clip) else clip.tokens.tolist()


def test_one_process_goes_on_for_two(tmp_path: Path, shards: ShardSet) -> None:
    """The position counts what all processes have taken: nothing is lost, nothing comes twice."""
    config: dict[StageName, StageConfig] = {"tokenizer": tiny("tokenizer", "ddp")}
    train("tokenizer", shards, tmp_path / "whole", tiny("tokenizer", "auto"))
    assert train_with_two(shards, tmp_path / "broken", config, "5").returncode == 9
    try:
        train("tokenizer", shards, tmp_path / "broken", config["tokenizer"])
    finally:
        torch.distributed.destroy_process_group()  # which other tests expect not to be there
    expected = losses(tmp_path / "whole", "tokenizer")
    assert losses(tmp_path / "broken", "tokenizer") == pytest.approx(expected, rel=1e-4)


class Still:
    """A loader that gives nothing."""

    def __init__(self, state: dict[str, Any]) -> None:
        self._state = state

    def __iter__(self) -> Any:
        return iter(())

    def state_dict(self) -> dict[str, Any]:
        return self._state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        raise UserError(f"not {state_dict}")


def test_a_stream_has_a_length_and_the_position_of_its_loader() -> None:
    stream = Stream(Still({"windows": 3}), 7)
    assert (len(stream), stream.state_dict()) == (7, {"windows": 3})
    with pytest.raises(UserError, match=r"^last\.ckpt: not"):
        stream.load_state_dict({"windows": 4})
