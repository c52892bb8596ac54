"""Saved functions: one safe file each."""

from graphflow.compiler.errors import GraphFormatError
from graphflow.io.gflow import (
    SavedGraph,
    Summary,
    check,
    load,
    read_graph,
    save,
    write_graph,
)
from graphflow.io.limits import Limits

__all__ = [
    "GraphFormatError",
    "Limits",
    "SavedGraph",
    "Summary",
    "check",
    "load",
    "read_graph",
    "save",
    "write_graph",
]
