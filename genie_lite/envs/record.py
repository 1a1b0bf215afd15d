"""Record a game: video files without actions, as the internet would have them, and the actions in a file apart.

    DIR/expert_{level:07d}.mp4     H.264, the frames alone; one file per episode: somebody who goes for the goal
    DIR/wander_{level:07d}.mp4     the same of somebody who strolls about, if `wander` asks for it
    DIR/labels.parquet             row k: the action of frame k, that led to frame k + 1, what it earned, and whether
                                   the episode was over then; the last frame has no row
    DIR/.record/                   config.json · one part per finished episode while recording · summary.json at the end

An episode is planned by the game's expert, or its wanderer, and then played. Wanderers turn back and change
their minds, so that no move can be told from the moves before: a world learnt from experts alone takes
"go on" for an action. What happens in it depends on the seed and the level
alone, so a recording that was killed goes on where it was, and the same seed gives the same bytes.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field, model_validator

from genie_lite.config import Config
from genie_lite.data.labels import write_labels
from genie_lite.data.video.codec import write_mp4
from genie_lite.envs.games import Game, game_of
from genie_lite.envs.procgen import MAX_LEVEL
from genie_lite.envs.protocol import Env, Planner, fill
from genie_lite.errors import UserError
from genie_lite.files import read_json, write_json

NUM_ENVS = 64  # episodes recorded side by side
GOP, CRF = 10, 10  # near-lossless, and cheap to seek in
LABELS_FILE = "labels.parquet"
ADVICE = "delete the recording's folder and record again"


class RecordConfig(Config):
    """What to record.

    game: a name of `GAMES`. episodes: one per level, from the first level on. levels: half-open [first, end).
    seed: of everything that the expert draws. explore: share of actions that are exploratory.
    wander: share of episodes that stroll about instead of going for the goal. max_frames: after so many an
    episode is cut off.
    """

    game: str
    episodes: int = Field(ge=1)
    levels: tuple[int, int]
    seed: int = Field(default=0, ge=0)
    explore: float = Field(default=0.3, ge=0, le=1)
    wander: float = Field(default=0.0, ge=0, le=1)
    # The engine itself ends an episode of Maze after 500 actions.
    max_frames: int = Field(default=200, ge=2, le=500)

    @model_validator(mode="after")
    def _levels_suffice(self) -> "RecordConfig":
        check_levels("levels", self.levels, self.episodes)
        return self


def check_levels(name: str, levels: tuple[int, int], num: int) -> None:
    """Refuse a half-open range of levels that is none, or holds fewer than `num`.

    Raises:
        ValueError: says what was found and expected; `name` is the setting's.
    """
    first, end = levels
    if not 0 <= first < end <= MAX_LEVEL + 1:
        raise ValueError(
            f"{name}: expected first:end with 0 <= first < end <= {MAX_LEVEL + 1}, found {first}:{end}"
        )
    if num > end - first:
        raise ValueError(
            f"{name}: {num} episodes need as many levels, {first}:{end} are {end - first}; "
            f"record fewer, or levels {first}:{first + num}"
        )


@dataclass(frozen=True)
class RecordSummary:
    """What was recorded.

    episodes, frames: how many. transitions: labelled ones. solved: share of episodes in which the expert
    reached the goal. actions: how often each was taken, by name.
    """

    episodes: int
    frames: int
    transitions: int
    solved: float
    actions: dict[str, int]


@dataclass(frozen=True)
class Episode:
    """What was played on a level.

    frames: uint8 `t h w c`. actions: int64, one fewer than frames. rewards: float32, one per action. ended: whether
    the last action ended it, not the recording. success: whether the goal was reached.
    """

    level: int
    frames: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    ended: bool
    success: bool


def video_name(level: int, *, wanders: bool = False) -> str:
    """File name of a level's episode, and its `source` among the labels."""
    return f"{'wander' if wanders else 'expert'}_{level:07d}.mp4"


def _name(config: RecordConfig, level: int) -> str:
    return video_name(level, wanders=_wanders(config, level))


def _wanders(config: RecordConfig, level: int) -> bool:
    return np.random.default_rng([config.seed, level, 1]).random() < config.wander


def record(
    config: RecordConfig, out: Path, progress: Callable[[int, int], None] | None = None
) -> RecordSummary:
    """Record what is missing; a finished recording is found and left alone.

    Args:
        config: what to record.
        out: the folder; made if need be.
        progress: called with (episodes there are, episodes wanted).

    Raises:
        UserError: no such game, no engine, or a folder that holds another recording.
    """
    tell = progress or (lambda done, total: None)
    game = game_of(config.game)
    work = out / ".record"
    _refuse_other(out, work, config)
    levels = range(config.levels[0], config.levels[0] + config.episodes)
    summary = work / "summary.json"
    if summary.is_file() and all((out / _name(config, level)).is_file() for level in levels):
        tell(len(levels), len(levels))
        return RecordSummary(**read_json(summary, "a recording's summary", ADVICE))
    env = game.open(NUM_ENVS)  # always: CoinRun's expert tries as many plans as there are streams
    try:
        write_json(work / "config.json", json.loads(config.model_dump_json()))
        _record_missing(env, game, config, [*levels], out, work, tell)
        names = env.action_names
    finally:
        env.close()
    return _finish(config, out, work, [*levels], names)


