"""A Chromium for the tests of the page, and tiny worlds to play in it.

All of a module: a server has threads, and what other tests fork beside them may hang on a lock that one of them holds.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, expect, sync_playwright

from genie_lite.play.offer import open_offer
from tests.browser.player import Player
from tests.play_runs import NOT_RECORDED, write_run
from tests.playing import offer, served

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

PATIENCE_MS = 30_000  # a busy machine is slow; nobody waits this long on another

expect.set_options(timeout=PATIENCE_MS)

Join = Callable[..., Player]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, as the machine has it or as CHROMIUM names it.

    Of a module: while Playwright is open its event loop runs in this thread, and no other test could run one.
    """
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    assert chromium, "no Chromium found; install it, or name one with CHROMIUM=/path"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))
        yield started
        started.close()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of untrained models that nobody has adapted: it is played by its codes."""
    return write_run(tmp_path_factory.mktemp("page") / "tiny", *NOT_RECORDED)


@pytest.fixture(scope="module")
def codes(run: Path) -> Iterator[str]:
    """The address of a server of that run."""
    with served(open_offer(run)) as address:
        yield address


@pytest.fixture(scope="module")
def game(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a world with real actions, policies and its real game."""
    with served(offer(tmp_path_factory.mktemp("game"), game=True)) as address:
        yield address


@pytest.fixture(scope="module")
def arm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a world whose actions are vectors of two components."""
    with served(offer(tmp_path_factory.mktemp("arm"), arm=True)) as address:
        yield address


@pytest.fixture
def join(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Join]:
    """Lets a player come to an address, each with a window of their own: join(address, hash="", **window)."""
    photographs = request.config.getoption("--pictures")
    with contextlib.ExitStack() as windows:

        def come(address: str, hash: str = "", *, wait: bool = True, **window: object) -> Player:
            options = {"viewport": {"width": 1280, "height": 800}, "reduced_motion": "reduce"} | window
            context: BrowserContext = browser.new_context(**options)  # type: ignore[arg-type]
            windows.callback(context.close)
            context.set_default_timeout(PATIENCE_MS)
            player = Player(context.new_page(), address, photographs)
            player.visit(hash)
            if wait:
                player.expect_state("ready", "playing")
            return player

        yield come
