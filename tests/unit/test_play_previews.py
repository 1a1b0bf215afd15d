"""Moving pictures of what codes do: made once, from where they do something, and kept."""

import io
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from genie_lite.errors import UserError
from genie_lite.models.sampling import SamplingConfig
from genie_lite.models.world import World
from genie_lite.play.previews import NUM_FRAMES, Previews, difference
from genie_lite.play.shelf import Shelf
from genie_lite.play.starts import Start, Starts
from tests import models
from tests.play_runs import noise


@pytest.fixture
def world() -> World:
    return World(models.tokenizer(), models.lam(), models.dynamics(), SamplingConfig(refinements=2))


def previews(world: World, run: Path, num_starts: int = 4, dynamics: str = "a" * 64) -> Previews:
    starts = Starts(lambda: [Start(str(k), lambda k=k: noise(seed=k)) for k in range(num_starts)])
    return Previews(world, starts, Shelf(run, "key"), dynamics, 10.0)


def frames_of(webp: bytes) -> np.ndarray:
    image, frames = Image.open(io.BytesIO(webp)), []
    assert image.format == "WEBP"
    for number in range(image.n_frames):  # pyright: ignore[reportAttributeAccessIssue]
        image.seek(number)
        frames.append(np.asarray(image.convert("RGB")))
    return np.stack(frames)


def test_a_preview_shows_the_start_and_what_followed(world: World, tmp_path: Path) -> None:
    frames = frames_of(previews(world, tmp_path).get(2))
    assert frames.shape[1:] == (128, 128, 3)
    assert 2 <= len(frames) <= NUM_FRAMES + 1  # equal frames are one that lasts longer


def test_it_is_made_once_and_kept(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = previews(world, tmp_path).get(2)
    assert (tmp_path / "play" / "previews" / ("a" * 16) / "2.webp").read_bytes() == first
    monkeypatch.setattr(World, "step", None)  # nothing is computed any more
    assert previews(world, tmp_path).get(2) == first


def test_all_codes_of_a_small_alphabet_are_played_once(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = previews(world, tmp_path)
    made.get(0)
    monkeypatch.setattr(World, "step", None)
    assert len({made.get(code) for code in range(world.num_codes)}) > 1


def test_of_a_large_alphabet_some_are_compared(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = previews(world, tmp_path / "whole", num_starts=1).get(3)
    monkeypatch.setattr("genie_lite.play.previews.MOST_RIVALS", 2)
    # With a single start to choose there is nothing to compare, and the film is the same.
    assert previews(world, tmp_path / "some", num_starts=1).get(3) == whole


def test_where_nothing_can_be_kept_it_is_shown_all_the_same(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "play").write_text("in the way")
    (tmp_path / "home").write_text("in the way")
    monkeypatch.setenv("GENIE_LITE_HOME", str(tmp_path / "home"))
    with pytest.warns(UserWarning, match="cannot be written"):
        assert previews(world, tmp_path).get(0)[:4] == b"RIFF"


def test_previews_of_other_weights_are_not_taken(world: World, tmp_path: Path) -> None:
    previews(world, tmp_path).get(0)
    previews(world, tmp_path, dynamics="b" * 64).get(0)
    assert len(list((tmp_path / "play" / "previews").iterdir())) == 2


def test_what_is_no_picture_is_made_again(world: World, tmp_path: Path) -> None:
    path = tmp_path / "play" / "previews" / ("a" * 16) / "1.webp"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"<script>alert(1)</script>")
    assert frames_of(previews(world, tmp_path).get(1)).ndim == 4
    assert path.read_bytes()[:4] == b"RIFF"


def test_the_liveliest_start_is_taken() -> None:
    still = torch.zeros(7, 3, 4, 4)
    assert difference(still, torch.zeros(2, 7, 3, 4, 4)) == 0
    moving = still.clone()
    moving[1:] = 0.5
    assert difference(moving, torch.zeros(2, 7, 3, 4, 4)) == pytest.approx(0.5)
    assert difference(moving, moving[None].expand(2, -1, -1, -1, -1)) == 0  # all codes do the same
    assert difference(moving, torch.zeros(0, 7, 3, 4, 4)) == pytest.approx(0.5)


def test_where_a_world_falls_apart_late_counts_for_nothing() -> None:
    late = torch.zeros(7, 3, 4, 4)
    late[4:] = 1
    assert difference(late, torch.zeros(2, 7, 3, 4, 4)) == 0


def test_two_that_ask_at_once_get_the_same(world: World, tmp_path: Path) -> None:
    made, found = previews(world, tmp_path), []
    threads = [threading.Thread(target=lambda: found.append(made.get(1))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3
    assert len(set(found)) == 1


def test_a_server_that_ends_waits_for_no_preview(world: World, tmp_path: Path) -> None:
    made = previews(world, tmp_path)
    made.close()
    with pytest.raises(UserError, match="previews: closed"):
        made.get(0)


def test_what_cannot_be_shown_is_told(world: World, tmp_path: Path) -> None:
    for code in (-1, 4):
        with pytest.raises(UserError, match=f"code: found {code}, expected 0 to 3"):
            previews(world, tmp_path).get(code)
    with pytest.raises(UserError, match="the run brings no frames to begin from"):
        previews(world, tmp_path, num_starts=0).get(0)
