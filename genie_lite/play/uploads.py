"""What players bring to begin from, kept until others take its place.

Decoding may take long or hang: it happens in threads of its own, a few at a time, and the players of the world
notice nothing.
"""

import asyncio
import base64
import binascii
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

from jaxtyping import UInt8
from numpy import ndarray

from genie_lite.errors import UserError
from genie_lite.play.offer import Offer

ID_BYTES = 12
DECODERS = 2  # at a time
WAITING = 8  # for one of them, at most
PATIENCE_S = 60.0  # for a body to arrive, and again for it to be decoded


class Refused(UserError):
    """An upload that is not taken. status: of HTTP."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Uploads:
    """Frames by id. All methods run on the server's one loop."""

    def __init__(self, offer: Offer, most_bytes: int, most: int, patience_s: float = PATIENCE_S) -> None:
        """Begin without any.

        Args:
            offer: makes frames of bytes.
            most_bytes: of one upload.
            most: uploads that are kept.
            patience_s: for each upload, to arrive and again to be decoded.
        """
        self._offer, self._most_bytes, self._most, self._patience_s = offer, most_bytes, most, patience_s
        self._kept: OrderedDict[str, UInt8[ndarray, "t h w c"]] = OrderedDict()
        self._decoders = ThreadPoolExecutor(DECODERS, thread_name_prefix="upload")
        self._busy = 0

    def __len__(self) -> int:
        """Number of uploads that are kept."""
        return len(self._kept)

    async def take(self, length: str | None, body: AsyncIterator[bytes]) -> str:
        """Receive and decode an upload; returns its id.

        Args:
            length: the Content-Length header.
            body: the bytes as they arrive.

        Raises:
            Refused: no length, too long, too slow, too many at once, or nothing that can be decoded.
        """
        self._expect_length(length)
        if self._busy >= DECODERS + WAITING:
            raise Refused(503, "too many uploads at once; try again in a moment")
        self._busy += 1
        try:
            frames = await self._decoded(await self._received(body))
        finally:
            self._busy -= 1
        name = secrets.token_urlsafe(ID_BYTES)
        self._kept[name] = frames
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return name

    def frames(self, name: str) -> UInt8[ndarray, "t h w c"]:
        """Frames of an upload.

        Raises:
            Refused: there is none of this id, or no more.
        """
        if name not in self._kept:
            raise Refused(
                404, "no such upload; others took its place, or the server began anew: bring it again"
            )
        self._kept.move_to_end(name)
        return self._kept[name]

    async def pixels(self, text: str) -> UInt8[ndarray, "t h w c"]:
        """Frames of a picture in base64, which are not kept.

        Raises:
            UserError: no base64, or no picture.
        """
        try:
            data = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise UserError(f"start.png: no base64 ({error})") from error
        if self._busy >= DECODERS + WAITING:
            raise Refused(503, "too many uploads at once; try again in a moment")
        self._busy += 1
        try:
            return await self._decoded(data)
        finally:
            self._busy -= 1

    def close(self) -> None:
        """Decode no more."""
        self._decoders.shutdown(wait=False, cancel_futures=True)

    def _expect_length(self, length: str | None) -> None:
        if length is None or not length.isascii() or not length.isdigit():
            raise Refused(411, "upload: no Content-Length; send the file with its length")
        if len(length) > 20 or int(length) > self._most_bytes:
            raise Refused(413, f"upload: too large, expected at most {self._most_bytes / 2**20:g} MiB")

    async def _received(self, body: AsyncIterator[bytes]) -> bytes:
        data = bytearray()
        try:
            async with asyncio.timeout(self._patience_s):
                async for piece in body:
                    data += piece
                    if len(data) > self._most_bytes:
                        raise Refused(
                            413, f"upload: too large, expected at most {self._most_bytes / 2**20:g} MiB"
                        )
        except TimeoutError as error:
            raise Refused(408, f"upload: did not arrive in {self._patience_s:g} s") from error
        return bytes(data)

    async def _decoded(self, data: bytes) -> UInt8[ndarray, "t h w c"]:
        future = asyncio.get_running_loop().run_in_executor(self._decoders, self._offer.own_start, data)
        try:
            return await asyncio.wait_for(future, self._patience_s)
        except TimeoutError as error:
            raise Refused(
                408, f"upload: was not decoded in {self._patience_s:g} s; bring a simpler one"
            ) from error
        except UserError as error:
            raise Refused(415, str(error)) from error
