"""Somebody at the page, who presses keys and sees pixels."""

import re
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray
from playwright.sync_api import Page, expect

REST_MS = 400
READ_CANVAS = (
    """canvas => Array.from(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data)"""
)


class Player:
    """What a person does with a page. Errors of its scripts are collected: `complaints`.

    `photographs` is a folder that they keep pictures in, if anybody wants to see them.
    """

    def __init__(self, page: Page, address: str, photographs: Path | None = None) -> None:
        self.page, self.address, self.photographs = page, address, photographs
        self.complaints: list[str] = []
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)

    def visit(self, hash: str = "") -> None:
        """Open the page, with what stands behind # in its address."""
        self.page.goto(f"http://{self.address}/{hash}")

    def expect_state(self, *states: str) -> None:
        """Wait until the page is in one of these states."""
        expect(self.page.locator("html")).to_have_attribute("data-state", re.compile("|".join(states)))

    def press(self, *keys: str) -> None:
        """Press keys, one after the other, each when the frame of the last one is there."""
        for key in keys:
            _, frame = self.moment
            self.page.keyboard.press(key)
            self.page.wait_for_selector(f'#world[data-frame="{frame + 1}"]')

    @property
    def moment(self) -> tuple[int, int]:
        """Branch and frame of the picture that is seen, as soon as one is."""
        canvas = self.page.locator("#world[data-frame]")
        return int(canvas.get_attribute("data-branch") or 0), int(canvas.get_attribute("data-frame") or 0)

    def expect_moment(self, branch: int, frame: int) -> None:
        """Wait until the picture of this moment is seen."""
        self.page.wait_for_selector(f'#world[data-branch="{branch}"][data-frame="{frame}"]')

    def expect_frame(self, at_least: int) -> None:
        """Wait until this frame, or a later one, is seen."""
        # A function, as a string would have to be evaluated in the page, which its policy forbids.
        self.page.wait_for_function(
            "least => Number(document.getElementById('world').dataset.frame) >= least", arg=at_least
        )

    def expect_rest(self) -> None:
        """Wait until frames follow each other no more; complains if they go on and on."""
        for _ in range(20):
            before = self.moment
            self.page.wait_for_timeout(REST_MS)
            if self.moment == before:
                return
        raise AssertionError(f"frames still come, up to {self.moment}")

    def pixels(self, canvas: str = "world") -> UInt8[ndarray, "h w c"]:
        """What a canvas shows."""
        found = self.page.locator(f"#{canvas}")
        height, width = (int(found.get_attribute(side) or 0) for side in ("height", "width"))
        return np.array(found.evaluate(READ_CANVAS), np.uint8).reshape(height, width, 4)[..., :3]

    def drag(self, *frames: float) -> None:
        """Drag the film strip from its middle over these frames, and keep holding it."""
        box = self.page.locator("#strip").bounding_box()
        assert box is not None
        span, middle = 24, box["y"] + box["height"] / 2
        self.page.mouse.move(box["x"] + box["width"] / 2, middle)
        self.page.mouse.down()
        for frame in frames:
            self.page.mouse.move(box["x"] + box["width"] * frame / span, middle, steps=3)

    def drop(self) -> None:
        """Let go of what is dragged."""
        self.page.mouse.up()

    def rewind_to(self, frame: int) -> None:
        """Drag there and let go."""
        self.drag(frame)
        self.drop()

    def bring(self, name: str, kind: str, data: bytes) -> None:
        """Choose a file as one's own start."""
        self.page.set_input_files("#file", {"name": name, "mimeType": kind, "buffer": data})

    def link(self) -> str:
        """What stands behind # in a link to this very frame."""
        self.page.click("#share")
        self.page.wait_for_selector("#share-box:visible")
        return "#" + self.page.input_value("#share-link").split("#", 1)[1]

    def pause(self, ms: int) -> None:
        """Linger, if anybody wants to see it."""
        if self.photographs is not None:
            self.page.wait_for_timeout(ms)

    def photograph(self, name: str, **options: Any) -> None:
        """Keep how the page looks now, if anybody wants to see it."""
        if self.photographs is not None:
            self.page.screenshot(path=self.photographs / f"{name}.png", **options)
