"""A recording of the page, as an animated WebP."""

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from PIL import Image
from playwright.sync_api import Page

RATE_HZ = 8
FRAME_WH = (960, 600)
QUALITIES = (80, 60, 40)  # the first that is small enough


@dataclass
class Film:
    """What Chromium shows while it is recorded: each picture with its time in seconds, as the page changes."""

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

    def frames(self, most_s: float) -> list[Image.Image]:
        """The first so many seconds at an even rate; a picture stands until the next one."""
        begin, end = self.pictures[0][0], self.pictures[-1][0]
        frames, latest = [], 0
        for number in range(int(min(end - begin, most_s) * RATE_HZ) + 1):
            at = begin + number / RATE_HZ
            while latest + 1 < len(self.pictures) and self.pictures[latest + 1][0] <= at:
                latest += 1
            picture = Image.open(io.BytesIO(self.pictures[latest][1])).convert("RGB")
            frames.append(picture.resize(FRAME_WH, Image.Resampling.LANCZOS))
        return frames


def to_webp(frames: list[Image.Image], most_bytes: int) -> bytes:
    """An animation of these frames that goes round and round, as good as its size allows."""
    for quality in QUALITIES:
        file = io.BytesIO()
        frames[0].save(
            file, "WEBP", save_all=True, append_images=frames[1:], duration=1000 // RATE_HZ, loop=0,
            quality=quality, method=4, minimize_size=False,
        )  # fmt: skip
        if file.tell() <= most_bytes:
            return file.getvalue()
    raise ValueError(f"{len(frames)} frames do not go into {most_bytes} bytes")
