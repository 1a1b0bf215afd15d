"""Which rows of the latents belong to which episode, and these rows laid beside its frames.

A robot's video is called in the latents as ingest called it: its path below the dataset, behind folders where the
dataset lay in a larger one or several datasets call an episode the same. A shot is found by its key.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from genie_lite.errors import UserError
from genie_lite.latents.formats.episodes import Episode, Episodes
from genie_lite.latents.formats.names import SPLITS
from genie_lite.latents.formats.rows import Rows
from genie_lite.latents.table import NO_CODE, Latents


@dataclass(frozen=True)
class Aligned:
    """Latent actions of an episode, a row per frame of it; what has none is not valid.

    code: (n,) int64, -1 where not valid. tokens: (n, m) int64, likewise. embedding: (n, d) float32, 0 there.
    valid: (n,) bool. horizon: (n,) int64, frames of the episode from one to the one it leads to, 0 where not valid.
    dt_s: (n,) float32, the same in seconds. source, camera, split: of the video they were read from, "" where none was.
    action: (n, a) float32, the continuous labels that extract was given, NaN where there is none; None without labels.
    """

    code: np.ndarray
    tokens: np.ndarray
    embedding: np.ndarray
    valid: np.ndarray
    horizon: np.ndarray
    dt_s: np.ndarray
    source: str = ""
    camera: str = ""
    split: str = ""
    action: np.ndarray | None = None


class Join:
    """Finds the rows of an episode.

    Args:
        rows: the latents.
        episodes: whose rows are wanted.

    Raises:
        UserError: no row is of these episodes, or nobody can tell of which of several datasets they are.
    """

    def __init__(self, rows: Rows, episodes: Episodes) -> None:
        self.rows = rows
        self._prefix = _prefix(rows, episodes) if episodes.names else ""
        own = {self._prefix + name for name in episodes.names}
        self.sources = frozenset(own & set(rows.sources)) if episodes.names else None

    def of(self, episode: Episode) -> Aligned:
        """The latents of one episode.

        Raises:
            UserError: there are latents of two of its cameras.
        """
        if episode.key is not None:
            camera = next(iter(episode.clips))
            return self._aligned(self.rows.of_key(episode.key), episode, episode.name, camera)
        found = [
            (camera, self._prefix + name)
            for camera, name in episode.names.items()
            if self._prefix + name in self.rows.sources
        ]
        if len(found) > 1:
            cameras = ", ".join(camera for camera, _ in found)
            raise UserError(
                f"{self.rows.folder}: {episode.name} has latents of {len(found)} cameras ({cameras}), expected one; "
                "extract from one camera"
            )
        if not found:
            return self._aligned(None, episode, "", "")
        camera, source = found[0]
        return self._aligned(self.rows.of_source(source), episode, source, camera)

    def _aligned(self, rows: Latents | None, episode: Episode, source: str, camera: str) -> Aligned:
        num = len(episode)
        code = np.full(num, NO_CODE, dtype=np.int64)
        tokens = np.full((num, self.rows.num_tokens), NO_CODE, dtype=np.int64)
        embedding = np.zeros((num, self.rows.width), dtype=np.float32)
        valid = np.zeros(num, dtype=bool)
        horizon, dt_s = np.zeros(num, dtype=np.int64), np.zeros(num, dtype=np.float32)
        action, split = None, ""
        if rows is not None:
            places = _places(episode.frames, rows.frame_index)
            ends = _places(episode.frames, rows.frame_index + rows.horizon_frames)
            # A frame that the episode lacks, at either end: the label would be of another transition.
            used = np.flatnonzero(rows.valid & (places >= 0) & (ends >= 0))
            at = places[used]
            code[at], tokens[at] = rows.code[used], rows.tokens[used]
            embedding[at], dt_s[at] = rows.embedding[used], rows.dt_s[used]
            valid[at], horizon[at] = True, ends[used] - at
            split = self._split(rows, source)
            if rows.action is not None and rows.action.ndim == 2:
                action = np.full((num, rows.action.shape[1]), np.nan, dtype=np.float32)
                action[places[places >= 0]] = rows.action[places >= 0]
        return Aligned(code, tokens, embedding, valid, horizon, dt_s, source, camera, split, action)

    def _split(self, rows: Latents, source: str) -> str:
        split = str(rows.split[0])
        if split not in SPLITS:
            raise UserError(
                f"{self.rows.folder}: {source} is of split {split!r}, expected {' or '.join(SPLITS)}; mend the "
                "shards and extract again"
            )
        return split


def _places(frames: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Position of each wanted index among ascending ones, -1 where it is not there."""
    places = np.minimum(np.searchsorted(frames, wanted), len(frames) - 1)
    return np.where(frames[places] == wanted, places, -1)


def _prefix(rows: Rows, episodes: Episodes) -> str:
    """What stands before the names of this dataset's videos in the latents, with its slash."""
    found = Counter(
        prefix for source in rows.sources for prefix, rest in _splits(source) if rest in episodes.names
    )
    if not found:
        raise UserError(
            f"{rows.folder}: no latents of {episodes.place}; they are of videos such as {min(rows.sources)}, expected "
            f"names such as {min(episodes.names)}; extract from this dataset"
        )
    folders = Path(episodes.place).resolve().parts
    fitting = [
        prefix
        for prefix in found
        if prefix and folders[-prefix.count("/") :] == tuple(prefix[:-1].split("/"))
    ]
    left = fitting or list(found)
    if len(left) > 1:
        raise UserError(
            f"{rows.folder}: latents of several datasets ({', '.join(sorted(left))}), and none is called as "
            f"{episodes.place}; extract from this dataset alone"
        )
    return left[0]


def _splits(source: str) -> Iterator[tuple[str, str]]:
    """Every way to take folders off the front of a name."""
    yield "", source
    for place, letter in enumerate(source):
        if letter == "/":
            yield source[: place + 1], source[place + 1 :]
