"""Picture to SVG: one file with its own styles, light and dark, that needs nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape

from graphflow.viz.families import FAMILIES
from graphflow.viz.layers import Level, Slot, layer_picture
from graphflow.viz.measure import (
    FRAME_TITLE_HEIGHT,
    LINE_HEIGHT,
    LINE_SIZE,
    PADDING_Y,
    SMALL_SIZE,
    TITLE_HEIGHT,
    TITLE_SIZE,
    box_size,
    frame_title,
    heat_text,
    text_width,
)
from graphflow.viz.picture import Box, Cluster, Picture
from graphflow.viz.place import ARROW, has_label, place, wires

FONT = "'Helvetica Neue', Helvetica, Arial, 'Liberation Sans', sans-serif"
_PAGE_TITLE_HEIGHT, _LEGEND_HEIGHT, _LEAST_WIDTH, _MARGIN = 34.0, 20.0, 320.0, 14.0
_PILLS = ("input", "variable", "constant", "output", "update")
#: characters that no XML file may hold
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def svg_text(picture: Picture) -> str:
    """The picture as an SVG document."""
    level = layer_picture(picture)
    place(level)
    top = _PAGE_TITLE_HEIGHT if picture.title else 0.0
    width = max(level.width, _LEAST_WIDTH, text_width(picture.title, 15, bold=True) + 2 * _MARGIN)
    left = (width - level.width) / 2
    legend = _legend(picture, width)
    height = top + level.height + _LEGEND_HEIGHT * len(legend) + _MARGIN
    size = f'width="{number(width)}" height="{number(height)}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {number(width)} '
        + f'{number(height)}" class="graphflow">',
        f"<style>{style_sheet()}</style>",
        f'<rect class="page" {size}/>',
    ]
    if picture.title:
        parts.append(f'<text class="heading" x="{_MARGIN:g}" y="24">{clean(picture.title)}</text>')
    frames: list[str] = []
    lines: list[str] = []
    boxes: list[str] = []
    labels: list[str] = []
    for part, x, y in _placed_levels(level, left, top):
        if part is not level:
            frames.append(_frame(part, x, y))
        for wire in wires(part, x, y):
            lines.append(_wire(wire.points, wire.link.value[1], wire.arrives))
        for slot in (slot for row in part.rows for slot in row):
            if isinstance(slot.element, Box):
                boxes.append(box_markup(slot.element, x + slot.x - slot.left, y + slot.y))
            if has_label(slot):
                labels.append(_value_label(slot, x, y))
    for name, group in (("frames", frames), ("wires", lines), ("boxes", boxes), ("labels", labels)):
        if group:
            parts += [f'<g class="{name}">', *group, "</g>"]
    parts += _draw_legend(legend, top + level.height)
    return "\n".join([*parts, "</svg>", ""])


def _placed_levels(level: Level, left: float, top: float) -> Iterator[tuple[Level, float, float]]:
    """Each level with the corner of its frame on the page, outer ones first."""
    stack = [(level, left, top)]
    while stack:
        level, left, top = stack.pop()
        yield level, left, top
        slots = {slot.element: slot for row in level.rows for slot in row if slot.kind == "cluster"}
        for cluster, inner in reversed(level.inner.items()):
            slot = slots[cluster]
            stack.append((inner, left + slot.x - slot.left, top + slot.y))


def number(value: float) -> str:
    """A coordinate with at most one decimal."""
    return f"{value:.1f}".removesuffix(".0")


def clean(text: str) -> str:
    """Text that may stand in XML, in an attribute too."""
    return escape(_FORBIDDEN.sub("\ufffd", text), quote=True)


# ---- parts -----------------------------------------------------------------------------------


def _frame(level: Level, x: float, y: float) -> str:
    cluster = level.cluster
    depth = -1
    outer: Cluster | None = cluster
    while outer is not None:
        outer, depth = outer.parent, depth + 1
    return (
        f'<g class="frame {cluster.kind} d{depth % 2}" id="{clean(cluster.key)}">'
        f"{_hover(cluster.hover)}"
        f'<rect x="{number(x)}" y="{number(y)}" width="{number(level.width)}" '
        f'height="{number(level.height)}" rx="10"/>'
        f'<text class="frametitle" x="{number(x + 12)}" '
        f'y="{number(y + FRAME_TITLE_HEIGHT - 3)}">{clean(frame_title(cluster))}</text></g>'
    )


def box_markup(box: Box, x: float, y: float, with_hover: bool = True) -> str:
    """The shapes and texts of one box with its corner at (x, y)."""
    width, height = box_size(box)
    small = box.kind in ("movement", "reference")
    radius = height / 2 if box.kind in _PILLS or small else 6
    corner = f'x="{number(x)}" y="{number(y)}" width="{number(width)}" height="{number(height)}"'
    classes = f"box {box.kind} of-{box.family}" + (" again" if box.repeated else "")
    parts = [f'<g class="{classes}" id="{clean(box.key)}">']
    parts.append(_hover(box.hover) if with_hover else "")
    if box.kind == "scope":
        parts.append(
            f'<rect x="{number(x + 4)}" y="{number(y + 4)}" width="{number(width)}" '
            f'height="{number(height)}" rx="6"/>'
        )
    fill = f' style="fill:{heat_colour(box.heat)}"' if box.heat is not None else ""
    parts.append(f'<rect {corner} rx="{number(radius)}"{fill}/>')
    middle = number(x + width / 2)
    if small:
        parts.append(
            f'<text class="small" x="{middle}" y="{number(y + 12.5)}">{clean(box.title)}</text>'
        )
    else:
        at = y + PADDING_Y + TITLE_HEIGHT - 4.5
        share = ""
        if box.heat is not None:
            share = f'<tspan class="share" dx="8">{heat_text(box.heat)}</tspan>'
        hot = " hot" if box.heat is not None else ""
        parts.append(
            f'<text class="name{hot}" x="{middle}" y="{number(at)}">{clean(box.title)}{share}</text>'
        )
        for line in box.lines:
            at += LINE_HEIGHT
            parts.append(
                f'<text class="line{hot}" x="{middle}" y="{number(at)}">{clean(line)}</text>'
            )
    return "".join([*parts, "</g>"])


def _hover(lines: tuple[str, ...]) -> str:
    return f"<title>{clean(chr(10).join(lines))}</title>" if lines else ""


def _wire(points: tuple[tuple[float, float], ...], kind: str, arrives: bool) -> str:
    (x0, y0), (_, y1), (x1, y2), (_, y3) = points
    if abs(x1 - x0) < 0.5:
        path = f"M{number(x0)} {number(y0)}V{number(y3)}"
    else:
        bend = max((y2 - y1) * 0.6, 4.0)
        path = (
            f"M{number(x0)} {number(y0)}V{number(y1)}C{number(x0)} {number(y1 + bend)} "
            f"{number(x1)} {number(y2 - bend)} {number(x1)} {number(y2)}V{number(y3)}"
        )
    line = f'<path class="{kind}" d="{path}"/>'
    if not arrives:
        return line
    head = f"M{number(x1 - 3.5)} {number(y3 - 1)}H{number(x1 + 3.5)}L{number(x1)} {number(y3 + ARROW)}Z"
    return f'{line}<path class="head {kind}" d="{head}"/>'


def _value_label(slot: Slot, x: float, y: float) -> str:
    assert slot.element is not None
    # A collapsed frame throws a shadow of 4 pixels.
    below = 15 if slot.element.kind == "scope" else 12
    at_x, at_y = number(x + slot.x + 6), number(y + slot.y + slot.height + below)
    return f'<text class="label" x="{at_x}" y="{at_y}">{clean(slot.element.label)}</text>'


def heat_colour(heat: float) -> str:
    """From near white for nothing to red for a half of the time and more."""
    share = min(1.0, (heat / 0.5) ** 0.6)
    cold, hot = (255, 247, 237), (239, 90, 60)
    return "#" + "".join(
        f"{round(c + (h - c) * share):02x}" for c, h in zip(cold, hot, strict=True)
    )


# ---- legend and style ------------------------------------------------------------------------


def _legend(
    picture: Picture, width: float, closes: bool = False
) -> list[list[tuple[str, str, float]]]:
    """Rows of (family, text, x) for the families that occur, wrapped at the width of the page."""
    used = {box.family for box in picture.root.boxes()}
    if closes:
        # Frames that a reader can close look like scopes then.
        used |= {"scope" for cluster in picture.root.clusters() if cluster.kind == "scope"}
    rows: list[list[tuple[str, str, float]]] = [[]]
    x = _MARGIN
    for name, family in FAMILIES.items():
        if name in used:
            needed = 16 + text_width(family.legend, SMALL_SIZE) + 14
            if x + needed > width and rows[-1]:
                rows.append([])
                x = _MARGIN
            rows[-1].append((name, family.legend, x))
            x += needed
    return rows


def _draw_legend(rows: list[list[tuple[str, str, float]]], top: float) -> list[str]:
    parts = ['<g class="legend">']
    for number_of_row, row in enumerate(rows):
        y = top + _LEGEND_HEIGHT * number_of_row + 4
        for name, text, x in row:
            parts.append(
                f'<g class="box of-{name}"><rect x="{number(x)}" y="{number(y)}" width="11" '
                f'height="11" rx="3"/></g><text class="key" x="{number(x + 16)}" '
                f'y="{number(y + 9.5)}">{clean(text)}</text>'
            )
    return [*parts, "</g>"]


def legend_markup(picture: Picture) -> str:
    """The legend alone, on one line, as an inline SVG."""
    rows = _legend(picture, float("inf"), closes=True)
    _, text, x = rows[0][-1] if rows[0] else ("", "", 0.0)
    width = x + 16 + text_width(text, SMALL_SIZE) + _MARGIN
    parts = _draw_legend(rows, 0.0)
    return f'<svg class="graphflow" width="{number(width)}" height="18">{"".join(parts)}</svg>'


def style_sheet() -> str:
    """The styles of a drawing; the dark ones apply where the reader's system asks for them."""
    light = _colours("light", "#ffffff", "#1f2937", "#64748b", ("#f8fafc", "#f1f5f9"), "#cbd5e1")
    dark = _colours("dark", "#11151c", "#e5e7eb", "#94a3b8", ("#171c26", "#1d2430"), "#3b4657")
    return (
        f".graphflow{{font-family:{FONT}}}.graphflow text{{text-anchor:middle}}"
        f".graphflow .name{{font-size:{TITLE_SIZE:g}px;font-weight:600}}"
        f".graphflow .line,.graphflow .share{{font-size:{LINE_SIZE:g}px;font-weight:400}}"
        ".graphflow .line{opacity:.85}"
        f".graphflow .small,.graphflow .key{{font-size:{SMALL_SIZE:g}px}}"
        f".graphflow .frametitle{{font-size:{TITLE_SIZE - 1:g}px;font-weight:600;"
        "text-anchor:start}.graphflow .heading{font-size:15px;font-weight:600;text-anchor:start}"
        f".graphflow .key{{text-anchor:start}}.graphflow .label{{font-size:{SMALL_SIZE:g}px;"
        "text-anchor:start;paint-order:stroke;stroke-width:4px;stroke-linejoin:round}"
        ".wires path{fill:none;stroke-width:1.3px}.wires .update{stroke-dasharray:5 4}"
        ".wires .head,.wires .head.update{stroke:none}"
        ".graphflow text{white-space:pre}.frame rect{stroke-width:1px}.frame.group rect{stroke-dasharray:6 3;stroke-width:1.3px}"
        ".box rect{stroke-width:1.2px}.box.again rect{stroke-opacity:.4}"
        ".box.movement rect,.box.reference rect{stroke-opacity:.5;stroke-width:.8px}"
        ".box.update rect{stroke-width:2px}.box.reference rect{stroke-dasharray:2 2}"
        f".box .hot{{fill:#431407!important}}{light}"
        f"@media (prefers-color-scheme:dark){{{dark}}}"
    )


def _colours(
    mode: str, page: str, text: str, line: str, frames: tuple[str, str], border: str
) -> str:
    rules = (
        f".page{{fill:{page}}}.graphflow .heading{{fill:{text}}}"
        f".graphflow .label,.graphflow .key,.graphflow .frametitle{{fill:{line}}}"
        f".graphflow .label{{stroke:{page};stroke-opacity:.85}}"
        f".wires path{{stroke:{line}}}.wires .head{{fill:{line}}}"
        f".frame rect{{stroke:{border}}}.frame.d1 rect{{fill:{frames[0]}}}"
        f".frame.d0 rect{{fill:{frames[1]}}}"
    )
    update = getattr(FAMILIES["variable"], mode)[1]
    rules += f".wires .update{{stroke:{update}}}.wires .head.update{{fill:{update}}}"
    rules += f".frame.body rect{{stroke:{getattr(FAMILIES['control'], mode)[1]}}}"
    for name, family in FAMILIES.items():
        fill, stroke, ink = getattr(family, mode)
        rules += f".of-{name} rect{{fill:{fill};stroke:{stroke}}}.of-{name} text{{fill:{ink}}}"
    return rules
