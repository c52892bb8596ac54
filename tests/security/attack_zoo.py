"""The attack files: name -> (bytes of the file, words that the refusal must contain)."""

from __future__ import annotations

import gzip
import io
import pickle
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.security.attack_bombs import RESOURCES
from tests.security.attack_kit import (
    DATA,
    DOCUMENT,
    TABLE,
    Attack,
    changed,
    header_text,
    of_nodes,
    op_over,
    placeholder,
    retabled,
    seal,
    text,
)

GOOD = seal(header_text())


def _set(*path: Any) -> Callable[[Any], Callable[[Any], None]]:
    """A change that puts a value at a path of keys and positions."""

    def with_value(value: Any) -> Callable[[Any], None]:
        def change(target: Any) -> None:
            for key in path[:-1]:
                target = target[key]
            target[path[-1]] = value

        return change

    return with_value


def _document(value: Any, *path: Any) -> Callable[[], bytes]:
    return lambda: changed(_set(*path)(value))


def _table(value: Any, *path: Any) -> Callable[[], bytes]:
    return lambda: retabled(_set(*path)(value))


def _length(value: int) -> Callable[[], bytes]:
    return lambda: value.to_bytes(8, "little") + GOOD[8:]


def _metadata(**changes: Any) -> Callable[[], bytes]:
    return lambda: seal(header_text(**changes))


def _renamed_tensor(name: str) -> Callable[[], bytes]:
    return lambda: seal(header_text(table={"constant.0": TABLE["constant.0"], name: TABLE["w"]}))


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model.json", "{}")
    return buffer.getvalue()


def _npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(100))
    return buffer.getvalue()


class _Payload:
    def __reduce__(self) -> Any:
        return (print, ("a pickle ran",))


ENVELOPE: dict[str, Attack] = {
    "empty": (lambda: b"", "too few"),
    "seven_bytes": (lambda: b"\0" * 7, "too few"),
    "header_length_0": (_length(0), "impossible"),
    "header_length_1": (_length(1), "impossible"),
    "header_length_beyond_file": (_length(len(GOOD)), "impossible"),
    "header_length_2_63": (_length(1 << 63), "impossible"),
    "header_length_2_64": (_length((1 << 64) - 1), "impossible"),
    "header_length_not_aligned": (
        lambda: (len(GOOD) - 40).to_bytes(8, "little") + GOOD[8:],
        "no multiple of 64",
    ),
    "truncated_in_length": (lambda: GOOD[:5], "too few"),
    "truncated_in_header": (lambda: GOOD[:200], "impossible"),
    "truncated_in_data": (lambda: GOOD[:-1], "missing"),
    "trailing_bytes": (lambda: GOOD + b"x", "not described"),
    "zip_appended": (lambda: GOOD + _zip(), "not described"),
    "leading_space": (lambda: seal(" " + header_text()), "expected a JSON object"),
    "byte_order_mark": (lambda: seal(b"\xef\xbb\xbf" + header_text().encode()), "JSON object"),
    "header_is_a_list": (lambda: seal("[" + header_text() + "]"), "expected a JSON object"),
    "invalid_utf8": (lambda: seal(header_text().encode().replace(b"step", b"st\xffp")), "UTF-8"),
    "two_json_values": (lambda: seal(header_text() + header_text()), "invalid JSON"),
    "unclosed": (lambda: seal(header_text()[:-1]), "brackets do not match"),
    "duplicate_tensor": (
        lambda: seal(header_text()[:-1] + ',"w":' + text(TABLE["w"]) + "}"),
        "'w' occurs twice",
    ),
    "duplicate_metadata": (
        lambda: seal('{"__metadata__":{},' + header_text()[1:]),
        "'__metadata__' occurs twice",
    ),
    "duplicate_among_many": (
        lambda: seal(
            header_text("{" + ",".join(f'"{k}":0' for k in [*range(300_000), 299_999]) + "}")
        ),
        "'299999' occurs twice",
    ),
    "nan": (_table(float("nan"), "w", "shape", 0), "NaN"),
    "infinity": (_table(float("inf"), "w", "shape", 0), "Infinity"),
    "float_1e400": (lambda: seal(header_text().replace("12,24", "12,1e400")), "out of range"),
    "int_of_5000_digits": (
        lambda: seal(header_text().replace("12,24", "12," + "9" * 5000)),
        "5000 digits",
    ),
    "float_of_5000_digits": (
        lambda: seal(header_text().replace("12,24", "12,0." + "9" * 5000)),
        "too long",
    ),
    "nesting_in_header": (
        lambda: seal(header_text()[:-1] + ',"v":' + "[" * 100_000 + "]" * 100_000 + "}"),
        "nested more than",
    ),
    "nesting_of_dicts": (
        lambda: seal(header_text('{"a":' * 100_000 + "1" + "}" * 100_000)),
        "nested more than",
    ),
    "nesting_hidden_by_strings": (
        lambda: seal(header_text('["]",' * 50_000 + "1" + "]" * 50_000)),
        "nested more than",
    ),
    "quotes_without_end": (lambda: seal(header_text('["' + '\\"' * 200_000)), "do not match"),
    "values_without_end": (lambda: seal(header_text("[" + "0," * 3_000_000 + "0]")), "values"),
    "empty_lists": (lambda: seal(header_text("[" + "[]," * 1_500_000 + "0]")), "values"),
    "pickle": (lambda: pickle.dumps(_Payload()) * 10, "pickle"),
    "zip": (_zip, "zip archive"),
    "gzip": (lambda: gzip.compress(GOOD), "gzip"),
    "hdf5": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(2000), "HDF5"),
    "onnx": (lambda: b"\x08\x07\x12\x07pytorch" + b"\x01" * 500, "ONNX"),
    "npy": (_npy, ".npy"),
    "json_only": (lambda: header_text().encode(), "JSON"),
}

