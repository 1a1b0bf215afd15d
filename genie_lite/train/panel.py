"""Small pictures of what a model does, as PNG files."""

import struct
import zlib

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor


def panel(rows: list[Float[Tensor, "t c h w"]]) -> UInt8[Tensor, "y x c"]:
    """Clips under one another, frames from left to right. Values outside [0, 1] are clipped."""
    picture = torch.cat([rearrange(row.float().cpu(), "t c h w -> h (t w) c") for row in rows])
    return (255 * picture.clamp(0, 1)).round().to(torch.uint8)


def png(picture: UInt8[Tensor, "y x c"]) -> bytes:
    """An 8-bit RGB picture as a PNG file.

    Source: the PNG specification, third edition; IHDR, one IDAT, IEND, no filter.
    """
    height, width, _ = picture.shape
    lines = b"".join(b"\x00" + line.numpy().tobytes() for line in picture.cpu().contiguous())
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [_chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(lines)), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
