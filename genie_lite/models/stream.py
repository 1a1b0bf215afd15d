"""Latent actions as they happen: one frame at a time, on a robot, at constant cost and memory.

    stream = LatentActionStream(LatentActionModel.from_pretrained("runs/g1"), every=6)
    for image in camera:                                  # 30 a second; the model learnt from 5
        action = stream.push(stream.frame_of(image))      # None until there is a frame to compare with
        if action is not None:
            act_on(action.embedding)

What comes out is what `LatentActionModel.encode` gives for the whole clip, within rounding: keys and values of earlier
frames are kept (`nn/ring.py`), so that a frame is looked at once.
"""

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from genie_lite.errors import UserError
from genie_lite.models.lam import LatentActionModel
from genie_lite.nn.ring import Ring
from genie_lite.types import Quantized


class LatentActionStream:
    """The latent actions of one or several cameras, frame by frame.

    Args:
        lam: in evaluation mode, on the device to use.
        every: frames between the two of a pair: camera frames per second times the seconds between two frames that
            the model learnt from. An action is given with every frame, for the last `every` of them.
    """

    def __init__(self, lam: LatentActionModel, *, every: int = 1) -> None:
        if every < 1:
            raise UserError(f"every: found {every}, expected at least 1 frame")
        self._lam, self._every = lam, every
        self.reset()

    def reset(self) -> None:
        """Forget all frames, as at the begin of an episode."""
        # Frames o, o + every, o + 2 * every … are a clip of their own; so are those of each other offset o.
        self._combs: list[Ring | None] = [None] * self._every
        self._count = 0

    @torch.inference_mode()
    def push(self, frame: Float[Tensor, "b c h w"]) -> Quantized | None:
        """The latent action of each camera that led from the frame `every` pushes ago to this one.

        Args:
            frame: of each camera, in [0, 1], of the model's size.

        Returns:
            One row per camera; None for the first `every` frames.

        Raises:
            UserError: frames of another size, or of another number of cameras than before.
        """
        self._expect_fitting(frame)
        offset, encoder = self._count % self._every, self._lam.encoder
        ring = self._combs[offset]
        if ring is None:
            ring = encoder.begin(torch.zeros(len(frame), dtype=torch.long, device=frame.device))
        page = encoder.open(ring)
        rows = encoder.next(self._lam.look(frame[:, None])[:, 0], page)
        self._combs[offset] = page.close()
        self._count += 1
        return self._lam.quantizer(rows[:, 0]) if self._count > self._every else None

    def frame_of(self, image: Tensor | np.ndarray) -> Float[Tensor, "1 3 h w"]:
        """A camera's picture, uint8 `y x 3` of red, green and blue, as the model wants it: its middle, scaled.

        Videos are ingested likewise (`resize: crop`) but by another scaler, which differs by a few grey levels.

        Raises:
            UserError: no such picture.
        """
        image = torch.as_tensor(image)
        if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise UserError(
                f"image: found {image.dtype} of shape {tuple(image.shape)}, expected uint8 of shape (height, width, 3)"
            )
        height, width = self._lam.config.frame_hw
        side = min(image.shape[:2])
        top, left = ((size - side) // 2 for size in image.shape[:2])
        square = rearrange(image[top : top + side, left : left + side], "y x c -> 1 c y x").float() / 255
        return F.interpolate(square, (height, width), mode="bilinear", antialias=True).to(
            self._lam.place.device
        )

    def _expect_fitting(self, frame: Tensor) -> None:
        if tuple(frame.shape[-2:]) != tuple(self._lam.config.frame_hw):
            found, wanted = ("x".join(map(str, hw)) for hw in (frame.shape[-2:], self._lam.config.frame_hw))
            raise UserError(
                f"frame: found {found} pixels, expected {wanted}; scale it, or use frame_of(image)"
            )
        known = next((len(ring.age) for ring in self._combs if ring is not None), len(frame))
        if len(frame) != known:
            raise UserError(
                f"frame: found {len(frame)} cameras, expected {known} as before; reset() to begin anew"
            )
