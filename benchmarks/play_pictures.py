"""The pictures of docs/play.md and the recording in the README, made by playing a run in the real page.

    python benchmarks/play_pictures.py RUN docs/images

Writes play-*.png, one of each state of the page, and play.webp, a recording of about 20 seconds. Needs Chromium.
"""

import argparse
import base64
import io
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

WIDE, SMALL = {"width": 1280, "height": 800}, {"width": 360, "height": 740}
FILM_PX = (960, 600)
FILM_HZ = 8
MOST_S = 22  # of the recording: a slow machine plays on longer
MOST_BYTES = 3 * 2**20
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--hide-scrollbars")
# One walk through the page, right and down and back, that shows something in a game of four directions and elsewhere.
WALK = ("ArrowRight", "ArrowUp", "ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp")


@dataclass
class Film:
    """What Chromium shows while it is recorded: each picture with its time, as the page changes."""

    page: Page
    pictures: list[tuple[float, bytes]] = field(default_factory=list)

    @contextmanager
    def rolling(self) -> Iterator[None]:
        """Record what happens meanwhile."""
        link = self.page.context.new_cdp_session(self.page)

        def take(event: dict) -> None:
            self.pictures.append((event["metadata"]["timestamp"], base64.b64decode(event["data"])))
            link.send("Page.screencastFrameAck", {"sessionId": event["sessionId"]})

        link.on("Page.screencastFrame", take)
        link.send("Page.startScreencast", {"format": "png", "everyNthFrame": 1})
        yield
        link.remove_listener("Page.screencastFrame", take)  # what comes late finds nobody to answer
        link.send("Page.stopScreencast")

    def webp(self, quality: int) -> bytes:
        """As an animated WebP at an even rate; a picture stands until the next one."""
        begin, end = self.pictures[0][0], self.pictures[-1][0]
        times = [begin + number / FILM_HZ for number in range(int(min(end - begin, MOST_S) * FILM_HZ) + 1)]
        latest = 0
        frames: list[Image.Image] = []
        for at in times:
            while latest + 1 < len(self.pictures) and self.pictures[latest + 1][0] <= at:
                latest += 1
            picture = Image.open(io.BytesIO(self.pictures[latest][1])).convert("RGB")
            frames.append(picture.resize(FILM_PX, Image.Resampling.LANCZOS))
        file = io.BytesIO()
        frames[0].save(
            file, "WEBP", save_all=True, append_images=frames[1:], duration=1000 // FILM_HZ, loop=0,
            quality=quality, method=4, minimize_size=False,
        )  # fmt: skip
        return file.getvalue()


