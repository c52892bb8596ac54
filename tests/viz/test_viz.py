"""Pictures are well formed, complete, and the same each time."""

from xml.etree import ElementTree

import numpy as np
import pytest

import graphflow as gf
from graphflow.compiler.graph import Graph
from graphflow.compiler.op import ops
from graphflow.compiler.printer import graph_text


def training_step():
    x = gf.placeholder(("batch", 3), name="x")
    w = gf.variable(np.ones((3, 2), "f4"), name="W<1>")
    with gf.name_scope("dense"):
        loss = gf.mean(gf.tanh(x @ w) * 0.5)
    return gf.function([x], loss, updates=[(w, w - gf.grad(loss, w))], mode="interpret")


def test_svg_is_xml_and_names_what_matters():
    text = gf.viz(training_step(), format="svg")
    ElementTree.fromstring(text)
    for word in ("matmul", "tanh", "(batch, 3)", "W&lt;1&gt;", "dense"):
        assert word in text


@pytest.mark.parametrize("kind", ["svg", "html", "dot", "mermaid", "text"])
def test_every_format_is_deterministic(kind):
    step = training_step()
    assert gf.viz(step, format=kind) == gf.viz(step, format=kind)


@pytest.mark.parametrize("ending", ["svg", "html", "dot", "mmd", "txt"])
def test_the_ending_chooses_the_format(tmp_path, ending):
    path = tmp_path / f"g.{ending}"
    gf.viz(training_step(), path)
    assert path.stat().st_size > 200


def test_html_needs_nothing_from_outside():
    text = gf.viz(training_step(), format="html")
    assert "src=" not in text and "@import" not in text


def test_printed_graph():
    x = ops.placeholder(shape=(2, 3), dtype="float32", name="x")
    y = ops.sum(ops.exp(x), axes=(1,))
    assert graph_text(Graph((x,), (y,)), sources=False) == (
        '%0 = placeholder "x" : float32(2, 3)\n'
        "%1 = exp(%0) : float32(2, 3)\n"
        "%2 = sum(%1, axes=(1,)) : float32(2,)\n"
        "return %2\n"
    )


def test_a_large_graph_is_drawn():
    x = gf.placeholder((4,), name="x")
    y = x
    for k in range(300):
        with gf.name_scope(f"block{k // 50}"):
            y = gf.tanh(y) + 1.0
    drawing = ElementTree.fromstring(gf.viz(y, format="svg"))
    text = " ".join(drawing.itertext())
    assert all(f"block{k}" in text for k in range(6))


def test_outputs_are_named_by_their_keys():
    x = gf.placeholder((2,), name="x")
    given = {"mean": gf.mean(x), "parts": [gf.exp(x), gf.tanh(x)]}
    text = gf.viz(gf.function([x], given, mode="interpret"), format="svg")
    assert all(f">{name}</text>" in text for name in ("mean", "parts.0", "parts.1"))
    plain = gf.viz(gf.function([x], [gf.exp(x), gf.tanh(x)], mode="interpret"), format="svg")
    assert ">output 1</text>" in plain