METADATA: dict[str, Attack] = {
    "no_metadata": (lambda: seal(text(TABLE)), "no object of strings"),
    "metadata_number": (_metadata(user__n=3), "no object of strings"),
    "no_format": (_metadata(graphflow__format=None), "holds no graph"),
    "format_2": (_metadata(graphflow__format="2"), "newer graphflow"),
    "format_01": (_metadata(graphflow__format="01"), "no version"),
    "format_space": (_metadata(graphflow__format="1 "), "no version"),
    "format_other_digits": (_metadata(graphflow__format="１"), "no version"),
    "no_graph": (_metadata(graphflow__graph=None), "graphflow.graph is missing"),
    "no_digest": (_metadata(graphflow__sha256=None), "graphflow.sha256 is missing"),
    "digest_no_hex": (_metadata(graphflow__sha256="x" * 64), "no sha256"),
    "digest_wrong": (_metadata(graphflow__sha256="f" * 64), "checksum"),
    "digest_twice": (lambda: _digest_twice(), "more than once"),
    "data_flipped": (lambda: GOOD[:-1] + b"\x01", "checksum"),
    "header_flipped": (lambda: GOOD.replace(b"model.py:3", b"model.py:4"), "checksum"),
    "producer_escape": (_metadata(graphflow__producer="\x1b[2J"), "producer"),
    "unknown_key": (_metadata(code="import os"), "'code' is not allowed"),
    "user_key_path": (_metadata(**{"user__../../x": "y"}), "not allowed"),
    "user_control": (_metadata(user__note="\x1b]0;owned\x07"), "control character"),
    "user_null": (_metadata(user__note="a\0b"), "control character"),
    "user_bidi": (_metadata(user__note="abc\u202edef"), "control character"),
    "user_surrogate": (
        lambda: seal(header_text(user__note="@").replace('"@"', r'"\ud800"')),
        "surrogate",
    ),
    "graph_surrogate": (
        lambda: seal(header_text(graphflow__graph="@").replace('"@"', r'"\ud800"')),
        "UTF-8",
    ),
}


def _digest_twice() -> bytes:
    digest = "ab" * 32
    return seal(header_text(graphflow__sha256=digest, user__note=digest))


