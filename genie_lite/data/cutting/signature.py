"""A clip in 128 bits, nearly the same for copies of it: another codec, size, rate or brightness.

    64 bits   low 2-D frequencies of the mean frame, above their median or not (pHash): where it was filmed
    64 bits   low frequencies in time and space, above noise or not: what happened there, and when

Measured on 595 clips of robots, homes and streets (10 Hz, 64 px), python benchmarks/signature.py: within MAX_DISTANCE
lay 0 of 2,628 pairs of different episodes of one task before one static camera, and 2 of 135,460 pairs of other
videos (and 13 of one video that was published twice); of copies 100 % after crf 35, half the size, brightness + 20,
VP9 and MPEG-4 each, 94 % at 2/3 of the rate and 90 % after most of these at once.

Source: pHash (Zauner, 2010); the second half is its counterpart in time (Coskun, Sankur and Memon, "Spatio-temporal
transform based video hashing", 2006). Differs: the halves are kept apart, so that clips of one static camera, whose
mean frames are alike, are told apart by what moves; and what does not move gives zeros, not the signs of noise.
"""

from functools import cache

import cv2
import numpy as np
from einops import rearrange
from jaxtyping import Bool, Float32, Int, UInt8

MAX_DISTANCE = 12  # bits in which two signatures of 128 may differ and still be of one clip

PLACE_PX, PLACE_FREQUENCIES = 32, 8
COURSE_PX, COURSE_FRAMES = 16, 64  # what any clip is brought to
# Half periods in a clip. Those below are too much alike where one task is done again and again before one camera:
# with 1 to 8, 1 % of such pairs lay within the distance, with 5 to 12 none.
TIME_FREQUENCIES = slice(5, 13)
ROW_FREQUENCIES, COLUMN_FREQUENCIES = [0, 0, 1, 1, 0, 2, 2, 1], [0, 1, 0, 1, 2, 0, 1, 2]
NOISE_LUMA = 1 / 16  # in levels, over all pixels and frames: a wave that is weaker is compression


def signature_of(lumas: UInt8[np.ndarray, "t h w"]) -> str:
    """The signature, in hexadecimal.

    Args:
        lumas: of the clip's frames, 0 to 255, of any size.
    """
    return np.packbits(np.concatenate([_place_bits(lumas), _course_bits(lumas)])).tobytes().hex()


def to_bytes(signature: str) -> UInt8[np.ndarray, "16"]:
    """The form in which many are compared."""
    return np.frombuffer(bytes.fromhex(signature), np.uint8)


def distance(one: str, other: str) -> int:
    """Bits that differ, 0 to 128."""
    return int(distances(to_bytes(one), to_bytes(other)[None])[0])


def distances(one: UInt8[np.ndarray, "16"], many: UInt8[np.ndarray, "n 16"]) -> Int[np.ndarray, " n"]:
    """Bits in which each of many differs from one."""
    ones = _ones(np.ascontiguousarray(many).view(np.uint64) ^ np.ascontiguousarray(one).view(np.uint64))
    return (ones[:, 0] + ones[:, 1]).astype(np.int64)


def alike(one: UInt8[np.ndarray, "16"], many: UInt8[np.ndarray, "n 16"]) -> Bool[np.ndarray, " n"]:
    """Which of many are signatures of the same clip."""
    return distances(one, many) <= MAX_DISTANCE


def _place_bits(lumas: UInt8[np.ndarray, "t h w"]) -> Bool[np.ndarray, "64"]:
    mean = lumas.mean(axis=0, dtype=np.float32)
    small = cv2.resize(mean, (PLACE_PX, PLACE_PX), interpolation=cv2.INTER_AREA)
    low = cv2.dct(small)[:PLACE_FREQUENCIES, :PLACE_FREQUENCIES].ravel()
    return low > np.median(low[1:])  # the first one is the brightness, and larger than all


def _course_bits(lumas: UInt8[np.ndarray, "t h w"]) -> Bool[np.ndarray, "64"]:
    waves = np.einsum(
        "kt,jh,jw,thw->kj",
        _dct(COURSE_FRAMES)[TIME_FREQUENCIES],
        _dct(COURSE_PX)[ROW_FREQUENCIES],
        _dct(COURSE_PX)[COLUMN_FREQUENCIES],
        _course(lumas),
        optimize=True,
    )
    return waves.ravel() > NOISE_LUMA * COURSE_PX * COURSE_FRAMES**0.5


def _course(lumas: UInt8[np.ndarray, "t h w"]) -> Float32[np.ndarray, "time y x"]:
    """The change against the mean frame, at 64 times and 16 x 16 places."""
    size = (COURSE_PX, COURSE_PX)
    small = np.stack([cv2.resize(luma, size, interpolation=cv2.INTER_AREA) for luma in lumas])
    rows = rearrange(small.astype(np.float32), "t y x -> t (y x)")
    how = cv2.INTER_AREA if len(rows) >= COURSE_FRAMES else cv2.INTER_LINEAR
    course = cv2.resize(rows, (COURSE_PX**2, COURSE_FRAMES), interpolation=how)
    return rearrange(course - course.mean(axis=0), "t (y x) -> t y x", y=COURSE_PX)


@cache
def _dct(num: int) -> Float32[np.ndarray, "n n"]:
    """The orthonormal cosine transform: row k holds frequency k."""
    return cv2.dct(np.eye(num, dtype=np.float32), flags=cv2.DCT_ROWS).T


def _ones(words: np.ndarray) -> np.ndarray:
    """How many bits of each 64-bit number are set; in pairs, in fours, in eights, and all eight of these."""
    pairs = words - ((words >> np.uint64(1)) & np.uint64(0x5555555555555555))
    fours = (pairs & np.uint64(0x3333333333333333)) + (
        (pairs >> np.uint64(2)) & np.uint64(0x3333333333333333)
    )
    eights = (fours + (fours >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (eights * np.uint64(0x0101010101010101)) >> np.uint64(56)
