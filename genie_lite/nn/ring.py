"""What streams remember of their last frames: keys and values in a ring of constant size and shape.

    frame f of a stream lies in slot f mod m      m = window, the frame in the making among them

Nothing is ever moved: a new frame takes the slot of the one that falls out of the window. Keys are turned by
their own frame index once, when they are made, and attention depends on differences of these indices alone.
Streams of different ages lie side by side in one ring, and its shapes are the same at any age, so that a
stream's numbers depend neither on how old it is nor on its neighbours.

    page = ring.open(turn)     a copy, with the slot of the next frame to be written, as often as one likes
    ring = page.close()        the ring that has that frame, too
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Memory = tuple[Tensor, Tensor]  # keys and values of one layer, `b n h m e` each


@dataclass(frozen=True)
class Ring:
    """Immutable.

    age: frames that each stream has seen. first: the earliest of them that may be read. layers: of all that look
    back; none before the first frame.
    """

    num_slots: int
    age: Int[Tensor, " b"]
    first: Int[Tensor, " b"]
    layers: tuple[Memory, ...] = ()

    @classmethod
    def empty(cls, num_slots: int, age: Int[Tensor, " b"]) -> "Ring":
        """Streams whose next frame is number `age`, remembering nothing; there are no frames before number 0."""
        return cls(num_slots, age, age.clamp_min(0))

    def open(self, turn: Float[Tensor, "2 b half"]) -> "Page":
        """A copy to write the next frame into; `turn` are the rotary angles of its index."""
        slots = torch.arange(self.num_slots, device=self.age.device)
        age = self.age[:, None]
        # The frame in each slot, the next frame's own among them.
        frame = age - (age - slots).remainder(self.num_slots)
        is_there = (frame >= self.first[:, None]) | (frame == age)
        return Page(
            ring=self,
            streams=torch.arange(len(self.age), device=self.age.device),
            slot=self.age.remainder(self.num_slots),
            is_there=is_there[:, None, None, None, :],
            turn=turn[:, :, None, None, None],
            layers=[(keys.clone(), values.clone()) for keys, values in self.layers],
        )

    def of(self, streams: slice | Int[Tensor, " s"]) -> "Ring":
        """Some of the streams."""
        layers = tuple((keys[streams], values[streams]) for keys, values in self.layers)
        return Ring(self.num_slots, self.age[streams], self.first[streams], layers)

    @classmethod
    def join(cls, rings: Sequence["Ring"]) -> "Ring":
        """Streams of several rings of the same model, side by side."""
        layers = tuple(
            (torch.cat([keys for keys, _ in layer]), torch.cat([values for _, values in layer]))
            for layer in zip(*(ring.layers for ring in rings), strict=True)
        )
        age, first = (torch.cat([getattr(ring, name) for ring in rings]) for name in ("age", "first"))
        return cls(rings[0].num_slots, age, first, layers)


@dataclass(frozen=True)
class Page:
    """The next frame of every stream, in the making.

    streams: their numbers. slot: where the frame of each is written. is_there: which slots may be read, its own among
    them. turn: its rotary angles.
    """

    ring: Ring
    streams: Int[Tensor, " b"]
    slot: Int[Tensor, " b"]
    is_there: Bool[Tensor, "b 1 1 1 m"]
    turn: Float[Tensor, "2 b 1 1 1 half"]
    layers: list[Memory] = field(default_factory=list)

    def write(self, layer: int, fresh: Memory) -> Memory:
        """Write the frame's keys and values, `b n h 1 e`, over those written before; returns all of the layer."""
        if layer == len(self.layers):  # of the very first frame
            self.layers.append((self._blank(fresh[0]), self._blank(fresh[1])))
        for kept, new in zip(self.layers[layer], fresh, strict=True):
            kept[self.streams, :, :, self.slot] = new[..., 0, :]
        return self.layers[layer]

    def close(self) -> Ring:
        """The ring with this frame as it was last written; the page must not be written any more."""
        return Ring(self.ring.num_slots, self.ring.age + 1, self.ring.first, tuple(self.layers))

    def _blank(self, fresh: Tensor) -> Tensor:
        return fresh.new_zeros(*fresh.shape[:-2], self.ring.num_slots, fresh.shape[-1])
