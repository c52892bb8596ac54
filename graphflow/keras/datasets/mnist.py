"""The MNIST digits (LeCun, Cortes, Burges): a file with a known checksum into four arrays."""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np

from graphflow.config import config
from graphflow.errors import GraphError
from graphflow.io.atomic_file import replace_file

URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
SHA256 = "731c5ac602752760c8e48fbffcf8c3b850d9dc2a2aedcf2cc48468fc17b673d1"
#: seconds without an answer, and more bytes than the file has
_TIMEOUT, _LARGEST = 30, 32 << 20

Split = tuple[np.ndarray, np.ndarray]


def cache_folder() -> Path:
    """Where downloaded data sets are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "graphflow" / "datasets"


def load_data(path: str = "mnist.npz") -> tuple[Split, Split]:
    """(x_train, y_train), (x_test, y_test): uint8 images (60000, 28, 28), (10000, 28, 28), labels.

    The file is looked for among earlier downloads, in ~/.keras/datasets and in $GRAPHFLOW_DATA,
    then downloaded. It is used only if its SHA-256 is the known one.

    Args:
        path: an absolute path, or the name of the file in these folders.

    Raises:
        GraphError: it is nowhere; the message says what was tried.
    """
    folders = [cache_folder(), Path.home() / ".keras" / "datasets"]
    if config.data:
        folders.append(Path(config.data))
    places = [Path(path)] if os.path.isabs(path) else [folder / path for folder in folders]
    tried = []
    for place in places:
        if not place.is_file():
            tried.append(f"{place}: no such file")
        elif hashlib.sha256(content := place.read_bytes()).hexdigest() != SHA256:
            tried.append(f"{place}: the checksum differs, the file is damaged or another one")
        else:
            return _arrays(content)
    try:
        return _arrays(_download(cache_folder() / "mnist.npz"))
    except (OSError, GraphError) as error:
        tried.append(f"{URL}: {error}")
    lines = "\n  ".join(tried)
    data = "" if config.data else "; GRAPHFLOW_DATA is not set"
    raise GraphError(
        f"mnist: not found in the cache, ~/.keras/datasets or $GRAPHFLOW_DATA, and the download "
        f"failed{data}. Put mnist.npz into one of these folders; "
        f"graphflow.keras.datasets.digits.load_data() needs no download\n  {lines}"
    )


def _download(target: Path) -> bytes:
    with urllib.request.urlopen(URL, timeout=_TIMEOUT) as answer:
        content = answer.read(_LARGEST)
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise GraphError(f"the download has the SHA-256 {found[:16]}..., expected {SHA256[:16]}...")
    target.parent.mkdir(parents=True, exist_ok=True)
    replace_file(target, [content])
    return content


def _arrays(content: bytes) -> tuple[Split, Split]:
    import io

    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        train = file["x_train"], file["y_train"]
        return train, (file["x_test"], file["y_test"])