TENSORS: dict[str, Attack] = {
    "name_empty": (_renamed_tensor(""), "not allowed"),
    "name_parent": (_renamed_tensor("../../etc/passwd"), "not allowed"),
    "name_absolute": (_renamed_tensor("/etc/passwd"), "not allowed"),
    "name_dunder": (_renamed_tensor("__class__"), "not allowed"),
    "name_newline": (_renamed_tensor("w\n"), "not allowed"),
    "name_unicode": (_renamed_tensor("ｗ"), "not allowed"),
    "name_long": (_renamed_tensor("w" * 257), "not allowed"),
    "dtype_unknown": (_table("F128", "w", "dtype"), "unknown"),
    "dtype_object": (_table("O", "w", "dtype"), "unknown"),
    "dtype_list": (_table(["F32"], "w", "dtype"), "unknown"),
    "dtype_bf16": (
        lambda: retabled(lambda t: t["w"].update(dtype="BF16", shape=[6])),
        "not supported",
    ),
    "dtype_size_mismatch": (_table("F64", "w", "dtype"), "do not fit"),
    "key_missing": (lambda: retabled(lambda t: t["w"].pop("shape")), "expected dtype"),
    "key_extra": (_table("http://example.org/w", "w", "url"), "expected dtype"),
    "row_is_list": (_table([], "w"), "expected dtype"),
    "shape_negative": (_table([-3], "w", "shape"), "no list of sizes"),
    "shape_bool": (_table([True], "w", "shape"), "no list of sizes"),
    "shape_float": (_table([3.0], "w", "shape"), "no list of sizes"),
    "shape_string": (_table("3", "w", "shape"), "no list of sizes"),
    "shape_2_63": (_table([1 << 63], "w", "shape"), "an axis is"),
    "shape_overflows_to_0": (_table([1 << 32, 1 << 32], "w", "shape"), "product"),
    "shape_overflows_to_3": (_table([3, (1 << 40) - 1, 1 << 40], "w", "shape"), "product"),
    "shape_zero_hides_huge": (_table([0, 1 << 40, 1 << 40], "w", "shape"), "product"),
    "rank_17": (_table([1] * 16 + [3], "w", "shape"), "axes is 17"),
    "offsets_reversed": (_table([24, 12], "w", "data_offsets"), "do not fit"),
    "offsets_negative": (_table([-12, 0], "w", "data_offsets"), "do not fit"),
    "offsets_bool": (_table([False, 12], "w", "data_offsets"), "no two ints"),
    "offsets_one": (_table([12], "w", "data_offsets"), "no two ints"),
    "overlap": (_table([0, 12], "w", "data_offsets"), "overlaps"),
    "overlap_in_part": (_table([8, 20], "w", "data_offsets"), "overlaps"),
    "hole": (lambda: retabled(_set("w", "data_offsets")([16, 28]), bytes(28)), "hole"),
    "beyond_the_data": (_table([1 << 60, (1 << 60) + 12], "w", "data_offsets"), "hole"),
    "tail": (lambda: seal(header_text(), DATA + bytes(8)), "not described"),
    "misaligned": (
        lambda: retabled(
            lambda t: t.update(
                a={"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
                **{
                    "constant.0": {"dtype": "F32", "shape": [3], "data_offsets": [1, 13]},
                    "w": {"dtype": "F32", "shape": [3], "data_offsets": [13, 25]},
                },
            ),
            bytes(25),
        ),
        "not aligned",
    ),
    "too_many_tensors": (
        lambda: seal(
            header_text(
                table={
                    f"t{k}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
                    for k in range(100_001)
                }
            )
        ),
        "number of tensors",
    ),
    "bool_of_2": (
        lambda: seal(
            header_text(
                _bool_variable(),
                {"w": {"dtype": "BOOL", "shape": [3], "data_offsets": [0, 3]}},
            ),
            b"\0\1\2",
        ),
        "expected 0 or 1",
    ),
}


def _bool_variable() -> dict[str, Any]:
    return {
        **DOCUMENT,
        "nodes": [["variable", [], {"dtype": "bool", "shape": [3]}]],
        "inputs": [], "outputs": [0], "names": [0], "scopes": [0], "lines": [0],
        "variables": [[0, "w", True]], "updates": [], "structure": 0,
    }  # fmt: skip


FORM: dict[str, Attack] = {
    "graph_no_json": (lambda: seal(header_text("{")), "do not match"),
    "graph_empty": (lambda: seal(header_text("")), "invalid JSON"),
    "graph_list": (lambda: seal(header_text("[]")), "opset"),
    "graph_null": (lambda: seal(header_text("null")), "opset"),
    "opset_2": (_document(2, "opset"), "newer graphflow"),
    "opset_0": (_document(0, "opset"), "unknown"),
    "opset_true": (_document(True, "opset"), "unknown"),
    "key_missing": (lambda: changed(lambda d: d.pop("updates")), "missing or unknown"),
    "key_dunder": (_document({"a": 1}, "__class__"), "missing or unknown"),
    "key_code": (_document("import os", "code"), "missing or unknown"),
    "nodes_dict": (_document({}, "nodes"), "expected a list"),
    "node_short": (_document(["add", [3, 2]], "nodes", 4), "attributes"),
    "op_unknown": (_document("os.system", "nodes", 4, 0), "unknown"),
    "op_dunder": (_document("__init__", "nodes", 4, 0), "unknown"),
    "op_method": (_document("add_op", "nodes", 4, 0), "unknown"),
    "op_number": (_document(7, "nodes", 4, 0), "no string"),
    "op_custom": (_document("custom:evil", "nodes", 4, 0), "custom_ops"),
    "too_few_inputs": (_document([3], "nodes", 4, 1), "expected 2 to 2"),
    "too_many_inputs": (_document([3, 2, 2], "nodes", 4, 1), "expected 2 to 2"),
    "input_itself": (_document([4, 2], "nodes", 4, 1), "no earlier node"),
    "input_later": (_document([6, 2], "nodes", 4, 1), "no earlier node"),
    "input_minus_1": (_document([-1, 2], "nodes", 4, 1), "no earlier node"),
    "input_bool": (_document([True, 2], "nodes", 4, 1), "no earlier node"),
    "input_float": (_document([3.0, 2], "nodes", 4, 1), "no earlier node"),
    "input_2_63": (_document([1 << 63, 2], "nodes", 4, 1), "no earlier node"),
    "input_name": (_document(["x", 2], "nodes", 4, 1), "no earlier node"),
    "dead_node": (
        lambda: of_nodes([placeholder(3), ["exp", [0], {}], ["sin", [0], {}]]),
        "needed by no output",
    ),
    "input_not_listed": (_document([], "inputs"), "each once"),
    "input_twice": (_document([0, 0], "inputs"), "each once"),
    "input_no_placeholder": (_document([0, 1], "inputs"), "each once"),
    "input_out_of_range": (_document([99], "inputs"), "no numbers of nodes"),
    "output_out_of_range": (_document([4, 7], "outputs"), "no numbers of nodes"),
    "output_negative": (_document([4, -1], "outputs"), "no numbers of nodes"),
    "update_of_no_variable": (_document([[0, 6]], "updates"), "no variable and value"),
    "update_of_other_shape": (_document([[1, 4]], "updates"), "no variable and value"),
    "update_twice": (_document([[1, 6], [1, 5]], "updates"), "occurs twice"),
    "update_triple": (_document([[1, 6, 6]], "updates"), "pairs"),
    "variable_without_row": (_document([], "variables"), "one row for each"),
    "variable_row_bool": (_document([[True, "w", True]], "variables"), "one row for each"),
    "variable_of_no_tensor": (_document([[1, "v", True]], "variables"), "no tensor"),
    "variable_mark_1": (_document([[1, "w", 1]], "variables"), "no tensor and mark"),
    "variable_of_constant": (_document([[1, "constant.0", True]], "variables"), "share"),
    "variable_other_shape": (
        lambda: retabled(_set("w", "shape")([3, 1])),
        "tensor w is float32(3, 1)",
    ),
    "tensor_unused": (
        lambda: retabled(lambda t: t.update(z={**TABLE["w"], "data_offsets": [24, 36]}), bytes(36)),
        "belongs to nothing",
    ),
    "constant_of_no_tensor": (_document("x", "nodes", 2, 2, "value"), "no tensor"),
    "constant_of_number": (_document(0, "nodes", 2, 2, "value"), "no name of a tensor"),
    "structure_leaf_missing": (_document({"y": 0}, "structure"), "expected 0 to 1"),
    "structure_leaf_twice": (_document(["list", 0, 0, 1], "structure"), "expected 0 to 1"),
    "structure_type": (_document(["set", 0, 1], "structure"), "no nesting"),
    "structure_dunder": (_document({"__class__": 0, "b": 1}, "structure"), "not allowed"),
    "structure_newline": (_document({"a\nb": 0, "b": 1}, "structure"), "not allowed"),
    "body_unused": (
        _document(
            [{"nodes": [placeholder(3)], "inputs": [0], "outputs": [0], "names": [0],
              "scopes": [0], "lines": [0]}],
            "bodies",
        ),
        "used by no node",
    ),
    "bodies_number": (_document(7, "bodies"), "expected a list"),
    "variables_number": (_document(7, "variables"), "rows"),
    "body_no_object": (_document([7], "bodies"), "missing or unknown"),
    "labels_short": (_document([0], "names"), "7 numbers"),
    "labels_out_of_range": (_document([9] * 7, "names"), "numbers of strings"),
    "labels_bool": (_document([True] * 7, "names"), "numbers of strings"),
    "string_newline": (_document("x):\n import os", "strings", 0), "no list of names"),
    "string_escape": (_document("\x1b[31m", "strings", 0), "no list of names"),
    "string_bidi": (_document("\u202e", "strings", 0), "no list of names"),
    "string_twice": (_document("x", "strings", 1), "occurs twice"),
    "line_is_path": (_document([2] * 7, "lines"), "no file:line"),
    "function_name": (_document("a\nb", "name"), "not allowed"),
    "dim_of_no_input": (
        lambda: of_nodes([["full", [], {"dtype": "float32", "shape": ["n"], "value": 1.0}]]),
        "follows from no input",
    ),
}  # fmt: skip

ATTRIBUTES: dict[str, Attack] = {
    "missing": (_document({}, "nodes", 5, 2), "expected ['axes']"),
    "unknown": (_document({"axes": [0], "fn": "eval"}, "nodes", 5, 2), "expected ['axes']"),
    "dunder": (_document({"__class__": 1}, "nodes", 3, 2), "expected []"),
    "list": (_document([], "nodes", 3, 2), "expected []"),
    "dtype_object": (op_over("cast", {"dtype": "object"}, (3,)), "no dtype"),
    "dtype_complex": (op_over("cast", {"dtype": "complex64"}, (3,)), "no dtype"),
    "shape_negative": (lambda: of_nodes([placeholder(-1)]), "negative"),
    "shape_2_41": (lambda: of_nodes([placeholder(1 << 41)]), "at most"),
    "shape_rank_17": (lambda: of_nodes([placeholder(*[1] * 17)]), "axes is 17"),
    "shape_long": (lambda: of_nodes([placeholder(*[1] * 5000)]), "items is 5000"),
    "shape_bool": (lambda: of_nodes([placeholder(True)]), "no size"),
    "shape_float": (lambda: of_nodes([placeholder(3.0)]), "no size"),
    "shape_null": (lambda: of_nodes([placeholder(None)]), "no size"),
    "bool_as_int": (
        op_over("matmul", {"transpose_a": 0, "transpose_b": False}, (3, 3), (3, 3)),
        "no bool",
    ),
    "int_as_bool": (op_over("concat", {"axis": True}, (3,)), "no int"),
    "int_as_float": (op_over("concat", {"axis": 0.0}, (3,)), "no int"),
    "axes_negative": (op_over("sum", {"axes": [-1]}, (3, 3)), "no sorted axes"),
    "axes_unsorted": (op_over("sum", {"axes": [1, 0]}, (3, 3)), "no sorted axes"),
    "axes_twice": (op_over("sum", {"axes": [0, 0]}, (3, 3)), "no sorted axes"),
    "axes_out_of_range": (op_over("sum", {"axes": [2]}, (3, 3)), "out of range"),
    "permutation_twice": (op_over("permute_dims", {"axes": [0, 0]}, (3, 3)), "no permutation"),
    "permutation_short": (op_over("permute_dims", {"axes": [0]}, (3, 3)), "no permutation"),
    "axis_out_of_range": (op_over("concat", {"axis": 1}, (3,)), "axis 1"),
    "iota_axis": (op_over("iota", {"axis": 9, "dtype": "int64", "shape": [3]}), "axis 9"),
    "iota_axis_negative": (
        op_over("iota", {"axis": -1, "dtype": "int64", "shape": [3]}),
        "axis -1",
    ),
    "take_axis_negative": (
        lambda: of_nodes(
            [placeholder(3, 3), placeholder(2, dtype="int64"), ["take", [0, 1], {"axis": -1}]]
        ),
        "axis -1",
    ),
    "scatter_axis": (
        lambda: of_nodes(
            [
                placeholder(3, 3),
                placeholder(3, dtype="int64"),
                ["scatter_add", [0, 1], {"axis": -2, "size": 4}],
            ]
        ),
        "axis -2",
    ),
    "scatter_size_negative": (
        lambda: of_nodes(
            [
                placeholder(3, 3),
                placeholder(3, dtype="int64"),
                ["scatter_add", [0, 1], {"axis": 0, "size": -4}],
            ]
        ),
        "negative",
    ),
    "full_int_too_large": (
        op_over("full", {"dtype": "int8", "shape": [], "value": 300}),
        "does not fit",
    ),
    "full_float_in_int": (
        op_over("full", {"dtype": "int8", "shape": [], "value": 0.5}),
        "canonical form",
    ),
    "full_int_in_float": (
        op_over("full", {"dtype": "float32", "shape": [], "value": 1}),
        "canonical form",
    ),
    "full_inexact": (
        op_over("full", {"dtype": "float32", "shape": [], "value": 0.1}),
        "canonical form",
    ),
    "full_overflow": (
        op_over("full", {"dtype": "float32", "shape": [], "value": 1e300}),
        "canonical form",
    ),
    "full_word": (
        op_over("full", {"dtype": "float32", "shape": [], "value": "Infinity"}),
        "no float",
    ),
    "full_code": (
        op_over("full", {"dtype": "float32", "shape": [], "value": "__import__('os')"}),
        "no float",
    ),
    "reshape_other_count": (op_over("reshape", {"shape": [4]}, (3,)), "elements"),
    "reshape_minus_1": (op_over("reshape", {"shape": [-1]}, (3,)), "negative"),
    "matmul_mismatch": (
        op_over("matmul", {"transpose_a": False, "transpose_b": False}, (2, 3), (2, 3)),
        "inner sizes differ",
    ),
    "broadcast_mismatch": (op_over("broadcast_to", {"shape": [4]}, (3,)), "broadcast"),
    "slice_step_0": (op_over("slice", {"shape": [1], "start": [0], "step": [0]}, (3,)), "is 0"),
    "slice_beyond_end": (
        op_over("slice", {"shape": [3], "start": [1], "step": [1]}, (3,)),
        "outside",
    ),
    "slice_before_start": (
        op_over("slice", {"shape": [3], "start": [1], "step": [-1]}, (3,)),
        "outside",
    ),
    "slice_stride_overflow": (
        op_over("slice", {"shape": [3], "start": [0], "step": [1 << 63]}, (3,)),
        "at most",
    ),
    "pad_crops_too_much": (
        lambda: of_nodes(
            [
                placeholder(3),
                placeholder(),
                ["pad", [0, 1], {"high": [-9], "interior": [0], "low": [0]}],
            ]
        ),
        "elements",
    ),
    "pad_interior_negative": (
        lambda: of_nodes(
            [
                placeholder(3),
                placeholder(),
                ["pad", [0, 1], {"high": [0], "interior": [-2], "low": [0]}],
            ]
        ),
        "pad",
    ),
    "mixed_dtypes": (
        lambda: of_nodes([placeholder(3), placeholder(3, dtype="int64"), ["add", [0, 1], {}]]),
        "dtypes",
    ),
}

SIZES: dict[str, Attack] = {
    "name_code": (lambda: of_nodes([placeholder("n):\n import os")]), "no name of a dim"),
    "name_empty": (lambda: of_nodes([placeholder("")]), "no name of a dim"),
    "name_long": (lambda: of_nodes([placeholder("n" * 300)]), "no name of a dim"),
    "name_bidi": (lambda: of_nodes([placeholder("n\u202e")]), "no name of a dim"),
    "no_terms": (lambda: of_nodes([placeholder([])]), "no size"),
    "term_without_coefficient": (lambda: of_nodes([placeholder([["n"]])]), "no term"),
    "coefficient_0": (lambda: of_nodes([placeholder([[0, "n"], [1]])]), "no term"),
    "coefficient_bool": (lambda: of_nodes([placeholder([[True, "n"]])]), "no term"),
    "coefficient_2_63": (lambda: of_nodes([placeholder([[1 << 63, "n"]])]), "at most"),
    "not_canonical_name": (lambda: of_nodes([placeholder([[1, "n"]])]), "canonical"),
    "not_canonical_order": (lambda: of_nodes([placeholder([[1], [1, "n"]])]), "canonical"),
    "not_canonical_sum": (lambda: of_nodes([placeholder([[1, "n"], [1, "n"]])]), "canonical"),
    "divided_by_0": (lambda: of_nodes([placeholder([[1, ["//", "n", 0]]])]), "divided by 0"),
    "divided_by_minus_2": (lambda: of_nodes([placeholder([[1, ["//", "n", -2]]])]), "divided by"),
    "divided_exactly": (
        lambda: of_nodes([placeholder([[1, ["//", [[2, "n"]], 2]]])]),
        "canonical",
    ),
    "divided_to_a_number": (lambda: of_nodes([placeholder([[1, ["//", 7, 2]]])]), "canonical"),
    "unknown_operator": (lambda: of_nodes([placeholder([[1, ["**", "n", 9]]])]), "no factor"),
    "many_names": (
        lambda: of_nodes([placeholder(*[[[1, f"n{16 * k + i:04}"] for i in range(16)]])
                          for k in range(65)] + [["concat", list(range(65)), {"axis": 0}]]),
        "named dims",
    ),
    "many_factors": (lambda: of_nodes([placeholder([[1, *["n"] * 17]])]), "factors"),
    "product_of_sums": (
        lambda: of_nodes([placeholder(*[[[1, "a"], [1, "b"], [1]]] * 16)]),
        "terms of a shape",
    ),
    "power_of_quotients": (
        lambda: of_nodes(
            [placeholder([[1, *[["//", [[1, "a"], [1, "b"], [1]], 3]] * 12]])]
        ),
        "terms of a size",
    ),
    "deep_division": (
        lambda: of_nodes([placeholder(_nested_division(12))]),
        "nested more than",
    ),
}  # fmt: skip


def _nested_division(depth: int) -> Any:
    size: Any = "n"
    for _ in range(depth):
        size = [[1, ["//", [*([[1, size]] if isinstance(size, str) else size), [1]], 3]]]
    return size


ATTACKS: dict[str, Attack] = {
    f"{group}-{name}": attack
    for group, attacks in {
        "envelope": ENVELOPE,
        "metadata": METADATA,
        "tensors": TENSORS,
        "form": FORM,
        "attributes": ATTRIBUTES,
        "sizes": SIZES,
        "resources": RESOURCES,
    }.items()
    for name, attack in attacks.items()
}
