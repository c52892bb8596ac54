"""Graphs to look at: text, SVG, HTML, DOT, Mermaid and networkx."""

from graphflow.viz.draw import Drawing, viz
from graphflow.viz.network import to_networkx

__all__ = ["Drawing", "to_networkx", "viz"]
