"""Tars as other programs write them."""

import io
import tarfile
from pathlib import Path

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def write_tar(path: Path, files: dict[str, bytes], kind: str = "ustar") -> Path:
    """One member per file, in this order."""
    with tarfile.open(path, "w", format=FORMATS[kind]) as tar:
        for name, data in files.items():
            tar.addfile(entry(name, size=len(data)), io.BytesIO(data))
    return path


def entry(name: str, **about: object) -> tarfile.TarInfo:
    """A member's header; `about` are its attributes."""
    info = tarfile.TarInfo(name)
    for key, value in about.items():
        setattr(info, key, value)
    return info