def main() -> None:
    """Parse the command line, play, and write everything."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--no-film", action="store_true", help="leave out the recording")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with served(given.run) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(ARGUMENTS))
        take_pictures(browser, address, given.out)
        if not given.no_film:
            write_film(browser, address, given.out / "play.webp")
        browser.close()


@contextmanager
def served(run: Path) -> Iterator[str]:
    """A server of a run, as a user starts it; gives its address."""
    command = [sys.executable, "-m", "genie_lite", "play", str(run), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            found = re.search(r"http://(\S+:\d+)", server.stdout.readline())
            assert found, "the server did not start"
            yield found.group(1)
        finally:
            server.terminate()


def take_pictures(browser: Browser, address: str, out: Path) -> None:
    """One picture of each state."""
    for scheme in ("light", "dark"):
        page = come(browser, address, color_scheme=scheme)
        page.wait_for_timeout(1500)
        shoot(page, out, f"ready-{scheme}")
        walk(page, 3)
        shoot(page, out, f"playing-{scheme}")
        branch(page)
        shoot(page, out, f"branches-{scheme}")
        page.context.close()
    for name, act in (
        ("codes", codes),
        ("twin", twin),
        ("link", link),
        ("help", help_),
        ("refused", refused),
    ):
        page = come(browser, address)
        if act(page):
            shoot(page, out, name)
        page.context.close()
    page = come(browser, address, viewport=SMALL, device_scale_factor=2)
    walk(page, 2)
    shoot(page, out, "small")
    page.context.close()


def write_film(browser: Browser, address: str, path: Path) -> None:
    """Somebody plays for about 20 seconds: acts, rewinds, branches, compares, and lets a policy go on."""
    page = come(browser, address)
    page.wait_for_timeout(1500)
    film = Film(page)
    with film.rolling():
        page.wait_for_timeout(500)
        walk(page, 3)
        page.wait_for_timeout(600)
        branch(page)
        page.wait_for_timeout(1500)
        page.keyboard.press("p")
        page.wait_for_timeout(4000)
        page.keyboard.press("p")
        page.wait_for_timeout(800)
    for quality in (80, 60, 40):
        data = film.webp(quality)
        if len(data) < MOST_BYTES:
            break
    path.write_bytes(data)
    print(f"{path}: {len(data) / 2**20:.1f} MiB, at quality {quality}")


def come(browser: Browser, address: str, **window: object) -> Page:
    """A page at its first frame."""
    page = browser.new_context(**({"viewport": WIDE} | window)).new_page()  # type: ignore[arg-type]
    page.goto(f"http://{address}/")
    page.wait_for_selector("html[data-state=ready]")
    page.wait_for_selector("#world[data-frame='0']")
    page.wait_for_function(f"{PREVIEWS_SEEN}", timeout=300_000)
    return page


PREVIEWS_SEEN = (
    "() => document.querySelectorAll('.act .preview').length === document.querySelectorAll('.act').length"
)


def shoot(page: Page, out: Path, name: str) -> None:
    """Keep how the page looks."""
    page.screenshot(path=out / f"play-{name}.png")


def walk(page: Page, num: int) -> None:
    """Hold a few keys, one after the other, until each has drawn some frames."""
    for key in WALK[:num]:
        hold(page, key, 5)


def hold(page: Page, key: str, num: int) -> None:
    """Hold a key for so many frames, however long they take."""
    first = frame(page)
    page.keyboard.down(key)
    wait(lambda: frame(page) >= first + num)
    page.keyboard.up(key)
    page.wait_for_timeout(300)


def frame(page: Page) -> int:
    """The number of the frame that is seen."""
    return int(page.get_attribute("#world", "data-frame") or 0)


def branch(page: Page) -> None:
    """Rewind by dragging, go another way, and put both side by side."""
    box = page.locator("#strip").bounding_box()
    assert box is not None
    middle, each = box["y"] + box["height"] / 2, box["width"] / 24
    page.mouse.move(box["x"] + frame(page) * each, middle)
    page.mouse.down()
    for back in range(frame(page) - 1, 4, -1):
        page.mouse.move(box["x"] + back * each, middle)
        page.wait_for_timeout(120)
    page.mouse.up()
    page.wait_for_timeout(500)
    hold(page, "ArrowLeft", 4)
    page.get_by_label("Show branch A beside").click()
    page.wait_for_timeout(600)
    hold(page, "ArrowDown", 5)


def codes(page: Page) -> bool:
    """The codes themselves, with names."""
    if page.locator("#tab-code").is_visible():
        page.click("#tab-code")
    page.wait_for_function(PREVIEWS_SEEN)
    page.wait_for_timeout(800)
    return True


def twin(page: Page) -> bool:
    """The real game beside the world, where there is one."""
    if not page.locator("#twin").is_visible():
        return False
    page.check("#twin")
    page.wait_for_selector("#twin-game[data-frame]", timeout=60_000)
    walk(page, 2)
    return True


def link(page: Page) -> bool:
    """A link to a frame."""
    walk(page, 2)
    page.click("#share")
    page.wait_for_selector("#share-box:visible")
    return True


def help_(page: Page) -> bool:
    """All keys."""
    page.keyboard.press("?")
    return True


def refused(page: Page) -> bool:
    """A file that is no picture."""
    page.set_input_files(
        "#file", {"name": "song.mp3", "mimeType": "audio/mpeg", "buffer": b"ID3" + bytes(300)}
    )
    page.wait_for_selector("#start-error:visible")
    return True


def wait(is_so: Callable[[], bool], patience_s: float = 60) -> None:
    """Until something is so."""
    until = time.monotonic() + patience_s
    while not is_so():
        assert time.monotonic() < until, "nothing happens any more"
        time.sleep(0.02)


if __name__ == "__main__":
    main()
