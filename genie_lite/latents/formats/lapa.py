"""LAPA's jsonl: a line per transition with a picture, an instruction and the tokens of the latent action (`delta`).

    lapa.jsonl                      {"id", "image", "instruction", "delta", "fields"}
    images/<episode>/img_00000.jpg  every frame that a transition begins or ends with, 256 px on its longer side
    manifest.json                   last: what made the latents, and the flags below

`vision` is left out: these are 256 tokens per picture of LAPA's own VQGAN, which only that can make. Its loader makes
them itself from `image` when it is told to, so train with

    --train_dataset.type=json_vision_delta
    --train_dataset.delta_vision_text_processor.img_aug=True
    --train_dataset.delta_vision_text_processor.vqgan_checkpoint_path=.../vqgan
    --train_dataset.delta_vision_text_processor.image_absolute_path=OUT/
    --train_dataset.delta_vision_text_processor.n_tokens_per_delta=<n_tokens_per_delta of the manifest>
    --llama.delta_vocab_size=<delta_vocab_size of the manifest>   (and in --update_llama_config)

Everything else is as LAPA's own inference script writes it: tokens as text, `fields`, the prompt around the
instruction, and pictures named so that its quantizer trains on the same folder. A transition without a valid latent
has no line; LAPA would clamp it to the last frame.

Source: github.com/LatentActionPretraining/LAPA, laq/inference_sthv2.py, laq/laq_model/data.py,
latent_pretraining/data.py and data/finetune_preprocess.py.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import numpy as np

from genie_lite.data.video.container import BadVideo
from genie_lite.data.video.place import Place
from genie_lite.latents.formats.episodes import Clip, Episode, Episodes, LeftOut
from genie_lite.latents.formats.join import Aligned, Join
from genie_lite.latents.formats.labelled import Progress, Source, open_episodes
from genie_lite.latents.formats.lerobot_files import made_of
from genie_lite.latents.formats.pictures import write_pictures
from genie_lite.latents.formats.rows import Rows
from genie_lite.latents.formats.runner import head_of, write_episodes
from genie_lite.latents.formats.target import Target, fingerprint, job_of, unfinished_name

LINES = "lapa.jsonl"
PICTURE = "img_{:05d}.jpg"
LONGEST_PX = 256  # LAPA makes every picture as small
PROMPT = "<s> You are a helpful assistant. USER: What action should the robot take to `{}` ASSISTANT:"
FIELDS = "[instruction],[vision],delta"  # a loss on the tokens alone


def write(
    folder: Path, source: Source, out: Path, title: str | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Write lines and pictures; returns the manifest.

    Args:
        folder: finished latents.
        source: shards, or the folder of a LeRobot dataset.
        out: an empty folder, or one in which this was begun before; pictures of the same frames are kept.
        title: see `registry.write`.
        progress: called with (episodes done, episodes).

    Raises:
        UserError: they do not belong together, the folder holds something else, nothing can be used.
    """
    episodes, rows = open_episodes(source, title), Rows(folder)
    join = Join(rows, episodes)
    with Target(out, job_of("lapa", folder, episodes.fingerprint)) as target:
        return target.done or _write(target, episodes, join, rows, progress)


def _write(
    target: Target, episodes: Episodes, join: Join, rows: Rows, progress: Progress | None
) -> dict[str, Any]:
    with _Lines(target.out / LINES) as lines:

        def write_one(episode: Episode, aligned: Aligned) -> LeftOut | None:
            found = _write_episode(target, episode, aligned, episodes.tasks)
            return found if isinstance(found, LeftOut) else lines.add(found)

        left_out = write_episodes(episodes, join, write_one, progress)
    about = {
        "lines": lines.num,
        "n_tokens_per_delta": rows.num_tokens,
        "delta_vocab_size": rows.codes_per_token,
    }
    return target.describe(head_of(episodes, rows, left_out, about))


class _Lines:
    """The file of lines, which appears when it is whole. num: of lines."""

    def __init__(self, path: Path) -> None:
        self._path, self._unfinished = path, unfinished_name(path)
        self._file: TextIO | None = None
        self.num = 0

    def __enter__(self) -> "_Lines":
        self._file = self._unfinished.open("w", encoding="utf-8")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None
        self._file.close()
        if error is None:
            os.replace(self._unfinished, self._path)
        self._unfinished.unlink(missing_ok=True)

    def add(self, lines: list[dict[str, Any]]) -> None:
        assert self._file is not None
        self._file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        self.num += len(lines)


def _write_episode(
    target: Target, episode: Episode, aligned: Aligned, tasks: tuple[str, ...]
) -> list[dict[str, Any]] | LeftOut:
    """The lines of one episode, once its pictures are there."""
    name = episode.key or episode.name
    starts = np.flatnonzero(aligned.valid)
    used = np.union1d(starts, starts + aligned.horizon[starts])
    try:
        _put_pictures(target, name, episode.clips[aligned.camera], used)
    except BadVideo as error:
        return LeftOut(episode.name, error.reason)
    return list(_lines(name, episode, aligned, used, tasks))


def _put_pictures(target: Target, name: str, clip: Clip, frames: np.ndarray) -> None:
    """Write the pictures of an episode, unless those of the same frames are there already."""
    folder = target.out / "images" / name
    span = clip.span_s if isinstance(clip, Place) else None
    made_from = fingerprint(made_of(clip), str(span), frames.astype(np.int64).tobytes())
    if not target.journal.keeps(folder, made_from):
        with target.journal.making(folder, made_from):
            write_pictures(folder, clip, frames.tolist(), PICTURE, LONGEST_PX)


def _lines(
    name: str, episode: Episode, aligned: Aligned, used: np.ndarray, tasks: tuple[str, ...]
) -> Iterator[dict[str, Any]]:
    for number, frame in enumerate(used.tolist()):
        if aligned.valid[frame]:
            yield {
                "id": f"{name}/step_{number}",
                "image": f"images/{name}/{PICTURE.format(number)}",
                "instruction": PROMPT.format(tasks[int(episode.task_index[frame])]),
                "delta": [str(token) for token in aligned.tokens[frame].tolist()],
                "fields": FIELDS,
            }
