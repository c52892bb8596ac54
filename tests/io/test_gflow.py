"""Functions saved and loaded: the same values, the same bytes, training that goes on."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import graphflow as gf
from graphflow.compiler.dims import floor_div, symbol
from graphflow.compiler.errors import GraphFormatError
from graphflow.compiler.graph import Graph, Node
from graphflow.compiler.interpreter import evaluate
from graphflow.compiler.op import Op, ops
from graphflow.compiler.spec import TensorSpec
from graphflow.io import Limits, check, load, read_graph, save, write_graph
from tests.io.random_graphs import random_array, random_graph

ROOT = Path(__file__).parents[2]


def train_step(mode: str = "interpret") -> gf.Function:
    """The 2-2-1 network with its update, as a user writes it."""
    rng = np.random.default_rng(0)
    x = gf.placeholder(("batch", 2), name="x")
    t = gf.placeholder(("batch", 1), name="t")
    w = gf.variable(rng.normal(size=(2, 1)).astype("f4"), "w")
    b = gf.variable(np.zeros(1, "f4"), "b")
    steps = gf.variable(0, "steps", trainable=False)
    y = gf.nn.sigmoid(gf.sum(x[:, :, None] * w, axis=1) + b)
    loss = gf.mean((y - t) ** 2)
    grads = gf.grad(loss, [w, b])
    updates = [(p, p - 0.5 * g) for p, g in zip([w, b], grads, strict=True)]
    return gf.function(
        [x, t],
        {"loss": loss, "outputs": (y, [steps])},
        updates=[*updates, (steps, steps + 1)],
        name="train step",
        mode=mode,
    )


X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], "f4")
T = np.array([[0], [1], [1], [1]], "f4")


def run(function: gf.Function, steps: int = 3) -> list[Any]:
    return [function(X, T)["loss"] for _ in range(steps)]


# ---- functions -------------------------------------------------------------------------------


def test_a_training_step_goes_on_where_it_was(tmp_path: Path) -> None:
    first = train_step()
    run(first, 5)
    save(first, tmp_path / "step.gflow")
    second = load(tmp_path / "step.gflow", mode="interpret")
    assert run(first) == run(second)
    for a, b in zip(first.variables, second.variables, strict=True):
        np.testing.assert_array_equal(a.value, b.value)
        assert (a.name, a.trainable, a.source) == (b.name, b.trainable, b.source)


def test_a_loaded_function_shares_nothing_with_the_saved_one(tmp_path: Path) -> None:
    first = train_step()
    save(first, tmp_path / "step.gflow")
    second, third = (load(tmp_path / "step.gflow", mode="interpret") for _ in range(2))
    run(first)
    assert run(second) == run(third)


def test_the_call_looks_the_same(tmp_path: Path) -> None:
    first = train_step()
    save(first, tmp_path / "step.gflow")
    second = load(tmp_path / "step.gflow", mode="interpret")
    result = second(t=T, x=X)
    assert list(result) == ["loss", "outputs"]
    assert type(result["outputs"]) is tuple and type(result["outputs"][1]) is list
    assert second.name == "train step" and second.mode == "interpret"
    assert [(n.name, n.spec) for n in first.inputs] == [(n.name, n.spec) for n in second.inputs]
    with pytest.raises(gf.errors.GraphError, match="'z'"):
        second(z=X)


def test_any_batch_size_after_loading(tmp_path: Path) -> None:
    save(train_step(), tmp_path / "step.gflow")
    second = load(tmp_path / "step.gflow", mode="interpret")
    for batch in (1, 3, 8):
        assert second(np.zeros((batch, 2), "f4"), np.zeros((batch, 1), "f4"))["outputs"][
            0
        ].shape == (
            batch,
            1,
        )


@pytest.mark.parametrize("mmap", [False, True])
def test_variables_can_be_set_after_loading(mmap: bool, tmp_path: Path) -> None:
    path = tmp_path / "step.gflow"
    save(train_step(), path)
    before = path.read_bytes()
    second = load(path, mode="interpret", mmap=mmap)
    for variable in second.variables:
        variable.value = np.ones(variable.shape, variable.dtype)
        assert variable.storage.ctypes.data % 64 == 0
    run(second)
    assert path.read_bytes() == before


def test_mapped_and_read_functions_agree(tmp_path: Path) -> None:
    save(train_step(), tmp_path / "step.gflow")
    read, mapped = (
        load(tmp_path / "step.gflow", mode="interpret", mmap=mmap) for mmap in (False, True)
    )
    assert run(read) == run(mapped)


@pytest.mark.parametrize(
    "outputs", [None, "one", ["list"], ("tuple",), {"a": "x", "b": {"c": ["y"]}}], ids=str
)
def test_every_structure_of_outputs(outputs: Any, tmp_path: Path) -> None:
    x = gf.placeholder((3,), name="x")
    v = gf.variable(np.zeros(3, "f4"), "v")
    from graphflow.structure import map_structure

    tensors = map_structure(lambda _: x * 2 + v, outputs)
    first = gf.function([x], tensors, updates=[(v, v + x)], mode="interpret")
    save(first, tmp_path / "f.gflow")
    second = load(tmp_path / "f.gflow", mode="interpret")
    for _ in range(2):
        a, b = first(np.ones(3, "f4")), second(np.ones(3, "f4"))
        assert repr(a) == repr(b)


def test_modes_are_those_of_function(tmp_path: Path) -> None:
    save(train_step(), tmp_path / "f.gflow")
    with pytest.raises(gf.errors.GraphError, match="mode 'fast'"):
        load(tmp_path / "f.gflow", mode="fast")


def test_compiled_function(tmp_path: Path) -> None:
    pytest.importorskip("graphflow.runtime.executor")
    save(train_step("compiled"), tmp_path / "f.gflow")
    first = load(tmp_path / "f.gflow", mode="interpret")
    second = load(tmp_path / "f.gflow")
    np.testing.assert_allclose(run(first), run(second), rtol=1e-5)


# ---- the same bytes --------------------------------------------------------------------------


def test_saving_what_was_loaded_gives_the_same_file(tmp_path: Path) -> None:
    save(train_step(), tmp_path / "a.gflow", metadata={"note": "hello"})
    loaded = load(tmp_path / "a.gflow", mode="interpret")
    save(loaded, tmp_path / "b.gflow", metadata={"note": "hello"})
    assert (tmp_path / "a.gflow").read_bytes() == (tmp_path / "b.gflow").read_bytes()


SCRIPT = """
import hashlib, sys
sys.path.insert(0, sys.argv[1])
from tests.io.test_gflow import save, train_step
from tests.io.random_graphs import random_graph
from graphflow.io import write_graph
save(train_step(), sys.argv[2])
graph, values = random_graph(5)
write_graph(sys.argv[3], graph, values)
"""


def test_same_bytes_in_every_process(tmp_path: Path) -> None:
    """Hash seeds differ, addresses differ, the files do not."""
    digests = set()
    for seed in ("0", "1", "77"):
        paths = [str(tmp_path / f"{k}-{seed}.gflow") for k in "ab"]
        subprocess.run(
            [sys.executable, "-c", SCRIPT, str(ROOT), *paths],
            check=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        digests.add(tuple(hashlib.sha256(Path(p).read_bytes()).hexdigest() for p in paths))
    assert len(digests) == 1


LOADER = """
import sys
import numpy as np
from graphflow.io import load
step = load(sys.argv[1], mode="interpret")
x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], "f4")
t = np.array([[0], [1], [1], [1]], "f4")
print([float(step(x, t)["loss"]) for _ in range(3)])
"""


def test_a_fresh_process_needs_no_code_of_the_model(tmp_path: Path) -> None:
    first = train_step()
    save(first, tmp_path / "step.gflow")
    result = subprocess.run(
        [sys.executable, "-c", LOADER, str(tmp_path / "step.gflow")],
        check=True, capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert result.stdout.strip() == str([float(v) for v in run(first)])


# ---- graphs ----------------------------------------------------------------------------------


def random_inputs(graph: Graph, seed: int) -> list[np.ndarray]:
    import random

    rng = random.Random(seed)
    return [
        random_array(rng, tuple(s if isinstance(s, int) else 3 for s in node.shape), node.dtype)
        for node in graph.inputs
    ]


def results(graph: Graph, values: dict[Node, np.ndarray], inputs: list[np.ndarray]) -> list[Any]:
    """Values of the outputs and updates, or the error that running ends with."""
    try:
        outputs, updated = evaluate(graph, inputs, values)
    except (gf.errors.GraphError, IndexError) as error:
        return [type(error)]
    return [*outputs, *(updated[target] for target, _ in graph.updates)]


@pytest.mark.parametrize("seed", range(30))
def test_random_graphs_compute_the_same(seed: int, tmp_path: Path) -> None:
    graph, values = random_graph(seed)
    write_graph(tmp_path / "g.gflow", graph, values, metadata={"seed": str(seed)})
    saved = read_graph(tmp_path / "g.gflow")
    assert saved.metadata == {"seed": str(seed)}
    inputs = random_inputs(graph, seed)
    expected = results(graph, values, inputs)
    got = results(saved.graph, dict(saved.values), inputs)
    assert len(expected) == len(got)
    for a, b in zip(expected, got, strict=True):
        np.testing.assert_array_equal(a, b)
    write_graph(tmp_path / "h.gflow", saved.graph, saved.values, metadata=saved.metadata)
    assert (tmp_path / "g.gflow").read_bytes() == (tmp_path / "h.gflow").read_bytes()
    check(tmp_path / "g.gflow")


def test_constants_keep_every_bit(tmp_path: Path) -> None:
    array = np.array([np.nan, -np.nan, np.inf, -0.0, 5e-324])
    array.view("u8")[0] |= 12345  # a NaN with a payload
    graph = Graph((), (ops.constant(value=array),))
    for mmap in (False, True):
        write_graph(tmp_path / "g.gflow", graph, {})
        saved = read_graph(tmp_path / "g.gflow", mmap=mmap)
        assert saved.graph.outputs[0].attrs["value"].array.tobytes() == array.tobytes()


def test_a_graph_of_nothing(tmp_path: Path) -> None:
    write_graph(tmp_path / "g.gflow", Graph((), ()), {})
    saved = read_graph(tmp_path / "g.gflow")
    assert saved.graph.nodes == () and check(tmp_path / "g.gflow").nodes == 0


def test_large_graphs_of_many_nodes(tmp_path: Path) -> None:
    x = ops.placeholder(shape=(3,), dtype="float32", name="x")
    node = x
    for _ in range(20_000):
        node = ops.exp(node)
    write_graph(tmp_path / "g.gflow", Graph((x,), (node,)), {})
    assert check(tmp_path / "g.gflow").nodes == 20_001


# ---- the summary -----------------------------------------------------------------------------


def test_summary(tmp_path: Path) -> None:
    path = tmp_path / "step.gflow"
    save(train_step(), path, metadata={"note": "zwölf"})
    summary = check(path)
    assert summary.name == "train step" and summary.format == 1 and summary.opset == 1
    assert [(name, str(spec)) for name, spec in summary.inputs] == [
        ("x", "float32(batch, 2)"),
        ("t", "float32(batch, 1)"),
    ]
    assert summary.dims == ("batch",) and summary.updates == 3
    assert summary.parameters == 3 and summary.state == 1
    assert summary.tensor_bytes == 3 * 4 + 8 and summary.file_bytes == path.stat().st_size
    assert summary.ops["variable"] == 3 and summary.ops["placeholder"] == 2
    assert summary.metadata == {"note": "zwölf"}
    assert summary.memory >= summary.tensor_bytes
    assert summary.producer == f"graphflow {gf.__version__}"


def test_memory_estimate_counts_what_lives_at_once(tmp_path: Path) -> None:
    x = ops.placeholder(shape=(1000,), dtype="float64", name="x")
    node = x
    for _ in range(10):
        node = ops.exp(node)
    write_graph(tmp_path / "g.gflow", Graph((x,), (node,)), {})
    assert check(tmp_path / "g.gflow").memory == 2 * 8000
    total = ops.add(x, node)
    write_graph(tmp_path / "g.gflow", Graph((x,), (total,)), {})
    assert check(tmp_path / "g.gflow").memory == 3 * 8000


class Repeat(Op):
    """An op with a body that it runs, one value at a time."""

    name = "my::repeat"
    attributes: ClassVar[Mapping[str, str]] = {"body": "graph"}

    def infer(self, x: TensorSpec, **attrs: Any) -> TensorSpec:  # type: ignore[override]
        return x


def test_memory_estimate_looks_into_bodies(tmp_path: Path) -> None:
    repeat = Repeat()
    inner = ops.placeholder(shape=(1000,), dtype="float64")
    body = Graph((inner,), (ops.add(ops.exp(inner), ops.sin(inner)),))
    x = ops.placeholder(shape=(1000,), dtype="float64", name="x")
    graph = Graph((x,), (repeat(repeat(x, body=body), body=body),))
    write_graph(tmp_path / "g.gflow", graph, {})
    summary = check(tmp_path / "g.gflow", custom_ops={repeat.name: repeat})
    assert summary.memory == (2 + 3) * 8000
    assert summary.ops["custom:my::repeat"] == 2
    with pytest.raises(GraphFormatError, match="custom_ops"):
        read_graph(tmp_path / "g.gflow")


def test_memory_estimate_of_dims_that_cannot_be_1(tmp_path: Path) -> None:
    n = symbol("n")
    x = ops.placeholder(shape=(n, n - 5, floor_div(n, n - 1)), dtype="float64", name="x")
    write_graph(tmp_path / "g.gflow", Graph((x,), (ops.exp(x),)), {})
    assert check(tmp_path / "g.gflow").memory == 0


# ---- what is not saved -----------------------------------------------------------------------


def test_what_check_would_refuse_is_not_saved(tmp_path: Path) -> None:
    path = tmp_path / "f.gflow"
    big = ops.full(shape=(1 << 30,), value=0.0, dtype="float64")
    cases: list[tuple[Any, str]] = [
        (lambda: write_graph(path, Graph((), (big,)), {}), "planned memory"),
        (lambda: save(train_step(), path, limits=Limits(nodes=3)), "number of nodes"),
        (lambda: save(train_step(), path, metadata={"a\n": "b"}), "not allowed"),
        (lambda: save(train_step(), path, metadata={"a": "\x1b[2J"}), "control character"),
        (lambda: save(train_step(), path, metadata={"a": "\ud800"}), "surrogate"),
        (lambda: save(train_step(), path, metadata={"a": 3}), "expected a string"),
    ]
    for action, words in cases:
        with pytest.raises(GraphFormatError, match=words) as caught:
            action()
        assert str(caught.value).startswith("f.gflow: ") and "\n" not in str(caught.value)
        assert os.listdir(tmp_path) == []


def test_values_must_fit_their_variables(tmp_path: Path) -> None:
    v = ops.variable(shape=(3,), dtype="float32", name="v")
    for array in (np.zeros(4, "f4"), np.zeros(3), np.zeros(3, "f2"), np.zeros(3, "O")):
        with pytest.raises(GraphFormatError, match=r"tensor|variables"):
            write_graph(tmp_path / "g", Graph((), (v,)), {v: array})
    with pytest.raises(GraphFormatError, match="has no value"):
        write_graph(tmp_path / "g", Graph((), (v,)), {})


def test_digits_that_look_like_a_digest_may_be_metadata(tmp_path: Path) -> None:
    save(train_step(), tmp_path / "f.gflow", metadata={"parent": "0" * 64, "b": "f" * 64})
    assert check(tmp_path / "f.gflow").metadata["parent"] == "0" * 64


def test_errors_of_the_system_pass_through(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.gflow")
    with pytest.raises(FileNotFoundError):
        save(train_step(), tmp_path / "no folder" / "f.gflow")
