"""How wide a text will be, from a table of advance widths: a layout needs it before any browser."""

from __future__ import annotations

import unicodedata

from graphflow.viz.picture import Box, Cluster

#: thousandths of the font size, from U+0020 to U+007E, of the common sans-serif metric (Helvetica,
#: Arial and Liberation Sans agree)
_ASCII = (
    278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278,
    556, 556, 556, 556, 556, 556, 556, 556, 556, 556, 278, 278, 584, 584, 584, 556,
    1015, 667, 667, 722, 722, 667, 611, 778, 722, 278, 500, 667, 556, 833, 722, 778,
    667, 778, 722, 667, 611, 722, 667, 944, 667, 667, 611, 278, 278, 278, 469, 556,
    333, 556, 556, 500, 556, 556, 278, 556, 556, 222, 222, 500, 222, 833, 556, 556,
    556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334, 260, 334, 584,
)  # fmt: skip
_BOLD_FACTOR = 1.08
#: room for fonts that run a little wider than the table
_SAFETY = 1.04


def text_width(text: str, size: float, bold: bool = False) -> float:
    """Width of one line in pixels for a font of `size` pixels."""
    total = sum(map(_advance, text)) / 1000 * size * _SAFETY
    # Rounded, so that every reader of a drawing computes with the same numbers.
    return round(total * _BOLD_FACTOR if bold else total, 2)


def _advance(character: str) -> int:
    code = ord(character)
    if 32 <= code < 127:
        return _ASCII[code - 32]
    return 1000 if unicodedata.east_asian_width(character) in "WF" else 620


def shorten(text: str, most: int) -> str:
    """`text` on one line, with its middle left out where it has more than `most` characters."""
    text = "".join(c if c.isprintable() else "⏎" if c == "\n" else "�" for c in text)
    if len(text) <= most:
        return text
    tail = (most - 1) // 2
    return f"{text[: most - 1 - tail]}…{text[len(text) - tail :]}"


# ---- boxes -----------------------------------------------------------------------------------

TITLE_SIZE, LINE_SIZE, SMALL_SIZE = 13.0, 11.0, 10.5
#: height of the first line, of each further line, and of the room above and below the text
TITLE_HEIGHT, LINE_HEIGHT, PADDING_Y, PADDING_X = 17.0, 14.0, 5.5, 12.0
FRAME_TITLE_HEIGHT = 20.0
_LEAST_WIDTH = 44.0


def box_size(box: Box) -> tuple[float, float]:
    """Width and height of a box around its text."""
    if box.kind in ("movement", "reference"):
        return text_width(box.title, SMALL_SIZE) + 14, 18.0
    widths = [text_width(box.title, TITLE_SIZE, bold=True)]
    widths += [text_width(line, LINE_SIZE) for line in box.lines]
    if box.heat is not None:
        widths[0] += text_width(heat_text(box.heat), LINE_SIZE) + 8
    height = TITLE_HEIGHT + LINE_HEIGHT * len(box.lines) + 2 * PADDING_Y
    # Pills have round ends, which need more room beside the text.
    round_ends = 10 if box.kind in ("input", "variable", "constant", "output", "update") else 0
    return max(_LEAST_WIDTH, max(widths) + 2 * PADDING_X + round_ends), height


def label_width(text: str) -> float:
    """Width of a shape beside an edge, with the room to the edge; 0 for none."""
    return text_width(text, SMALL_SIZE) + 8 if text else 0.0


def frame_title(cluster: Cluster) -> str:
    """The title of a frame, with its share of the run time where that is known."""
    return cluster.title if cluster.heat is None else f"{cluster.title}  {heat_text(cluster.heat)}"


def heat_text(heat: float) -> str:
    """A share of the run time, `12 %`."""
    return f"{heat * 100:.0f} %" if heat >= 0.095 else f"{heat * 100:.1f} %"
