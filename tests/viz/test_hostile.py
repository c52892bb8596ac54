"""Names that would end a string, a comment or an element, in every language; and wrong requests."""

import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest

import graphflow as gf
from graphflow.errors import GraphError

HOSTILE = [
    'quo"te',
    "apo'strophe",
    "two\nlines",
    "<script>alert(1)</script>",
    "--><b>",
    "]]>",
    "</title></svg>",
    "back\\slash\\",
    "&amp;&#34;#quot;",
    "日本語 é 🙂",
    "\x00\x07\x1b[0m\r\u2028\ufffe",
    "{{}}${x}`%%{init}%%`",
    "end; subgraph x",
]


def hostile_step(name):
    """A function all of whose names are `name`: input, variable, node, scope, output, title."""
    x, w = gf.placeholder((3,), name=name), gf.variable(np.ones(3, "f4"), name)
    with gf.name_scope(name.replace("/", "|") or "scope"):
        y = gf.tanh(x * w)
    return gf.function([x], {name: y}, updates=[(w, w - 0.1 * y)], name=name, mode="interpret")


@pytest.mark.parametrize("name", HOSTILE)
def test_svg_stays_xml(name):
    root = ElementTree.fromstring(gf.viz(hostile_step(name), format="svg"))
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert tags <= {"svg", "style", "rect", "g", "title", "text", "tspan", "path"}
    assert root.find("{*}text[@class='heading']") is not None


@pytest.mark.parametrize("name", HOSTILE)
def test_dot_strings_stay_closed(name):
    text = gf.viz(hostile_step(name), format="dot")
    bare = re.sub(r'"(?:[^"\\\n]|\\[^\n])*"', "S", text)
    words = set(re.findall(r"[^\s\[\]{}=,;]+", bare))
    assert words == {
        "digraph", "graphflow", "compound", "true", "rankdir", "TB", "fontname", "Helvetica",
        "node", "shape", "box", "style", "filled", "fontsize", "11", "edge", "9", "color",
        "gray40", "label", "labelloc", "t", "labeljust", "l", "subgraph", "rounded", "gray60", "S",
        "fillcolor", "fontcolor", "tooltip", "->", "dashed",
    }  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_mermaid_strings_stay_closed(name):
    text = gf.viz(hostile_step(name), format="mermaid")
    inside = re.findall(r'"([^"\n]*)"', text)
    assert inside
    for string in inside:
        assert not re.search(r"[<>&`]", string.replace("<br>", "")), string
        assert string.isprintable()
    lines = re.sub(r'"[^"\n]*"', "S", text).splitlines()
    known = re.compile(
        r"---|title: S|flowchart TD|  classDef \w+ [\w:#,-]+|\s*end|\s*subgraph \w+\[S\]"
        r"|\s*\w+(\[S\]|\(\[S\]\)):::\w+|  \w+ (-->|-\.->)(\|S\|)? \w+"
    )
    assert [line for line in lines if not known.fullmatch(line)] == []


class _Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.scripts, self.heading = [], [], ""
        self.open = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif self.open and self.open[-1] == "h1":
            self.heading += data


@pytest.mark.parametrize("name", HOSTILE)
def test_html_has_two_scripts_and_its_data(name):
    plain, page = _Page(), _Page()
    plain.feed(gf.viz(hostile_step("plain"), format="html"))
    page.feed(gf.viz(hostile_step(name), format="html"))
    assert page.tags == plain.tags
    assert len(page.scripts) == 2 and page.scripts[1] == plain.scripts[1]
    data = json.loads(page.scripts[0])
    for box in data["boxes"]:
        # The script of the page puts this into the document as it is.
        ElementTree.fromstring(box["markup"])
    assert page.heading.strip()


@pytest.mark.parametrize("kind", ["svg", "html", "dot", "mermaid", "text"])
@pytest.mark.parametrize("name", HOSTILE)
def test_files_hold_what_is_returned(kind, name, tmp_path):
    text = gf.viz(hostile_step(name), tmp_path / "drawing", format=kind)
    assert (tmp_path / "drawing").read_bytes().decode("utf-8") == text


# ---- wrong requests --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "options", "words"),
    [
        (("g.png",), {}, ("g.png", ".svg", "format=")),
        (("g",), {}, ("'g'", ".svg")),
        ((None, "pdf"), {}, ("'pdf'", "svg", "mermaid")),
        ((None, "SVG"), {}, ("'SVG'", "svg")),
        ((), {"detail": "all"}, ("'all'", "overview", "full")),
        ((), {"depth": -1}, ("depth is -1", "0")),
    ],
)
def test_wrong_requests_say_what_there_is(arguments, options, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GraphError) as caught:
        gf.viz(hostile_step("x"), *arguments, **options)
    assert all(word in str(caught.value) for word in words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("thing", [None, 3, "x", [], {}, [1], np.ones(3), object])
def test_what_cannot_be_drawn(thing):
    with pytest.raises(GraphError, match=r"viz: cannot draw .*expected a Tensor"):
        gf.viz(thing)