def play(env: Env, levels: list[int], plans: list[np.ndarray]) -> Iterator[Episode]:
    """Play one planned episode per level, at most `env.num_envs`, side by side.

    Where the engine does not show how an episode ends, its last action has no frame that it led to and is
    left out; what it earned counts for the action before.
    """
    frames = [env.reset(fill(levels, env.num_envs))]
    length = np.array([len(plan) for plan in plans])
    rewards = np.zeros((int(length.max(initial=0)), len(levels)), dtype=np.float32)
    success, over = (np.zeros(len(levels), dtype=bool) for _ in range(2))
    for k in range(length.max(initial=0)):
        action = np.zeros(env.num_envs, dtype=np.int64)  # noop for those that are through
        action[: len(plans)] = [plan[k] if k < len(plan) else 0 for plan in plans]
        step = env.step(action)
        frames.append(step.frames)
        ended = step.done[: len(levels)] & (k < length)
        earned = np.where(k < length, step.reward[: len(levels)], 0)
        is_shown = ~ended | env.shows_end
        rewards[k] = np.where(is_shown, earned, 0)
        rewards[max(0, k - 1)] += np.where(is_shown, 0, earned)
        over |= ended
        success |= ended & step.success[: len(levels)]
        length = np.where(ended, k + 1 if env.shows_end else k, length)
    shown = np.stack(frames)
    for slot, level in enumerate(levels):
        num = int(length[slot])
        yield Episode(
            level=level,
            frames=shown[: num + 1, slot],
            actions=plans[slot][:num],
            rewards=rewards[:num, slot],
            ended=bool(over[slot]),
            success=bool(success[slot]),
        )


def _record_missing(
    env: Env,
    game: Game,
    config: RecordConfig,
    levels: list[int],
    out: Path,
    work: Path,
    tell: Callable[[int, int], None],
) -> None:
    missing = [
        level
        for level in levels
        if not (_part(work, level).is_file() and (out / _name(config, level)).is_file())
    ]
    done = len(levels) - len(missing)
    tell(done, len(levels))
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for plan, batch in _batches(missing, env.num_envs, game, config):
            plans = plan(env, batch, config.seed, config.explore, config.max_frames - 1)
            episodes = play(env, batch, plans)
            for _ in pool.map(lambda episode: _keep(episode, config, out, work, env.rate_hz), episodes):
                done += 1
                tell(done, len(levels))


def _batches(
    levels: list[int], num_envs: int, game: Game, config: RecordConfig
) -> Iterator[tuple[Planner, list[int]]]:
    """Levels that fit side by side, all played in the same manner."""
    for plan, chosen in (
        (game.plan, [level for level in levels if not _wanders(config, level)]),
        (game.wander, [level for level in levels if _wanders(config, level)]),
    ):
        for start in range(0, len(chosen), num_envs):
            yield plan, chosen[start : start + num_envs]


def _keep(episode: Episode, config: RecordConfig, out: Path, work: Path, rate_hz: float) -> None:
    """The video, then the part: an episode counts once both are there."""
    write_mp4(
        out / _name(config, episode.level), episode.frames, rate_hz, gop=GOP, crf=CRF, pixel_format="yuv444p"
    )
    part = {
        "actions": episode.actions.tolist(),
        "rewards": episode.rewards.tolist(),
        "ended": episode.ended,
        "success": episode.success,
    }
    write_json(_part(work, episode.level), part)


def _finish(
    config: RecordConfig, out: Path, work: Path, levels: list[int], names: tuple[str, ...]
) -> RecordSummary:
    """Gather the parts into the label file; the summary, written last, says that all is there."""
    parts = [read_json(_part(work, level), "an episode's actions", ADVICE) for level in levels]
    rows = [
        (_name(config, level), k)
        for level, part in zip(levels, parts, strict=True)
        for k in range(len(part["actions"]))
    ]
    actions = np.array([action for part in parts for action in part["actions"]], dtype=np.int64)
    write_labels(
        out / LABELS_FILE,
        [source for source, _ in rows],
        np.array([k for _, k in rows], dtype=np.int64),
        actions,
        kind="discrete",
        names=names,
        **_outcomes(parts),
    )
    counts = np.bincount(actions, minlength=len(names)).tolist()
    summary = RecordSummary(
        episodes=len(levels),
        frames=len(rows) + len(levels),
        transitions=len(rows),
        solved=float(np.mean([part["success"] for part in parts])),
        actions=dict(zip(names, counts, strict=True)),
    )
    write_json(work / "summary.json", asdict(summary))
    shutil.rmtree(work / "parts")  # from now on the label file alone holds actions
    return summary


def _outcomes(parts: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Rewards and ends; none if an episode was recorded by a version that did not keep them."""
    if not all("rewards" in part for part in parts):
        return {}
    rewards = np.array([reward for part in parts for reward in part["rewards"]], dtype=np.float32)
    last = np.cumsum([len(part["actions"]) for part in parts]) - 1
    ended = np.zeros(len(rewards), dtype=bool)
    ended[[row for row, part in zip(last, parts, strict=True) if part["ended"] and part["actions"]]] = True
    return {"reward": rewards, "ended": ended}


def _refuse_other(out: Path, work: Path, config: RecordConfig) -> None:
    """Only an empty folder will do, or one that this very recording was begun in."""
    path = work / "config.json"
    wanted = json.loads(config.model_dump_json())
    if path.is_file():
        found = read_json(path, "a recording's settings", ADVICE)
        if differing := [key for key in wanted if found.get(key) != wanted[key]]:
            key = differing[0]
            raise UserError(
                f"{out}: holds a recording with {key} {found.get(key)}, found {key} {wanted[key]}; "
                "give another folder, or delete this one"
            )
    elif any(out.glob("*")):
        raise UserError(f"{out}: expected an empty or a new folder; give another one")


def _part(work: Path, level: int) -> Path:
    return work / "parts" / f"{level:07d}.json"
