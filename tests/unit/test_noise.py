"""Random numbers from coordinates."""

import pytest
import torch

from genie_lite.nn.noise import philox, uniform

# Known answers of Philox4x32-10, from the authors' Random123 distribution (kat_vectors).
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def words(text: str) -> tuple[torch.Tensor, ...]:
    return tuple(torch.tensor(int(word, 16)) for word in text.split())


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_philox_gives_the_known_answers(counter: str, key: str, expected: str) -> None:
    low, high = words(key)
    assert philox(words(counter), (low, high)) == words(expected)


def of(*rows: tuple[int, int, int], steps: int = 3, places: int = 5) -> torch.Tensor:
    seed, stream, frame = (torch.tensor(column) for column in zip(*rows, strict=True))
    return uniform(seed, stream, frame, steps, places)


def test_a_number_depends_on_its_coordinates_alone() -> None:
    whole = of((7, 0, 3), (7, 1, 3), (2**40 + 7, 0, 3), (7, 0, 4))
    assert torch.equal(of((7, 1, 3), steps=2, places=4), whole[1:2, :2, :4])
    assert len(whole.flatten().unique()) == whole.numel(), "every coordinate matters"


def test_numbers_are_uniform() -> None:
    numbers = of(*((1, stream, frame) for stream in range(4) for frame in range(50)), places=100).flatten()
    assert float(numbers.min()) >= 0
    assert float(numbers.max()) < 1
    counts = torch.histc(numbers, bins=20, min=0, max=1) / len(numbers)
    torch.testing.assert_close(counts, torch.full((20,), 0.05), atol=0.005, rtol=0)
