"""A real game beside a world, in its real engine. Needs the engine: `make test` installs it."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from genie_lite.data.video.picture import fit_pixels
from genie_lite.envs.games import COINRUN_ACTIONS, game_of
from genie_lite.play.twin import Twins
from tests import models
from tests.browser.conftest import Join
from tests.playing import SIZE_PX, ToyControls, offer, served

LEVEL = 3
KEYS = {"ArrowRight": "right", "ArrowUp": "up", "ArrowLeft": "left"}


@pytest.fixture(scope="module")
def coinrun(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an untrained world of CoinRun's actions, with CoinRun itself."""
    names = tuple(COINRUN_ACTIONS)
    tiny = offer(tmp_path_factory.mktemp("coinrun"), game=True)
    controls = ToyControls("discrete", names, (), (), tiny.world.num_codes)
    twins = Twins("coinrun", names, models.FRAME_HW, "crop")
    with served(replace(tiny, controls=controls, policies={}, twins=twins)) as address:
        yield address


def real_frames(actions: list[str]) -> list[np.ndarray]:
    """What the engine shows when it is played without any page, from the first frame on."""
    with closing(game_of("coinrun").open(1)) as env:
        frames = [env.reset([LEVEL])[0].copy()]
        for name in actions:
            frames.append(env.step(np.array([env.action_names.index(name)])).frames[0].copy())
    return list(fit_pixels(np.stack(frames), SIZE_PX, "crop"))


def test_coinrun_itself_is_played_with_the_same_keys_from_the_same_level(coinrun: str, join: Join) -> None:
    player = join(coinrun)
    player.page.fill("#level", str(LEVEL))
    player.page.click("#level-form button")
    player.expect_moment(0, 0)
    player.page.check("#twin")
    player.page.wait_for_selector("#twin-game[data-frame='0']")
    keys = ["ArrowRight"] * 4 + ["ArrowUp", "ArrowLeft"]
    wanted = real_frames([KEYS[key] for key in keys])
    assert (player.pixels("twin-game") == wanted[0]).all()
    assert (player.pixels() == wanted[0]).all()
    for number, key in enumerate(keys, start=1):
        player.press(key)
        player.page.wait_for_selector(f"#twin-game[data-frame='{number}']")
        assert (player.pixels("twin-game") == wanted[number]).all()
    assert (wanted[-1] != wanted[0]).any()
    player.photograph("coinrun")
    player.page.keyboard.press("Home")
    player.page.wait_for_selector("#twin-game[data-frame='0']")
    assert (player.pixels("twin-game") == wanted[0]).all()
