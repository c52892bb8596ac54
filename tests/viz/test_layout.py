"""What a reader sees: boxes apart, text inside its box, edges whole and around the boxes."""

import os
import subprocess
import sys
from itertools import combinations, pairwise
from pathlib import Path

import pytest

import graphflow as gf
from graphflow.viz.build import build_picture
from graphflow.viz.measure import LINE_SIZE, SMALL_SIZE, TITLE_SIZE, text_width
from graphflow.viz.subject import graph_of
from graphflow.viz.svg import svg_text
from tests.viz import subjects
from tests.viz.geometry import measure

SUBJECTS = {
    "five nodes": (subjects.five_nodes, "ops"),
    "forward": (subjects.forward, "ops"),
    "forward, all nodes": (subjects.forward, "full"),
    "training step": (subjects.adam_step, "ops"),
    "training step without scopes": (lambda: subjects.adam_step(scoped=False), "ops"),
    "cond and scan": (subjects.control, "ops"),
    "random": (lambda: subjects.random_graph(80, seed=1), "ops"),
    "random in scopes": (lambda: subjects.random_graph(60, scopes=4, seed=2), "ops"),
}


def pictures():
    for build, detail in SUBJECTS.values():
        subject = graph_of(build())
        yield build_picture(subject.graph, detail, "title", subject.output_names)


@pytest.fixture(scope="module")
def drawn():
    """For each subject its picture and what is measured in its SVG."""
    return {
        name: (picture, measure(svg_text(picture)))
        for name, picture in zip(SUBJECTS, pictures(), strict=True)
    }


@pytest.fixture(params=SUBJECTS)
def one(request, drawn):
    return drawn[request.param]


def test_no_two_boxes_overlap(one):
    _, found = one
    assert len(found.boxes) >= 5
    assert [(a.key, b.key) for a, b in combinations(found.boxes, 2) if a.overlaps(b)] == []


def test_frames_hold_their_boxes_and_no_others(one):
    picture, found = one
    rects = {rect.key: rect for rect in (*found.boxes, *found.frames)}
    for frame in picture.root.clusters():
        outer, inside = rects[frame.key], {box.key for box in frame.boxes()}
        for box in found.boxes:
            assert outer.overlaps(box) == (box.key in inside), (frame.title, box.key)


def test_no_edge_runs_through_a_box(one):
    _, found = one
    crossed = {
        box.key for wire in found.wires for x, y in wire for box in found.boxes if box.holds(x, y)
    }
    assert crossed == set()


def test_edges_have_no_gaps(one):
    """Each piece begins at the end of a box or frame, or where another piece passes."""
    _, found = one
    rects = [*found.boxes, *found.frames]

    def is_attached(wire):
        x, y = wire[0]
        at_rect = any(
            r.left - 1 < x < r.right + 1 and min(abs(y - r.bottom), abs(y - r.top)) < 1
            for r in rects
        )
        return at_rect or any(
            abs(x - px) < 1 and abs(y - py) < 4
            for other in found.wires
            if other is not wire
            for px, py in other
        )

    assert [wire[0] for wire in found.wires if not is_attached(wire)] == []


def test_every_edge_arrives(one):
    picture, found = one
    rects = {rect.key: rect for rect in (*found.boxes, *found.frames)}
    expected = {}
    for edge in picture.edges:
        expected.setdefault(edge.target.key, set()).add((edge.source, edge.kind))
    for key, sources in expected.items():
        rect = rects[key]
        tips = [x for x, y in found.tips if abs(y - rect.top) < 1 and rect.left < x < rect.right]
        assert len(tips) == len(sources), key
    assert len(found.tips) == sum(map(len, expected.values()))


def test_texts_fit_their_boxes(one):
    _, found = one
    sizes = {"name": TITLE_SIZE, "line": LINE_SIZE, "small": SMALL_SIZE}
    for box in found.boxes:
        assert box.texts
        for kind, text in box.texts:
            assert text_width(text, sizes[kind], kind == "name") <= box.right - box.left, text


def test_edges_lead_down(one):
    _, found = one
    assert found.wires and all(wire[-1][1] > wire[0][1] for wire in found.wires)


def test_keys_are_unique(one):
    picture, _ = one
    keys = [element.key for element in (*picture.root.boxes(), *picture.root.clusters())]
    assert len(keys) == len(set(keys)) >= 5


# ---- what the pictures say -------------------------------------------------------------------


