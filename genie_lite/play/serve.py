"""Serve a run until Ctrl-C: open what it offers, warm the world up, say where it is."""

import contextlib
import errno
import socket
import threading
import webbrowser
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import uvicorn
from fastapi import FastAPI

from genie_lite.errors import UserError
from genie_lite.models.sampling import SamplingConfig
from genie_lite.play.batcher import Engine
from genie_lite.play.config import PlayConfig
from genie_lite.play.offer import Offer, open_offer
from genie_lite.play.server import create_app
from genie_lite.threads import one_thread

GRACE_S = 3  # for what is being answered when the server is stopped
BACKLOG = 256


def serve(
    run: Path,
    host: str = "127.0.0.1",
    port: int = 8000,
    *,
    open_browser: bool = False,
    config: PlayConfig | None = None,
    sampling: SamplingConfig | None = None,
    device: str | None = None,
    compiled: bool = False,
    say: Callable[[str], object] | None = None,
) -> None:
    """Let people play a run, until the process is interrupted.

    Args:
        run: a finished run.
        host: address to listen at; only this machine can reach the default.
        port: to listen at; 0 takes a free one.
        open_browser: show the page.
        config: the limits.
        sampling: see `open_offer`, as the next two.
        device: where to compute.
        compiled: see `World`.
        say: told one line, the address, as soon as a frame can be drawn; it is printed, if not given.

    Raises:
        UserError: no finished run, or an address that cannot be listened at.
        KeyboardInterrupt: the process was interrupted, and everything is put away.
    """
    with contextlib.closing(listen(host, port)) as listening:
        with one_thread():  # see `Engine`
            offer = open_offer(run, sampling, device=device, compiled=compiled)
        app = create_app(offer, config)
        warm(app.state.house.engine, offer)
        address = address_of(listening)
        tell = say or partial(print, flush=True)  # at once, even where nobody reads along
        tell(f"{offer.title}: play at {address} (Ctrl-C ends it)")
        if open_browser:
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        server_of(app, config or PlayConfig()).run(sockets=[listening])


def listen(host: str, port: int) -> socket.socket:
    """A socket at an address, before anything is loaded that takes long.

    Raises:
        UserError: no such address, or somebody else listens there.
    """
    try:
        family, kind, _, _, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, OverflowError, UnicodeError) as error:
        raise UserError(f"--host: {host} with port {port} is no address ({error}); give another") from error
    listening = socket.socket(family, kind)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(place)
        listening.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        listening.close()
        is_taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        what = "somebody listens there already" if is_taken else str(error)
        raise UserError(f"--port: {host} port {port}: {what}; give another, or 0 for a free one") from error
    return listening


def address_of(listening: socket.socket) -> str:
    """What to type into a browser."""
    host, port = listening.getsockname()[:2]
    if host in ("0.0.0.0", "::"):  # everywhere, this machine among it
        host = "localhost"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def warm(engine: Engine, offer: Offer) -> None:
    """Draw one frame, which compiles and allocates what every frame needs."""
    world = offer.world
    frames = torch.zeros(1, 1, 3, *offer.frame_hw, device=world.device)
    engine.step(lambda: (world.reset(frames, seed=0), 0)).result()


def server_of(app: FastAPI, config: PlayConfig) -> uvicorn.Server:
    """A server of an app, with the limits that are the network's business."""
    settings = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing here depends on who asks
        ws_max_size=config.message_bytes,
        ws_per_message_deflate=False,  # pixels hardly shrink, and what unfolds cannot be measured before
        ws_ping_interval=None,  # a page may be slow to answer; idle games are given up anyway
        timeout_graceful_shutdown=GRACE_S,
    )
    return uvicorn.Server(settings)
