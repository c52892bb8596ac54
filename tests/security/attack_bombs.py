"""The attack files that are small and ask for much: nodes, memory, algebra of sizes."""

from __future__ import annotations

from typing import Any

from tests.security.attack_kit import Attack, of_nodes, op_over, placeholder


def _doubling(times: int) -> bytes:
    rows: list[Any] = [placeholder(1024)]
    for k in range(times):
        rows.append(["concat", [k, k], {"axis": 0}])
    return of_nodes(rows)


def _fan_out(times: int) -> bytes:
    rows: list[Any] = [placeholder(1)]
    for k in range(times):
        rows.append(["concat", [k] * 4096, {"axis": 0}])
    return of_nodes(rows)


def _symbolic_fan_out() -> bytes:
    names = [[f"{letter}{k}" for k in range(10)] for letter in "mn"]
    wide = [[1, m, n] for m, n in zip(*names, strict=True)]
    rows = [placeholder(*names[0]), placeholder(*names[1]), placeholder(wide, 10, 10)]
    rows += [["concat", [2] * 4096, {"axis": 0}] for _ in range(40)]
    return of_nodes(rows, outputs=[0, 1, *range(3, 43)])


def _fill(*shape: Any) -> list[Any]:
    return ["full", [], {"dtype": "float64", "shape": list(shape), "value": 1.0}]


RESOURCES: dict[str, Attack] = {
    "nodes": (
        lambda: of_nodes([placeholder(3)] + [["exp", [k], {}] for k in range(100_000)]),
        "number of nodes",
    ),
    "edges": (
        lambda: of_nodes(
            [placeholder(0)] + [["concat", [k] * 4096, {"axis": 0}] for k in range(250)]
        ),
        "number of inputs",
    ),
    "list": (op_over("slice", {"shape": [1], "start": [0], "step": [1] * 5000}, (3,)), "items"),
    "constant_fold": (
        lambda: of_nodes([_fill(), ["broadcast_to", [0], {"shape": [1 << 20, 1 << 20]}]]),
        "planned memory",
    ),
    "fill": (lambda: of_nodes([_fill(1 << 39)]), "planned memory"),
    "fill_then_sum": (
        lambda: of_nodes([_fill(1 << 36), ["sum", [0], {"axes": [0]}]]),
        "planned memory",
    ),
    "doubling": (lambda: _doubling(29), "planned memory"),
    "doubling_to_2_100": (lambda: _doubling(90), "inferred size"),
    "fan_out": (lambda: _fan_out(3), "planned memory"),
    "symbolic_fan_out": (_symbolic_fan_out, "terms of all shapes"),
    "outer_product": (
        op_over(
            "matmul",
            {"transpose_a": False, "transpose_b": False},
            (1 << 20, 1),
            (1, 1 << 20),
        ),
        "planned memory",
    ),
    "huge_static_input": (lambda: of_nodes([placeholder(1 << 40)]), "planned memory"),
    "huge_beside_a_name": (lambda: of_nodes([placeholder("n", 1 << 40)]), "planned memory"),
}
