"""One file per side; each has its PEERS, found by name. Importing one loads no library."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from benchmarks.peers.base import Peer


@cache
def peers() -> dict[str, Peer]:
    """Every side by name, ours first."""
    found: list[Peer] = []
    for module in pkgutil.iter_modules(__path__):
        found += getattr(importlib.import_module(f"{__name__}.{module.name}"), "PEERS", [])
    return {peer.name: peer for peer in sorted(found, key=lambda peer: peer.place)}
