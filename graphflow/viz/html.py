"""Picture to one HTML file: pan, zoom, search, open and close frames; it loads nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files
from typing import Any

from graphflow.viz import place
from graphflow.viz.collapse import closed_box, values_that_leave
from graphflow.viz.layers import Level, Slot, Value, layer_picture
from graphflow.viz.measure import (
    FRAME_TITLE_HEIGHT,
    TITLE_SIZE,
    box_size,
    frame_title,
    label_width,
    text_width,
)
from graphflow.viz.picture import Box, Cluster, Picture
from graphflow.viz.svg import box_markup, clean, legend_markup, style_sheet

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<header>
<h1>{title}</h1>
<input id="search" type="search" placeholder="search: name, op, shape, line" aria-label="search">
<output id="found" for="search"></output>
<button id="fit" type="button">fit</button>
<button id="open" type="button">open all</button>
<button id="close" type="button">close all</button>
{legend}
</header>
<svg id="canvas" class="graphflow" xmlns="http://www.w3.org/2000/svg"><g id="view"></g></svg>
<div id="hover" role="tooltip"></div>
<noscript>This page draws the graph with JavaScript; the .svg format needs none.</noscript>
<script type="application/json" id="graph">{data}</script>
<script>{script}</script>
</body>
</html>
"""


def html_text(picture: Picture, is_closed: Callable[[Cluster], bool]) -> str:
    """The picture as a page; frames for which `is_closed` holds are closed at first."""
    data = json.dumps(_page_data(picture, is_closed), separators=(",", ":"), ensure_ascii=False)
    folder = files("graphflow.viz")
    return _PAGE.format(
        title=clean(picture.title or "graph"),
        style=style_sheet() + (folder / "page.css").read_text("utf-8"),
        legend=legend_markup(picture),
        # Inside a script element only "<" could end it early.
        data=data.replace("<", "\\u003c"),
        script="".join((folder / name).read_text("utf-8") for name in ("layout.js", "page.js")),
    )


def _page_data(picture: Picture, is_closed: Callable[[Cluster], bool]) -> dict[str, Any]:
    """What the scripts need: frames with their rows, boxes with their markup, and the constants."""
    leaving = values_that_leave(picture)
    levels = layer_picture(picture).walk()
    frame_ids = {level.cluster: position for position, level in enumerate(levels)}
    values: dict[Value, int] = {}
    boxes: list[dict[str, Any]] = []
    box_ids: dict[Box, int] = {}
    for level in levels:
        for row in level.rows:
            for slot in row:
                if isinstance(slot.element, Box):
                    box_ids[slot.element] = len(boxes)
                    boxes.append(_box_data(slot.element, len(boxes), frame_ids[level.cluster]))
        for link in level.links:
            values.setdefault(link.value, len(values))
        for value in (*level.ports_in, *level.ports_out):
            values.setdefault(value, len(values))
    frames = []
    for level in levels:
        cluster = level.cluster
        frame = _level_data(level, box_ids, frame_ids, values)
        frame["id"] = frame_ids[cluster]
        frame["root"] = cluster.kind == "root"
        frame["kind"] = cluster.kind
        frame["title"] = frame_title(cluster)
        frame["label"] = cluster.label
        frame["hover"] = "\n".join(cluster.hover)
        frame["titleWidth"] = text_width(frame_title(cluster), TITLE_SIZE - 1, bold=True)
        frame["parent"] = frame_ids[cluster.parent] if cluster.parent else 0
        frame["open"] = cluster.kind == "root" or not is_closed(cluster)
        closed = closed_box(cluster, leaving.get(cluster, {}))
        frame["closed"] = _box_data(closed, -1, frame["parent"])
        frames.append(frame)
    return {
        "frames": frames,
        "boxes": boxes,
        "values": [_value_data(value, box_ids, frame_ids) for value in values],
        "constants": _constants(),
    }


def _value_data(
    value: Value, box_ids: dict[Box, int], frame_ids: dict[Cluster, int]
) -> dict[str, Any]:
    """Kind of a value, the box that makes it, and the frame around that box (or the frame)."""
    source, kind = value
    if isinstance(source, Box):
        assert source.parent is not None
        return {"kind": kind, "box": box_ids[source], "frame": frame_ids[source.parent]}
    return {"kind": kind, "box": -1 - frame_ids[source], "frame": frame_ids[source]}


def _box_data(box: Box, number: int, frame: int) -> dict[str, Any]:
    width, height = box_size(box)
    return {
        "id": number,
        "frame": frame,
        "width": width,
        "height": height,
        "label": box.label,
        "labelWidth": label_width(box.label),
        "leaf": box.kind in place.LEAVES,
        "hover": "\n".join(box.hover),
        "text": "\n".join((box.title, *box.lines, box.label, *box.hover)).lower(),
        "markup": box_markup(box, 0.0, 0.0, with_hover=False),
    }


def _level_data(
    level: Level, box_ids: dict[Box, int], frame_ids: dict[Cluster, int], values: dict[Value, int]
) -> dict[str, Any]:
    slots = [slot for row in level.rows for slot in row]
    number = {slot: position for position, slot in enumerate(slots)}

    def describe(slot: Slot) -> dict[str, Any]:
        entry: dict[str, Any] = {"id": number[slot], "kind": slot.kind, "row": slot.row}
        if isinstance(slot.element, Box):
            entry["ref"] = box_ids[slot.element]
        elif isinstance(slot.element, Cluster):
            entry.update(kind="frame", ref=frame_ids[slot.element])
        else:
            assert slot.value is not None
            entry["value"] = values[slot.value]
        if slot.kind == "lane":
            origin = slot
            while origin.kind == "lane":
                origin = origin.up[0].upper
            entry["origin"] = number[origin]
        return entry

    return {
        "slots": [describe(slot) for slot in slots],
        "rows": [[number[slot] for slot in row] for row in level.rows],
        "links": [[number[x.upper], number[x.lower], values[x.value]] for x in level.links],
    }


def _constants() -> dict[str, float]:
    """The numbers that place.py and layout.js share."""
    return {
        "betweenBoxes": place.BETWEEN_BOXES,
        "besideLane": place.BESIDE_LANE,
        "betweenLanes": place.BETWEEN_LANES,
        "padding": place.FRAME_PADDING,
        "rowGap": place.ROW_GAP,
        "borderGap": place.BORDER_GAP,
        "labelHeight": place.LABEL_HEIGHT,
        "gapPerWay": place.GAP_PER_WAY,
        "mostGap": place.MOST_GAP,
        "rounds": place.ROUNDS,
        "mostWidened": place.MOST_WIDENED,
        "mostBend": place.MOST_BEND,
        "mostPush": place.MOST_PUSH,
        "arrival": place.ARRIVAL,
        "arrow": place.ARROW,
        "frameTitleHeight": FRAME_TITLE_HEIGHT,
    }