def test_an_update_is_framed_with_its_slots():
    graph = subjects.adam_step().graph
    frames = {c.title: c for c in build_picture(graph, "ops").root.clusters()}
    titles = {box.title for box in frames["update W2"].boxes()}
    assert {"W2 :=", "m_W2 :=", "v_W2 :=", "sqrt", "add + 1e-07"} <= titles
    assert not any(title.endswith("W1 :=") for title in titles)
    assert "layer1 · backward" in frames
    # The step count serves all of them.
    assert all(box.title != "step :=" for c in frames.values() for box in c.boxes())


def test_a_training_step_is_drawn_with_closed_updates():
    text = gf.viz(subjects.adam_step(), format="svg")
    boxes = measure(text).boxes
    shown = {box.texts[0][1]: [line for _, line in box.texts[1:]] for box in boxes}
    assert len(boxes) < 40
    assert shown["update b3"] == ["12 ops", "sets m_b3, v_b3, b3"]
    assert "of-variable" in text


def test_running_sums_belong_to_the_forward_part():
    x = gf.placeholder(("batch", 3), name="x")
    w, total = gf.variable([1.0, 2.0, 3.0], "w"), gf.variable(0.0, "total")
    with gf.name_scope("model"):
        y = gf.tanh(x * w)
    loss = gf.sum(y)
    step = gf.function(
        [x], None, updates=[(total, total + loss), (w, w - 0.1 * gf.grad(loss, w))],
        mode="interpret",
    )  # fmt: skip
    titles = {c.title for c in build_picture(step.graph, "ops").root.clusters()}
    assert {"model", "model · backward", "update w"} <= titles


def test_bodies_name_their_operands():
    picture = build_picture(subjects.control().graph, "ops")
    frames = {frame.title: frame for frame in picture.root.clusters()}
    body = {box.title: box.lines for box in frames["body"].boxes()}
    assert "carry" in body["h0"] and "row" in body["xs"] and "next h0" in body
    then = {box.title for box in frames["then"].boxes()}
    # The other branch reads `last h0`.
    assert "rows" in then and "last h0" not in then


def test_sizes_are_written_into_their_readers():
    x = gf.placeholder(("height", "width", 4), name="x")
    for detail in ("ops", "overview"):
        titles = [
            box.title for box in build_picture(graph_of(gf.mean(x)).graph, detail).root.boxes()
        ]
        assert "divide ÷ 4·height·width" in titles
        assert not {"iota", "multiply"} & set(titles)


def test_a_layer_that_only_reshapes_is_drawn():
    x = gf.placeholder(("batch", 1, 4), name="x")
    with gf.name_scope("flatten"):
        y = gf.reshape(x, (x.shape[0], 4))
    with gf.name_scope("act"):
        y = gf.tanh(y) + gf.reshape(gf.exp(x), (x.shape[0], 4))
    for detail in ("ops", "overview"):
        frames = {c.title: c for c in build_picture(graph_of(y).graph, detail).root.clusters()}
        assert [box.kind for box in frames["flatten"].boxes()] == ["movement"]
        assert "movement" not in [box.kind for box in frames["act"].boxes()]


# ---- large and repeated ----------------------------------------------------------------------


def test_two_thousand_nodes_are_laid_out():
    found = measure(gf.viz(subjects.random_graph(2000, seed=3), format="svg", detail="full"))
    assert len(found.boxes) > 2000
    by_row = sorted(found.boxes, key=lambda box: (box.top, box.left))
    assert not any(a.overlaps(b) for a, b in pairwise(by_row))


def test_a_deep_chain_is_laid_out():
    y = gf.placeholder((4,), name="x")
    for _ in range(3000):
        y = gf.tanh(y)
    assert len(measure(gf.viz(y, format="svg", detail="full")).boxes) == 3002


def test_the_same_bytes_under_any_hash_seed():
    program = (
        "import hashlib, graphflow as gf\n"
        "from tests.viz import subjects\n"
        "for x in (subjects.adam_step(), subjects.control(), subjects.random_graph(60, 4)):\n"
        "    for kind in ('svg', 'html', 'dot', 'mermaid', 'text'):\n"
        "        text = gf.viz(x, format=kind)\n"
        "        print(kind, len(text), hashlib.sha256(text.encode()).hexdigest())\n"
    )
    root = Path(__file__).parents[2]
    printed = [
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root), "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    ]
    assert printed[0] == printed[1]
    assert len(printed[0].splitlines()) == 15
