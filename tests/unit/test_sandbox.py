"""Decoding in a child process: it may die, hang or eat memory, and the parent goes on."""

import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

import numpy as np
import pytest

from genie_lite.data.cutting import sandbox as sandbox_module
from genie_lite.data.cutting.sandbox import Sandbox
from genie_lite.data.cutting.segment import IngestConfig
from genie_lite.data.video.codec import read_frames
from genie_lite.data.video.place import Place
from tests.videos import drifting, huge_gif, moving_square, truncate, write, write_foreign

CONFIG = IngestConfig(
    size_px=32,
    rate_hz=10.0,
    segment_frames=20,
    min_frames=4,
    letterbox=False,
    min_motion=0.0,
    near_duplicates=False,
)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(CONFIG) as sandbox:
        yield sandbox


def num_segments(sandbox: Sandbox, path: Path) -> int:
    result = sandbox.read(Place(path))
    result.close()
    return len(result.segments)


def test_a_decoder_that_hangs_or_crashes_is_replaced(sandbox: Sandbox, tmp_path: Path) -> None:
    good = write(tmp_path / "good.mp4", moving_square(8))
    os.mkfifo(tmp_path / "never.mp4")  # opening it waits for a writer that never comes
    assert num_segments(sandbox, good) == 1

    sandbox.silence_s = 0.5
    result = sandbox.read(Place(tmp_path / "never.mp4"))
    assert result.fault == "decoding hung: no sign of life for 0.5 s"
    assert not result.segments
    sandbox.silence_s = 60.0
    assert num_segments(sandbox, good) == 1

    killer = threading.Timer(0.3, sandbox.kill)
    killer.start()
    assert sandbox.read(Place(tmp_path / "never.mp4")).fault == "decoding crashed (SIGKILL)"
    killer.join()
    assert num_segments(sandbox, good) == 1


def test_a_file_that_breaks_off_gives_nothing_at_all(sandbox: Sandbox, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (90, 32, 32, 3), dtype=np.uint8)
    path = write_foreign(tmp_path / "a.mp4", noise, options={"movflags": "faststart"})
    result = sandbox.read(Place(truncate(path, 0.8)))
    assert result.fault is not None
    assert "broken or truncated after" in result.fault
    assert not result.segments


def test_a_file_that_takes_forever_is_given_up_though_it_shows_signs_of_life(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    good = write(tmp_path / "good.mp4", moving_square(8))
    assert num_segments(sandbox, good) == 1
    sandbox.patience_s = 0.0
    assert "more than 0 s" in str(sandbox.read(Place(good)).fault)
    sandbox.patience_s = 60.0
    assert num_segments(sandbox, good) == 1


def test_a_file_that_wants_more_memory_than_it_may_have_is_quarantined(tmp_path: Path) -> None:
    large = huge_gif(tmp_path / "large.gif", side_px=4000)  # 64 MB a frame
    good = write(tmp_path / "good.mp4", moving_square(8))
    with Sandbox(CONFIG) as sandbox:
        assert sandbox.read(Place(large)).fault is None
        sandbox.close()
        sandbox.memory_bytes = 60 << 20
        assert sandbox.read(Place(large)).fault == "not enough memory to decode it"
        assert num_segments(sandbox, good) == 1


def test_encoded_video_leaves_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox_module, "SPOOL_BYTES", 100)
    (tmp_path / "spool").mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (60, 32, 32, 3), dtype=np.uint8)
    with Sandbox(CONFIG.model_copy(update={"cuts": False}), tmp_path / "spool") as sandbox:
        result = sandbox.read(Place(write(tmp_path / "a.mp4", noise)))
        frames = [read_frames(segment.mp4) for segment in reversed(result.segments)]
    spools = [cast(IO[bytes], segment.spool) for segment in result.segments]
    on_disk = [os.fstat(spool.fileno()).st_size for spool in spools]
    result.close()
    assert on_disk == [sum(segment.size for segment in result.segments)] * 3
    np.testing.assert_allclose(np.concatenate(frames[::-1]), noise, atol=80)
    assert not list((tmp_path / "spool").iterdir())  # nothing to sweep up after a crash either


def test_figures_tell_how_a_video_was_cut(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"letterbox": True, "min_motion": 0.3})
    content = drifting(20, 64, 96)
    boxed = np.pad(content, ((0, 0), (16, 16), (0, 0), (0, 0)))
    path = write_foreign(tmp_path / "a.mp4", boxed, rate=10, rotation=-90)
    plain = write_foreign(tmp_path / "b.mp4", content, rate=10)
    with Sandbox(config) as sandbox:
        found, other = (sandbox.read(Place(each)) for each in (path, plain))
    assert (found.figures["rotation"], found.figures["letterbox"]) == (90, [0, 0, 16, 16])
    assert (other.figures["rotation"], "letterbox" in other.figures) == (0, False)
    assert (found.figures["frozen"], found.figures["dropped"]) == (0, {})
    (segment,) = found.segments
    assert {"motion", "brightness"} <= segment.about.keys()
    for result in (found, other):
        result.close()


def test_a_shared_file_is_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.mp4", moving_square(8))
    opened: list[Path] = []
    really = Place.open
    monkeypatch.setattr(Place, "open", lambda place: opened.append(place.path) or really(place))

    def digest(place: Place) -> str:
        return sandbox_module._sha256_of(place, lambda: None)  # type: ignore[arg-type]

    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    assert {digest(Place(path, span_s=(float(k), k + 1.0))) for k in range(5)} == {expected}
    assert len(opened) == 1
    assert digest(Place(path, 4)) == hashlib.sha256(path.read_bytes()[4:]).hexdigest()
    path.write_bytes(b"another one")
    assert digest(Place(path)) == hashlib.sha256(b"another one").hexdigest()
