"""Colour families: which colours a kind of box or op is drawn in, light and dark."""

from __future__ import annotations

from dataclasses import dataclass

from graphflow.compiler.graph import Node
from graphflow.compiler.op import Elementwise, Reduction, Template
from graphflow.compiler.printer import subgraphs


@dataclass(frozen=True)
class Family:
    """Legend text, and (fill, border, text) on a light and on a dark background."""

    legend: str
    light: tuple[str, str, str]
    dark: tuple[str, str, str]


FAMILIES = {
    "input": Family("input", ("#dbeafe", "#2563eb", "#1e3a8a"), ("#172b54", "#60a5fa", "#dbeafe")),
    "variable": Family(
        "variable", ("#fef3c7", "#d97706", "#78350f"), ("#45300b", "#f0b13c", "#fdf0c8")
    ),
    "constant": Family(
        "constant", ("#f3f4f6", "#9ca3af", "#374151"), ("#2b303a", "#8b93a1", "#e5e7eb")
    ),
    "output": Family(
        "output", ("#1e3a8a", "#1e3a8a", "#ffffff"), ("#bfdbfe", "#bfdbfe", "#0f1f4d")
    ),
    "contraction": Family(
        "matmul, convolution", ("#ede9fe", "#7c3aed", "#4c1d95"), ("#33235e", "#a78bfa", "#ede9fe")
    ),
    "elementwise": Family(
        "elementwise", ("#dcfce7", "#22a055", "#14532d"), ("#143524", "#4ade80", "#dcfce7")
    ),
    "reduction": Family(
        "reduction", ("#ffe4d6", "#ea580c", "#7c2d12"), ("#47230f", "#fb923c", "#ffe9dc")
    ),
    "movement": Family(
        "moves data", ("#f1f5f9", "#94a3b8", "#334155"), ("#232c3a", "#7b8ba3", "#e2e8f0")
    ),
    "random": Family(
        "random", ("#fce7f3", "#db2777", "#831843"), ("#451a30", "#f472b6", "#fce7f3")
    ),
    "control": Family(
        "control flow", ("#ccfbf1", "#0d9488", "#134e4a"), ("#0f3a37", "#2dd4bf", "#ccfbf1")
    ),
    "scope": Family("scope", ("#e8ecf3", "#64748b", "#1f2937"), ("#2a3342", "#94a3b8", "#eef2f7")),
    "other": Family(
        "other op", ("#f5f5f4", "#78716c", "#292524"), ("#33302d", "#a8a29e", "#f5f5f4")
    ),
}

#: ops whose class says too little go by the file that defines them: a family of ops per file
_BY_FILE = {
    "creation": "constant",
    "movement": "movement",
    "indexing": "movement",
    "sorting": "movement",
    "linalg": "contraction",
    "conv": "contraction",
    "pool": "reduction",
    "random": "random",
    "control": "control",
}


def family_of(node: Node) -> str:
    """The colour family of an op."""
    op = node.op
    if isinstance(op, Elementwise):
        return "elementwise"
    if isinstance(op, Reduction):
        return "reduction"
    if any(subgraphs(value) for value in node.attrs.values()):
        return "control"
    default = "contraction" if isinstance(op, Template) else "other"
    return _BY_FILE.get(type(op).__module__.rpartition(".")[2], default)
