"""Statistics of features as LeRobot and GR00T keep them: min, max, mean, std, count and quantiles, per component.

Those of an episode are exact. Those of a dataset are put together from its episodes' (exact but for the quantiles,
which are of every so many-th row, so that there are never more than a million), and those of cameras are of a few
pictures per episode, where the source does not tell them. A number that is none (NaN, infinite) is passed over, and
where a component has no other its statistics are 0: NaN is no JSON, and GR00T and LeRobot divide by these.

Source: github.com/huggingface/lerobot, datasets/compute_stats.py, for names, shapes and the weighting by count.
Differs: quantiles of a dataset are of its rows; there they are means of the episodes' quantiles.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import islice

import numpy as np

from genie_lite.data.video.codec import probe, read_frames, sample
from genie_lite.data.video.container import BadVideo
from genie_lite.data.video.place import Place
from genie_lite.latents.formats.episodes import Clip, Stats

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
MAX_ROWS = 1_000_000  # that quantiles of a dataset are of
PICTURES = 4  # of a video


def describe(values: np.ndarray) -> Stats | None:
    """Of the finite values of rows, per component; a scalar feature has one. None where there is no row."""
    if not len(values):
        return None
    rows = np.asarray(values, dtype=np.float64).reshape(len(values), *(values.shape[1:] or (1,)))
    rows, is_known = _known(rows)
    with np.errstate(all="ignore"):
        stats = {
            "min": np.nanmin(rows, axis=0),
            "max": np.nanmax(rows, axis=0),
            "mean": np.nanmean(rows, axis=0),
            "std": np.nanstd(rows, axis=0),
        }
    stats |= {"count": np.array([int(is_known.any(axis=tuple(range(1, rows.ndim))).sum())])}
    stats |= dict(zip(QUANTILES, _quantiles(rows), strict=True))
    return {name: value.tolist() for name, value in stats.items()}


def _known(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows with NaN for what is not finite, 0 where a component has nothing else; and what was finite."""
    is_known = np.isfinite(rows)
    if is_known.all():
        return rows, is_known
    none = ~is_known.any(axis=0)
    return np.where(none, 0.0, np.where(is_known, rows, np.nan)), is_known


def _quantiles(rows: np.ndarray) -> np.ndarray:
    """Of each component; `nanquantile` takes a hundred times as long."""
    quantile = np.nanquantile if np.isnan(rows).any() else np.quantile
    return quantile(rows, list(QUANTILES.values()), axis=0)


def describe_clip(clip: Clip, num_frames: int) -> Stats:
    """Of a few of the pictures of a video, per channel as (3, 1, 1), with colours from 0 to 1.

    Raises:
        BadVideo: no picture can be decoded.
    """
    if isinstance(clip, Place):
        probe(clip)  # says what is wrong with it, where `sample` only ends
        pictures = [
            each.image.to_ndarray(format="rgb24") for each in islice(sample(clip, PICTURES), PICTURES)
        ]
        if not pictures:
            raise BadVideo(clip.path, "no picture could be decoded")
    else:
        pictures = list(read_frames(clip, list(range(0, num_frames, -(-num_frames // PICTURES)))))
    stats = describe(np.concatenate([picture.reshape(-1, 3) for picture in pictures]) / 255)
    assert stats is not None
    shaped = {name: np.reshape(value, (3, 1, 1)).tolist() for name, value in stats.items() if name != "count"}
    return shaped | {"count": [len(pictures)]}


class Totals:
    """Statistics of a dataset, gathered episode by episode.

    Args:
        rows: that there will be, about.
    """

    def __init__(self, rows: int) -> None:
        self._every = -(-max(rows, 1) // MAX_ROWS)
        self._episodes: dict[str, list[Stats]] = defaultdict(list)
        self._samples: dict[str, list[np.ndarray]] = defaultdict(list)

    def add(self, name: str, stats: Stats | None, values: np.ndarray | None = None) -> None:
        """The statistics of one feature in one episode, and its rows where they are at hand."""
        if stats is not None:
            self._episodes[name].append(stats)
        if values is not None:
            self._samples[name].append(values[:: self._every])

    def result(self) -> dict[str, Stats]:
        """By feature; those that had no row are left out."""
        return {name: self._total(name) for name in self._episodes}

    def _total(self, name: str) -> Stats:
        total = combine(self._episodes[name])
        if name in self._samples:
            rows = np.concatenate(self._samples[name]).astype(np.float64)
            rows = rows.reshape(len(rows), *(rows.shape[1:] or (1,)))
            total |= dict(zip(QUANTILES, _quantiles(_known(rows)[0]).tolist(), strict=True))
        return total


def combine(parts: Sequence[Stats]) -> Stats:
    """Of several episodes from those of each, without quantiles."""
    parts = [part for part in parts if part["count"] != [0]] or parts
    count = np.array([part["count"] for part in parts], dtype=np.float64)
    mean = np.array([part["mean"] for part in parts], dtype=np.float64)
    weight = (count / max(count.sum(), 1)).reshape(len(parts), *[1] * (mean.ndim - 1))
    total = (weight * mean).sum(axis=0)
    spread = np.array([part["std"] for part in parts], dtype=np.float64) ** 2 + (mean - total) ** 2
    return {
        "min": np.min([part["min"] for part in parts], axis=0).tolist(),
        "max": np.max([part["max"] for part in parts], axis=0).tolist(),
        "mean": total.tolist(),
        "std": np.sqrt((weight * spread).sum(axis=0)).tolist(),
        "count": [int(count.sum())],
    }


def is_complete(stats: Stats | None) -> bool:
    """Whether a source tells enough of a camera: a finite number per channel each."""
    if not isinstance(stats, dict):
        return False
    try:
        told = [np.asarray(stats.get(name), dtype=np.float64) for name in ("min", "max", "mean", "std")]
        count = np.asarray(stats.get("count"), dtype=np.float64)
    except (ValueError, TypeError):
        return False
    is_shaped = all(each.shape == (3, 1, 1) and np.isfinite(each).all() for each in told)
    return is_shaped and count.shape == (1,) and bool(count[0] > 0) and bool(np.isfinite(count[0]))
