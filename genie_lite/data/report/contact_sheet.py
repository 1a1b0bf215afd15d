"""Pictures of clips for a page: which to show, and each as a strip of frames from its first to its last."""

import base64
import io
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from einops import rearrange
from jaxtyping import UInt8
from PIL import Image

from genie_lite.data.report.facts import ClipFact, one_per_source, spread
from genie_lite.data.report.survey import Row, Survey, length_s, text

FIGURES = ("motion", "brightness", "quality")  # of a clip, where known
SHEET_CLIPS = 24
EXTREME_CLIPS = 6
FEWEST_CUTS = 3  # sources shown that were cut; if there are fewer worth it, some drawn by chance
CUT_CLIPS = 12  # of one source
MOST_SPANS = 500  # of one source; more would be thinner than a pixel

STRIP_FRAMES = 6
FRAME_PX = 96  # at most; a page holds a hundred strips
GAP_PX = 2
QUALITY = 78

Progress = Callable[[int, int], None]


class Gallery:
    """The pictures of a page: chosen when it is made, drawn by `tree`."""

    def __init__(self, survey: Survey, facts: Sequence[ClipFact], rate_hz: float) -> None:
        self._rate_hz = rate_hz
        self._sheet = spread(facts, SHEET_CLIPS)
        self._ends = {figure: _both_ends(facts, figure) for figure in FIGURES}
        self._cuts = _cut_sources(survey, facts)
        self._drawn: dict[str, str | None] = {}

    def tree(self, progress: Progress = lambda done, total: None) -> dict[str, Any]:
        """Pictures and what is said beside them: `sheet`; `ends` by figure, the low and the high; `cuts`."""
        ends = [fact for both in self._ends.values() for end in both for fact in end]
        clips = {fact.key: fact for fact in [*self._sheet, *ends]}
        total = len(clips) + len(self._cuts)
        for fact in clips.values():
            self._drawn[fact.key] = strip(fact)
            progress(len(self._drawn), total)
        cuts = []
        for why, row, own in self._cuts:
            cuts.append(_cut(why, row, own, self._rate_hz))
            progress(len(clips) + len(cuts), total)
        return {
            "sheet": self._shown(self._sheet),
            "ends": {
                figure: [self._shown(end) for end in both] for figure, both in self._ends.items() if both[0]
            },
            "cuts": cuts,
        }

    def _shown(self, facts: Sequence[ClipFact]) -> list[dict[str, Any]]:
        return [{"picture": self._drawn[fact.key], "fact": fact} for fact in facts]


def extreme(valued: Sequence[tuple[float, ClipFact]], num: int) -> list[ClipFact]:
    """The clips of least value, lowest first; no second one of a source where others are left."""
    values = {fact.key: value for value, fact in valued}

    def order(fact: ClipFact) -> tuple[float, str]:
        return values[fact.key], fact.key

    return sorted(one_per_source([fact for _, fact in valued], num, order, order), key=order)


def strip(fact: ClipFact) -> str | None:
    """A clip's frames, evenly spread in time, as the address of a picture; None if it cannot be decoded."""
    places = np.linspace(0, fact.num_frames - 1, min(STRIP_FRAMES, fact.num_frames))
    frames = fact.frames([round(place) for place in places.tolist()])
    return None if frames is None else picture(frames)


def picture(frames: UInt8[np.ndarray, "t h w c"]) -> str:
    """Frames side by side as a WebP, as an address that stands in a page."""
    small = np.stack([_small(frame) for frame in frames])
    alpha = np.full_like(small[..., :1], 255)
    spaced = np.pad(np.concatenate([small, alpha], axis=3), ((0, 0), (0, 0), (0, GAP_PX), (0, 0)))
    file = io.BytesIO()
    wide = rearrange(spaced, "t h w c -> h (t w) c")[:, :-GAP_PX]
    Image.fromarray(np.ascontiguousarray(wide)).save(file, "WEBP", quality=QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def _small(frame: UInt8[np.ndarray, "h w c"]) -> UInt8[np.ndarray, "y x c"]:
    height, width, _ = frame.shape
    scale = FRAME_PX / max(height, width)
    if scale >= 1:
        return frame
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA))


def _both_ends(facts: Sequence[ClipFact], figure: str) -> tuple[list[ClipFact], list[ClipFact]]:
    """The clips where a figure is lowest, and where it is highest."""
    valued = [(value, fact) for fact in facts if (value := getattr(fact, figure)) is not None]
    num = min(EXTREME_CLIPS, (len(valued) + 1) // 2)  # of few clips, none at both ends
    return extreme(valued, num), extreme([(-value, fact) for value, fact in valued], num)


def _cut_sources(survey: Survey, facts: Sequence[ClipFact]) -> list[tuple[str, Row, list[ClipFact]]]:
    """Sources worth a look at how they were cut, why they are, and their clips in order."""
    wanted: dict[str, tuple[str, Row]] = {}
    for why, rows in (
        ("among those of most clips", survey.most_clips.rows),
        ("among those of which least is kept", survey.least_kept.rows),
    ):
        for row in rows:
            wanted.setdefault(text(row, "source"), (why, row))
    for row in survey.drawn.rows[: max(0, FEWEST_CUTS - len(wanted))]:
        wanted.setdefault(text(row, "source"), ("drawn by chance", row))
    own: dict[str, list[ClipFact]] = defaultdict(list)
    for fact in facts:
        if fact.source in wanted:
            own[fact.source].append(fact)
    return [
        (why, row, sorted(own[name], key=lambda fact: fact.segment))
        for name, (why, row) in wanted.items()
        if name in own
    ]


def _cut(why: str, row: Row, own: Sequence[ClipFact], rate_hz: float) -> dict[str, Any]:
    """One source: its time line in percent, and the middle frame of some of its clips."""
    end_s = max(fact.end_s for fact in own)
    total_s = length_s(row) or max(end_s, 1 / rate_hz)
    origin_s = max(0.0, end_s - total_s)  # the clock of a recording may begin anywhere
    places = np.linspace(0, len(own) - 1, min(CUT_CLIPS, len(own)))
    shown = [own[round(place)] for place in places.tolist()]
    return {
        "why": why,
        "row": row,
        "seconds": total_s,
        "clips": len(own),
        "share": min(sum(fact.num_frames for fact in own) / rate_hz / total_s, 1.0),
        "spans": [
            {
                "fact": fact,
                "left": 100 * (fact.begin_s - origin_s) / total_s,
                "width": 100 * (fact.end_s - fact.begin_s) / total_s,
            }
            for fact in own[:MOST_SPANS]
        ],
        "middles": [{"picture": _middle(fact), "fact": fact} for fact in shown],
    }


def _middle(fact: ClipFact) -> str | None:
    frames = fact.frames([fact.num_frames // 2])
    return None if frames is None else picture(frames)
