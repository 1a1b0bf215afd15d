"""The app: pages, pictures, uploads and downloads over HTTP, and a socket for each player.

app = create_app(open_offer(run))        to be served by any ASGI server, in one process
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from fastapi import FastAPI, Request, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from genie_lite import __version__
from genie_lite.controls import Controls
from genie_lite.errors import UserError
from genie_lite.play import exports
from genie_lite.play.batcher import Engine
from genie_lite.play.config import PlayConfig
from genie_lite.play.guard import Guard
from genie_lite.play.lobby import Lobby
from genie_lite.play.offer import Offer
from genie_lite.play.session import Session
from genie_lite.play.starts import png
from genie_lite.play.talk import House, Talk, end_idle
from genie_lite.play.uploads import Refused, Uploads

LOG = logging.getLogger(__name__)
STATIC = Path(__file__).parent / "static"
IDLE_CHECKS = 4  # in the time after which a game is given up
UNCHANGING = {"cache-control": "private, max-age=3600"}  # while a server runs
FRESH = {"cache-control": "no-cache"}

ResultT = TypeVar("ResultT")


def create_app(offer: Offer, config: PlayConfig | None = None) -> FastAPI:
    """An app for the players of one run.

    Args:
        offer: what is played; closed with the app.
        config: the limits.
    """
    config = config or PlayConfig()
    engine = Engine(offer.world)
    lobby = Lobby(offer, engine, config)
    house = House(offer, config, engine, lobby, Uploads(offer, config.upload_bytes, config.uploads))

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        tidying = asyncio.create_task(_tidy(house))
        yield
        tidying.cancel()
        await _close(house)

    # No pages about the interface: they would load scripts from elsewhere.
    app = _Guarded(title=offer.title, lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.house = house
    _add_errors(app)
    _add_pictures(app, house)
    _add_uploads(app, house)
    _add_downloads(app, house)

    @app.get("/api/health")
    async def health() -> dict[str, Any]:
        return {"ok": True, "sessions": len(lobby)}

    @app.get("/api/about")
    async def about() -> dict[str, Any]:
        return await _in(house.readers, partial(_about, house))

    @app.websocket("/ws")
    async def socket(websocket: WebSocket) -> None:
        await Talk(house, websocket).run()

    @app.get("/")
    async def page() -> FileResponse:
        return FileResponse(STATIC / "index.html", headers=FRESH)

    app.mount("/static", StaticFiles(directory=STATIC, check_dir=False), name="static")
    return app


class _Guarded(FastAPI):
    """An app whose every answer goes through the guard: other middleware does not see what tells of a fault."""

    def build_middleware_stack(self) -> ASGIApp:
        return Guard(super().build_middleware_stack(), self.state.house.config.hosts)


def _about(house: House) -> dict[str, Any]:
    offer, config = house.offer, house.config
    controls = offer.controls
    return {
        "run": offer.run.resolve().name,
        "title": offer.title,
        "frame_hw": list(offer.frame_hw),
        "rate_hz": offer.rate_hz,
        "num_codes": offer.world.num_codes,
        "controls": {
            "kind": controls.kind,
            "names": list(controls.names),
            "low": list(controls.low),
            "high": list(controls.high),
            "codes": _likeliest_codes(controls),
        },
        "code_names": {str(code): name for code, name in offer.names.get().items()},
        "policies": list(offer.policies),
        "game": offer.game,
        "starts": [
            {"label": offer.starts.label(index), "level": offer.starts.level(index)}
            for index in range(len(offer.starts))
        ],
        "limits": {
            "upload_bytes": config.upload_bytes,
            "sessions": config.sessions,
            "idle_s": config.idle_s,
            "frames": config.frames,
        },
        "version": __version__,
    }


def _likeliest_codes(controls: Controls) -> list[int]:
    """The code that each choice stands for, whose preview shows it; none where actions are vectors."""
    if controls.kind == "continuous":
        return []
    return controls.codes_of(torch.arange(len(controls.names))).tolist()


def _add_pictures(app: FastAPI, house: House) -> None:
    offer = house.offer

    @app.get("/api/starts/{index}.png")
    async def start(index: int) -> Response:
        return _png(await _in(house.readers, partial(offer.starts.thumbnail, index)))

    @app.get("/api/previews/{code}.webp")
    async def preview(code: int) -> Response:
        code = _known(code, offer.world.num_codes, "code")
        return Response(
            await _in(house.previews, partial(offer.preview, code)), 200, UNCHANGING, "image/webp"
        )

    @app.get("/api/uploads/{name}.png")
    async def upload(name: str) -> Response:
        return _png(png(house.uploads.frames(name)[-1]))


def _add_uploads(app: FastAPI, house: House) -> None:
    @app.post("/api/starts")
    async def take(request: Request) -> dict[str, str]:
        name = await house.uploads.take(request.headers.get("content-length"), request.stream())
        frames = len(house.uploads.frames(name))
        return {"id": name, "label": "your picture" if frames == 1 else "your video"}


def _add_downloads(app: FastAPI, house: House) -> None:
    queue = exports.Queue()

    async def made(make: Callable[[Offer, Engine, Session, int], bytes], token: str, branch: int) -> bytes:
        game = house.lobby.find(token)
        house.lobby.touch(game)
        with queue.place(game):
            return await _in(house.films, partial(make, house.offer, house.engine, game, branch))

    @app.get("/api/sessions/{token}/film.mp4")
    async def film(token: str, branch: int = 0) -> Response:
        return _download(await made(exports.film, token, branch), "video/mp4", f"{_stem(house)}.mp4")

    @app.get("/api/sessions/{token}/replay")
    async def replay(token: str, branch: int = 0) -> Response:
        data = await made(exports.replay, token, branch)
        return _download(data, "application/octet-stream", f"{_stem(house)}.replay")


def _add_errors(app: FastAPI) -> None:
    def told(status: int, reason: str) -> JSONResponse:
        return JSONResponse({"error": " ".join(reason.split())}, status)

    @app.exception_handler(UserError)
    async def mistake(_: Request, error: UserError) -> JSONResponse:
        return told(error.status if isinstance(error, Refused | exports.Full) else 404, str(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        return told(400, f"{'.'.join(map(str, first['loc'][1:]))}: {first['msg']}")

    @app.exception_handler(Exception)
    async def fault(_: Request, error: Exception) -> JSONResponse:
        return told(500, "the server made a mistake; its log says which")

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> JSONResponse:
        return told(error.status_code, str(error.detail))


async def _tidy(house: House) -> None:
    while True:
        await asyncio.sleep(house.config.idle_s / IDLE_CHECKS)
        try:
            await end_idle(house)
        except Exception:  # else nobody would ever be sent away again
            LOG.exception("idle games could not be given up; it is tried again")


async def _close(house: House) -> None:
    for executor in (house.films, house.previews, house.readers):
        executor.shutdown(wait=False, cancel_futures=True)
    await house.lobby.close()
    house.uploads.close()
    house.offer.close()
    await asyncio.to_thread(house.engine.close)


async def _in(executor: Executor, work: Callable[[], ResultT]) -> ResultT:
    return await asyncio.get_running_loop().run_in_executor(executor, work)


def _known(found: int, num: int, what: str) -> int:
    if not 0 <= found < num:
        raise UserError(f"{what}: found {found}, expected 0 to {num - 1}")
    return found


def _png(data: bytes) -> Response:
    return Response(data, 200, UNCHANGING, "image/png")


def _download(data: bytes, kind: str, name: str) -> Response:
    headers = {"content-disposition": f'attachment; filename="{name}"', "cache-control": "no-store"}
    return Response(data, 200, headers, kind)


def _stem(house: House) -> str:
    """The run's name, as far as a header can hold it."""
    name = house.offer.run.resolve().name
    return (
        "".join(each if each.isascii() and (each.isalnum() or each in "-_") else "-" for each in name)
        or "game"
    )
