"""An SVG drawing read back into rectangles and sampled edges, so that tests can measure it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise
from xml.etree import ElementTree

_NUMBER = re.compile(r"-?[\d.]+(?:e-?\d+)?")
_COMMAND = re.compile(r"([MVHCLZ])([^MVHCLZ]*)")


@dataclass
class Rect:
    key: str
    left: float
    top: float
    right: float
    bottom: float
    texts: list[tuple[str, str]] = field(default_factory=list)

    def overlaps(self, other: Rect) -> bool:
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )

    def holds(self, x: float, y: float) -> bool:
        """Whether a point is inside, not on the border."""
        return self.left + 1 < x < self.right - 1 and self.top + 1 < y < self.bottom - 1


@dataclass
class Measured:
    boxes: list[Rect]
    frames: list[Rect]
    #: for each edge piece points along it, at most 3 pixels apart
    wires: list[list[tuple[float, float]]]
    #: tips of the arrow heads
    tips: list[tuple[float, float]]


def measure(svg: str) -> Measured:
    """The boxes, frames and edges of a drawing."""
    root = ElementTree.fromstring(svg)
    found = Measured([], [], [], [])
    for group in root.iter("{http://www.w3.org/2000/svg}g"):
        name = group.get("class")
        if name in ("boxes", "frames"):
            rects = found.boxes if name == "boxes" else found.frames
            rects += [_rect(part) for part in group]
        elif name == "wires":
            for path in group:
                if "head" in path.get("class", "").split():
                    found.tips.append(_tip(path.get("d")))
                else:
                    found.wires.append(_samples(path.get("d")))
    return found


def _rect(group) -> Rect:
    # A closed frame has its shadow first.
    shape = [part for part in group if part.tag.endswith("rect")][-1]
    left, top, width, height = (float(shape.get(k)) for k in ("x", "y", "width", "height"))
    texts = [
        (part.get("class"), "".join(part.itertext())) for part in group if part.tag.endswith("text")
    ]
    return Rect(group.get("id"), left, top, left + width, top + height, texts)


def _numbers(text: str) -> list[float]:
    return [float(number) for number in _NUMBER.findall(text)]


def _tip(d: str) -> tuple[float, float]:
    x, y = _numbers(d.partition("L")[2])
    return x, y


def _samples(d: str) -> list[tuple[float, float]]:
    points: list[tuple[float, float]] = []
    for command, rest in _COMMAND.findall(d):
        values = _numbers(rest)
        if command == "M":
            points.append((values[0], values[1]))
            continue
        x, y = points[-1]
        if command == "V":
            ends = [(x, y), (x, y), (x, values[0]), (x, values[0])]
        else:
            assert command == "C", d
            ends = [(x, y), *zip(values[::2], values[1::2], strict=True)]
        length = sum(abs(a - b) for p, q in pairwise(ends) for a, b in zip(p, q, strict=True))
        count = max(2, int(length / 3))
        points += [_bezier(ends, k / count) for k in range(1, count + 1)]
    return points


def _bezier(ends: list[tuple[float, float]], t: float) -> tuple[float, float]:
    weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3)
    x = sum(w * p[0] for w, p in zip(weights, ends, strict=True))
    return x, sum(w * p[1] for w, p in zip(weights, ends, strict=True))
