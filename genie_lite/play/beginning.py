"""What a game begins from, as a page names it: a start of the run, a level, an upload, or a picture of a link."""

import asyncio
from concurrent.futures import Executor
from functools import partial

from jaxtyping import UInt8
from numpy import ndarray

from genie_lite.play.offer import Offer
from genie_lite.play.protocol import GalleryStart, LevelStart, Open, UploadStart
from genie_lite.play.session import Beginning
from genie_lite.play.uploads import Uploads


async def beginning_of(message: Open, offer: Offer, uploads: Uploads, readers: Executor) -> Beginning:
    """Find the frames that a page asks for.

    Args:
        message: that names them.
        offer: its starts and its real game.
        uploads: what players brought.
        readers: threads that read starts.

    Raises:
        UserError: no such start, level or upload, or nothing that can be decoded.
    """
    start, told = message.start, message.start.model_dump()
    if isinstance(start, GalleryStart):
        read = partial(asyncio.get_running_loop().run_in_executor, readers)
        prompt = await read(offer.starts.frames, start.index)
        level = await read(offer.starts.level, start.index) if offer.game else None
        return Beginning(prompt, message.seed, told, level)
    if isinstance(start, LevelStart):
        prompt = await asyncio.to_thread(_first_of_level, offer, start.level)
        return Beginning(prompt, message.seed, told, start.level)
    if isinstance(start, UploadStart):
        return Beginning(uploads.frames(start.id), message.seed, told)
    return Beginning(await uploads.pixels(start.png), message.seed, {"kind": "pixels"})


def _first_of_level(offer: Offer, level: int) -> UInt8[ndarray, "1 h w c"]:
    with offer.twin(level) as twin:
        return twin.frame[None].copy()
