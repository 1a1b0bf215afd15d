"""Embeddings in the plane, to be looked at: UMAP where it is installed, principal components otherwise."""

import importlib
import importlib.util
from typing import Any

import numpy as np

NEIGHBOURS, MIN_DISTANCE = 15, 0.5


def project(rows: np.ndarray, seed: int) -> tuple[np.ndarray, str]:
    """Rows (rows, d) to points (rows, 2), and how: "umap" or "pca"."""
    if importlib.util.find_spec("umap") is not None and len(rows) > NEIGHBOURS:
        umap = importlib.import_module("umap")
        how = umap.UMAP(n_neighbors=NEIGHBOURS, min_dist=MIN_DISTANCE, random_state=seed)
        return np.asarray(how.fit_transform(rows)), "umap"
    return principal_components(rows), "pca"


def principal_components(rows: np.ndarray) -> np.ndarray:
    """The first two; of one dimension the second is 0. The largest entry of each direction is positive."""
    centred = rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    axes = np.zeros((2, rows.shape[1]))
    axes[: min(2, len(directions))] = directions[:2]
    largest = np.abs(axes).argmax(axis=1)
    return centred @ (axes * np.where(axes[[0, 1], largest] < 0, -1, 1)[:, None]).T


def scatter(rows: np.ndarray, label: np.ndarray, names: list[str], seed: int) -> dict[str, Any]:
    """The section `projection`: points with the index of their name."""
    points, how = project(rows, seed)
    scaled = np.round(points / np.maximum(np.abs(points).max(), 1e-9), 4)
    listed = [[x, y, int(each)] for (x, y), each in zip(scaled.tolist(), label, strict=True)]
    return {"points": listed, "how": how, "names": names}
