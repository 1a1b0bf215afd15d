"""What each code does, as a small moving picture: the code is held down from a frame where it moves something.

From a few starts the one is taken in which the frames of this code are least like those of the others. Made when
it is first asked for, and kept beside the run:

play/previews/<hash of the dynamics model>/<code>.webp
"""

import os
import sys
import threading
import warnings
from collections.abc import Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor

import torch
from einops import rearrange, repeat
from jaxtyping import Float
from torch import Tensor

from genie_lite.data.loading.clip import to_frames, to_pixels
from genie_lite.errors import UserError
from genie_lite.evals.pictures import animation_webp
from genie_lite.models.world import World
from genie_lite.play.shelf import Shelf
from genie_lite.play.starts import Starts, evenly

NUM_FRAMES = 6
JUDGED_FRAMES = 3  # of these: later, a small world may fall apart, which is not the code's doing
NUM_STARTS = 3  # looked at
MOST_RIVALS = 12  # codes that a code is compared with
STREAMS_TOGETHER = 8
LEAST_PX = 128  # of a picture's shorter side; smaller frames are enlarged to about this
SEED = 0
CLOSED = "previews: closed"
NICENESS = 5  # of the thread that makes them: those who play come first


class Previews:
    """Makes and keeps previews. Safe from several threads: whoever asks for one that is being made waits."""

    def __init__(
        self, world: World, starts: Starts, shelf: Shelf, dynamics_sha256: str, rate_hz: float
    ) -> None:
        """Remember what they are made of; nothing is computed yet.

        Args:
            world: whose codes are shown.
            starts: to hold them down from.
            shelf: where they are kept.
            dynamics_sha256: of the world's weights; previews of others are not taken for its own.
            rate_hz: of the frames.
        """
        together = max(STREAMS_TOGETHER, world.sampling.micro_batch)
        # Rounding is another than in play, which nobody sees; computed together, they are made sooner.
        sampling = world.sampling.model_copy(update={"micro_batch": together})
        self._world = World(world.tokenizer, world.lam, world.dynamics, sampling)
        self._starts, self._shelf, self._rate_hz = starts, shelf, rate_hz
        self._folder = f"previews/{dynamics_sha256[:16]}"
        self._painter = ThreadPoolExecutor(1, "previews", initializer=_step_back)
        self._is_closed = False
        self._compared = evenly(range(world.num_codes), MOST_RIVALS)
        self._rivals: Tensor | None = None  # their films `s n k c h w`, from every start

    def get(self, code: int) -> bytes:
        """An animated WebP of one code.

        Raises:
            UserError: no such code, no frame to begin from, or the previews were closed meanwhile.
        """
        if not 0 <= code < self._world.num_codes:
            raise UserError(f"code: found {code}, expected 0 to {self._world.num_codes - 1}")
        if (kept := self._kept(code)) is not None:
            return kept
        try:
            return self._painter.submit(self._made, code).result()
        except (RuntimeError, CancelledError) as error:
            if self._is_closed:
                raise UserError(CLOSED) from error
            raise

    def close(self) -> None:
        """Make no more; one that is being made is given up at its next frame."""
        self._is_closed = True
        self._painter.shutdown(wait=False, cancel_futures=True)

    def _made(self, code: int) -> bytes:
        """Made now, unless somebody else who waited has had it made."""
        if (kept := self._kept(code)) is None:
            kept = self._painted(code)
            self._keep(code, kept)
        return kept

    def _name(self, code: int) -> str:
        return f"{self._folder}/{code}.webp"

    def _kept(self, code: int) -> bytes | None:
        data = self._shelf.read(self._name(code))
        # A run may come from anybody, and what is kept beside it goes to browsers as it is.
        return data if data is not None and data[:4] == b"RIFF" and data[8:12] == b"WEBP" else None

    def _keep(self, code: int, data: bytes) -> None:
        try:
            self._shelf.write(self._name(code), data)
        except UserError as error:
            warnings.warn(f"{error}; it is made again the next time", stacklevel=3)

    @torch.inference_mode()
    def _painted(self, code: int) -> bytes:
        torch.set_num_threads(1)  # beside the engine: see `Engine`
        rivals = self._rivals = self._held(self._compared) if self._rivals is None else self._rivals
        place = self._compared.index(code) if code in self._compared else None
        own = self._held([code])[:, 0] if place is None else rivals[:, place]
        others = [each for each in range(len(self._compared)) if each != place]
        liveliest = max(range(len(own)), key=lambda start: difference(own[start], rivals[start, others]))
        film = to_pixels(own[liveliest])
        return animation_webp(film, self._rate_hz, zoom=max(1, round(LEAST_PX / min(film.shape[1:3]))))

    def _prompts(self) -> Float[Tensor, "s t c h w"]:
        num = len(self._starts)
        if not num:
            raise UserError("previews: the run brings no frames to begin from")
        chosen = evenly(range(num), NUM_STARTS)
        return torch.stack([to_frames(self._starts.midway(each)) for each in chosen])

    def _held(self, codes: Sequence[int]) -> Float[Tensor, "s n k c h w"]:
        """Each code held down from each start, all with the same noise; first the start's last frame.

        That one too as the tokenizer shows it: beside a sharp one, all codes would do the same, which is to blur.
        """
        prompts = repeat(self._prompts().to(self._world.device), "s t c h w -> (s n) t c h w", n=len(codes))
        held = torch.tensor(codes, device=self._world.device).repeat(len(prompts) // len(codes))
        state = self._world.reset(prompts, SEED, streams=[0] * len(held))
        frames = [self._world.tokenizer(prompts).reconstruction[:, -1].clamp(0, 1)]
        for _ in range(NUM_FRAMES):
            if self._is_closed:
                raise UserError(CLOSED)
            state, frame = self._world.step(state, held)
            frames.append(frame)
        return rearrange(frames, "k (s n) c h w -> s n k c h w", n=len(codes))


def _step_back() -> None:
    if sys.platform == "linux":  # elsewhere a thread has no niceness of its own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


def difference(own: Float[Tensor, "k c h w"], others: Float[Tensor, "n k c h w"]) -> float:
    """How much a film differs from the mean of others, in [0, 1]; the only one there is, from its first frame."""
    beside = others.mean(dim=0) if len(others) else own[:1]
    return float((own - beside).abs()[1 : JUDGED_FRAMES + 1].mean())
