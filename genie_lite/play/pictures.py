"""Frames of a game that were shown before, shown again from their tokens: the same bytes, without drawing anything.

A picture depends on its own tokens and on those of a few frames before it, which the tokenizer's decoder remembers.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Int, UInt8
from numpy import ndarray
from torch import Tensor

from genie_lite.data.loading.clip import to_pixels
from genie_lite.models.world import State, World
from genie_lite.play.tree import Moment, Tree


class Kept:
    """How a game began: what a tree leaves out. Frames and tokens before frame 0, the seed."""

    def __init__(self, world: World, prompt: UInt8[ndarray, "t h w c"], state: State) -> None:
        """Keep a start.

        Args:
            world: that is played in.
            prompt: the frames that the game began from.
            state: that the world made of them.
        """
        self._world, self.prompt, self._root = world, prompt, state.tensors()

    def recall(self, tree: Tree, moment: Moment) -> State:
        """The state at a moment, bit for bit as it was when this frame was drawn."""
        root, reach = self._root, self._root["codes"].shape[1]
        tokens = torch.from_numpy(tree.tokens(moment, reach)).to(root["tokens"].device)[None]
        codes = torch.from_numpy(tree.codes(moment, reach)).to(root["codes"].device)[None]
        return self._world.recall(
            {
                **root,
                "tokens": torch.cat([root["tokens"], tokens], dim=1)[:, -reach:],
                "codes": torch.cat([root["codes"], codes], dim=1)[:, -reach:],
                "frame": root["frame"] + moment.frame,
            }
        )

    def picture(self, tree: Tree, moment: Moment) -> UInt8[ndarray, "h w c"]:
        """What was shown at a moment."""
        return next(self.film(tree, moment, moment.frame))

    def film(self, tree: Tree, moment: Moment, first: int = 0) -> Iterator[UInt8[ndarray, "h w c"]]:
        """What was shown from frame `first` up to a moment; frame 0 is the picture that the game began from."""
        if first == 0:
            yield self.prompt[-1]
            first = 1
        if first > moment.frame:
            return
        tokenizer = self._world.tokenizer
        reach, group = tokenizer.reach, self._world.sampling.micro_batch
        before = self._before(tree, Moment(moment.branch, first - 1), reach)
        ring = tokenizer.begin((self._root["frame"] + first - reach).expand(group))
        for each in before:
            _, ring = tokenizer.decode_next(self._vectors(each, group), ring)
        for each in self._tokens(tree, moment, first):
            frames, ring = tokenizer.decode_next(self._vectors(each, group), ring)
            yield to_pixels(frames[0])

    def _before(self, tree: Tree, moment: Moment, num: int) -> Tensor:
        """Tokens of the last frames up to a moment, those of the start among them."""
        own = torch.from_numpy(tree.tokens(moment, num)).to(self._world.device)
        return torch.cat([self._root["tokens"][0], own])[len(own) + self._root["tokens"].shape[1] - num :]

    def _tokens(self, tree: Tree, moment: Moment, first: int) -> Tensor:
        return torch.from_numpy(tree.tokens(moment, moment.frame - first + 1)).to(self._world.device)

    def _vectors(self, tokens: Int[Tensor, " n"], group: int) -> Tensor:
        """As the world decodes them: a whole group at a time."""
        return self._world.tokenizer.quantizer.vector_of(tokens.expand(group, -1))
