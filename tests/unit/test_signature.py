"""Copies of a clip have nearly the same signature, other clips do not."""

from itertools import combinations

import cv2
import numpy as np
import pytest

from genie_lite.data.cutting.signature import MAX_DISTANCE, alike, distance, distances, signature_of, to_bytes


def walk(seed: int, num: int = 60, scene: int = 0) -> np.ndarray:
    """`t h w`: a blob that wanders through a scene, seen by a static camera."""
    scenery = np.random.default_rng(1000 + scene).integers(0, 160, (6, 6)).astype(np.uint8)
    ground = cv2.resize(scenery, (64, 64), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    random = np.random.default_rng(seed)
    course = np.cumsum(random.normal(0, 1.6, (num, 2)), axis=0)
    y, x = np.ogrid[:64, :64]
    frames = []
    for top, left in 32 + 20 * np.sin(course / 12 + random.uniform(0, 6, 2)):
        blob = np.exp(-((y - top) ** 2 + (x - left) ** 2) / 60)
        frames.append(ground * (1 - blob) + 235 * blob)
    return np.stack(frames).clip(0, 255).astype(np.uint8)


def as_jpeg(frame: np.ndarray) -> np.ndarray:
    jpeg = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 30])[1]
    return np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_GRAYSCALE))


COPIES = {
    "compressed": lambda lumas: np.stack([as_jpeg(luma) for luma in lumas]),
    "brighter": lambda lumas: cv2.add(lumas, np.full_like(lumas, 20)),
    "half size": lambda lumas: np.stack(
        [cv2.resize(luma, (32, 32), interpolation=cv2.INTER_AREA) for luma in lumas]
    ),
    "half the rate": lambda lumas: lumas[::2],
    "noisy": lambda lumas: np.clip(lumas + np.random.default_rng(0).normal(0, 4, lumas.shape), 0, 255).astype(
        np.uint8
    ),
    "a frame less": lambda lumas: lumas[1:],
}


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_alike(name: str) -> None:
    for seed in range(10):
        lumas = walk(seed)
        assert distance(signature_of(lumas), signature_of(COPIES[name](lumas))) <= MAX_DISTANCE


def test_other_clips_of_a_static_camera_are_not() -> None:
    signatures = [signature_of(walk(seed)) for seed in range(20)]
    assert min(distance(a, b) for a, b in combinations(signatures, 2)) > MAX_DISTANCE
    # The first half tells the scene: it is nearly the same in all of them, and another one's is not.
    first, others = signatures[0][:16], [each[:16] for each in signatures[1:]]
    assert max(distance(first + 16 * "0", each + 16 * "0") for each in others) <= 24
    assert (
        min(distance(signature_of(walk(0)), signature_of(walk(0, scene=k))) for k in range(1, 9))
        > MAX_DISTANCE
    )


def test_clips_in_which_nothing_moves_are_told_by_the_scene_alone() -> None:
    still = np.repeat(walk(0)[:1], 30, axis=0)
    noisy = np.clip(still + np.random.default_rng(0).normal(0, 1, still.shape), 0, 255).astype(np.uint8)
    assert signature_of(still)[16:] == signature_of(noisy)[16:] == 16 * "0"
    assert distance(signature_of(still), signature_of(noisy)) <= MAX_DISTANCE


def test_a_signature_is_128_bits_whatever_the_clip() -> None:
    for shape in ((2, 16, 16), (16, 64, 64), (200, 40, 64)):
        lumas = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
        assert len(signature_of(lumas)) == 32
        assert to_bytes(signature_of(lumas)).shape == (16,)
        assert signature_of(lumas) == signature_of(lumas.copy())


def test_distances_count_bits() -> None:
    many = np.random.default_rng(0).integers(0, 256, (500, 16), dtype=np.uint8)
    expected = np.unpackbits(many ^ many[7], axis=1).sum(axis=1)
    np.testing.assert_array_equal(distances(many[7], many), expected)
    np.testing.assert_array_equal(alike(many[7], many), expected <= MAX_DISTANCE)
    assert distance(16 * "00", 16 * "ff") == 128
    assert len(distances(many[0], many[:0])) == 0
    assert distances(many[0], many[::2])[0] == 0  # rows need not lie side by side
