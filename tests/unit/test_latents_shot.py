"""What samples say of their own frames: whoever wrote them, one that cannot be is told in one line."""

from typing import Any

import numpy as np
import pytest

from genie_lite.data.shards.shards import Sample
from genie_lite.errors import UserError
from genie_lite.latents.shot import Shot

META = {
    "source": "a.mp4",
    "split": "train",
    "num_frames": 3,
    "source_frames": [0, 3, 6],
    "times_s": [0.0, 0.1, 0.2],
    "source_rate_hz": 30.0,
}


def shot(**changes: Any) -> Shot:
    """Of a sample with these entries; those that are `...` are left out."""
    meta = {name: value for name, value in (META | changes).items() if value is not ...}
    return Shot.of(Sample("a-0", b"", meta), "train")


def test_frames_and_times_are_taken_as_they_are() -> None:
    found = shot()
    assert found.source == "a.mp4"
    assert (found.native.tolist(), found.native.dtype) == ([0, 3, 6], np.int64)
    assert found.times_s.tolist() == [0.0, 0.1, 0.2]
    assert shot(source_frames=[0, 0, 1]).native.tolist() == [0, 0, 1], (
        "a rate above the video's repeats frames"
    )
    assert shot(times_s=[0, 1, 1.5]).times_s.tolist() == [0.0, 1.0, 1.5]


def test_times_follow_from_the_rate_where_they_are_not_stated() -> None:
    assert shot(times_s=...).times_s.tolist() == [0.0, 0.1, 0.2]
    assert shot(source_rate_hz=...).times_s.tolist() == [0.0, 0.1, 0.2], "nor is the rate needed beside them"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"source": {"a": 1}}, r"source: found \{'a': 1\}, expected a name"),
        ({"source": ""}, "source: found '', expected a name"),
        ({"source": ...}, "source: found None"),
        ({"source": "a\udcff.mp4"}, "source: .* UTF-8"),
        ({"split": ["train"]}, "split: found"),
        ({"split": ...}, "split: found None"),
        ({"split": "../../evil"}, r"split: found '\.\./\.\./evil', its shard is of 'train'"),
        ({"source_frames": ...}, "source_frames: found None"),
        ({"source_frames": "012"}, "source_frames: found '012', expected one entry per frame"),
        ({"source_frames": [0, 3]}, "source_frames: found 2 entries, expected one for each of 3 frames"),
        ({"source_frames": [6, 3, 0]}, "source_frames: found 3 after 6, expected an ascending order"),
        ({"source_frames": [-1, 3, 6]}, "source_frames: found -1, expected indices"),
        ({"source_frames": [0, 3, 10**30]}, "source_frames: found 10+, expected indices"),
        ({"source_frames": [0, 3, 2**31]}, "source_frames: found 2147483648, expected indices"),
        ({"source_frames": [0, 3, 6.0]}, r"source_frames: found 6\.0"),
        ({"source_frames": [False, True, 6]}, "source_frames: found False"),
        ({"source_frames": [0, 3, [6]]}, r"source_frames: found \[6\]"),
        ({"source_frames": [0, 3, "6" * 100]}, "source_frames: found '6{39}…"),
        ({"times_s": [0.0]}, "times_s: found 1 entries, expected one for each of 3 frames"),
        ({"times_s": {}}, r"times_s: found \{\}"),
        ({"times_s": None}, "times_s: found None"),
        ({"times_s": [0.0, 0.2, 0.1]}, r"times_s: found 0\.1 after 0\.2"),
        ({"times_s": [0.0, 0.1, float("nan")]}, "times_s: found nan, expected seconds"),
        ({"times_s": [0.0, 0.1, float("inf")]}, "times_s: found inf"),
        ({"times_s": [0, 1, 10**400]}, "times_s: found 10+…, expected seconds"),
        ({"times_s": [0.0, 0.1, "0.2"]}, r"times_s: found '0\.2'"),
        ({"times_s": ..., "source_rate_hz": ...}, "source_rate_hz: found None"),
        ({"times_s": ..., "source_rate_hz": 0}, "source_rate_hz: found 0"),
        ({"times_s": ..., "source_rate_hz": "30"}, "source_rate_hz: found '30'"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=rf"^sample a-0: {said}") as error:
        shot(**changes)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 160
