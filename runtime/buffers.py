"""Turns slots of a launch and stack arrays into typed storage that LLVM knows not to overlap."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from llvmlite.ir.values import MDValue
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.core.datamodel.registry import register_default
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from graphflow.runtime.numba_target import I64, RULES


class Buffer(types.Type):
    """Storage of one dtype. Buffers of different scopes never overlap, and LLVM is told so."""

    def __init__(self, dtype: types.Type, slot: str, scope: str | None = None) -> None:
        self.dtype, self.slot, self.scope = dtype, slot, scope or slot
        self.shared = self.scope != slot
        super().__init__(f"Buffer({dtype}, {slot}, {self.scope})")


@register_default(Buffer)
class _BufferModel(models.PrimitiveModel):
    def __init__(self, manager: Any, fe_type: Buffer) -> None:
        super().__init__(manager, fe_type, _storage(fe_type.dtype).as_pointer())


def _storage(dtype: Any) -> ir.Type:
    """How an element lies in memory: a bool is one byte."""
    if isinstance(dtype, types.Boolean):
        return ir.IntType(8)
    if isinstance(dtype, types.Float):
        return ir.FloatType() if dtype.bitwidth == 32 else ir.DoubleType()
    return ir.IntType(dtype.bitwidth)


def mark(access: Any, buffer: Buffer) -> Any:
    """Put an access in its alias scope, and say that it touches no other scope of the module."""
    module, scope = access.parent.parent.parent, buffer.scope
    access.buffer = buffer
    known = module.__dict__.setdefault("buffer_scopes", {})
    if scope not in known:
        domain = module.add_metadata([ir.MetaDataString(module, "graphflow")])
        node = module.add_metadata([ir.MetaDataString(module, scope), domain])
        # A list of its own for each scope: it grows with every scope that appears later.
        others = MDValue(module, [], name=str(len(module.metadata)))
        known[scope] = node, module.add_metadata([node]), others
        for name, (_, _, absent) in known.items():
            absent.operands = tuple(n for other, (n, _, _) in known.items() if other != name)
    _, own, others = known[scope]
    access.set_metadata("alias.scope", own)
    access.set_metadata("noalias", others)
    return access


def _load(builder: Any, buffer: Buffer, pointer: ir.Value, index: ir.Value) -> ir.Value:
    value = mark(builder.load(builder.gep(pointer, [index], inbounds=True)), buffer)
    if isinstance(buffer.dtype, types.Boolean):
        return builder.icmp_unsigned("!=", value, value.type(0))
    return value


def _is_index(index: types.Type) -> bool:
    return isinstance(types.unliteral(index), types.Integer)


def _getitem(typing: Any, buffer: types.Type, index: types.Type) -> Any:
    if not isinstance(buffer, Buffer) or not _is_index(index):
        return None

    def lower(context: Any, builder: Any, sig: Any, args: Sequence[ir.Value]) -> Any:
        return _load(builder, buffer, *args)

    return signature(buffer.dtype, buffer, types.int64), lower


def _setitem(typing: Any, buffer: types.Type, index: types.Type, value: types.Type) -> Any:
    if not isinstance(buffer, Buffer) or not _is_index(index):
        return None

    def lower(context: Any, builder: Any, sig: Any, args: Sequence[ir.Value]) -> None:
        pointer, index, value = args
        if isinstance(buffer.dtype, types.Boolean):
            value = builder.zext(value, _storage(types.boolean))
        store = builder.store(value, builder.gep(pointer, [index], inbounds=True))
        mark(store, buffer)

    return signature(types.none, buffer, types.int64, buffer.dtype), lower


RULES[operator.getitem].append(_getitem)
RULES[operator.setitem].append(_setitem)


@intrinsic(prefer_literal=True)
def buffer(typing, buffers, slot, dtype, scope=None):
    """`buffer(buffers, slot, dtype)`: the storage in a slot of the launch, as `b[i]`.

    Different slots never overlap. The exception has a fourth literal: `buffer(buffers, 2, f32, 0)`
    is storage that either is that of slot 0 or does not overlap it. The kernel then reads an
    element of slot 0 before it writes the same element of slot 2, in the same pass of the loop.
    """
    number = slot.literal_value
    shared = None if scope is None else f"slot{scope.literal_value}"
    result = Buffer(dtype.instance_type, f"slot{number}", shared)

    def lower(context: Any, builder: Any, sig: Any, args: Sequence[ir.Value]) -> Any:
        pointer_type = context.get_value_type(result)
        table = builder.bitcast(args[0], pointer_type.as_pointer())
        return builder.load(builder.gep(table, [I64(number)]))

    extra = () if scope is None else (scope,)
    return signature(result, buffers, slot, dtype, *extra), lower


@intrinsic(prefer_literal=True)
def stack(typing, size, dtype, number):
    """`stack(n, dtype, id)`: n elements on the stack, 64-byte aligned, uninitialised.

    n and id are literals; arrays that are alive together need different ids.
    """
    result = Buffer(dtype.instance_type, f"stack{number.literal_value}")

    def lower(context: Any, builder: Any, sig: Any, args: Sequence[ir.Value]) -> Any:
        element = _storage(result.dtype)
        with builder.goto_entry_block():
            array = builder.alloca(ir.ArrayType(element, size.literal_value))
            array.align = 64
            return builder.bitcast(array, element.as_pointer())

    return signature(result, size, dtype, number), lower


@intrinsic
def address(typing, buffer, index):
    """`address(b, i)`: where element i lies, as uintp, for tile micro-kernels."""

    def lower(context: Any, builder: Any, sig: Any, args: Sequence[ir.Value]) -> Any:
        return builder.ptrtoint(builder.gep(*args[:1], [args[1]]), I64)

    return signature(types.uintp, buffer, types.int64), lower


@intrinsic
def prefetch(typing, buffer, index):
    """`prefetch(b, i)`: ask for the cache line of element i, which may lie outside of the buffer."""

    def lower(context: Any, builder: Any, sig: Any, args: Sequence[ir.Value]) -> Any:
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        name = "llvm.prefetch.p0i8"
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        pointer = builder.bitcast(builder.gep(args[0], [args[1]]), byte)
        # To be read, and to be kept in all levels of the cache.
        builder.call(function, [pointer, word(0), word(3), word(1)])
        return context.get_dummy_value()

    return signature(types.none, buffer, types.int64), lower


@intrinsic
def load_if(typing, condition, buffer, index, other):
    """`load_if(c, b, i, other)`: b[i] where c holds, else `other`; memory stays untouched then.

    A branch, which the loop vectoriser turns into a masked load.
    """

    def lower(context: Any, builder: Any, sig: Any, args: Sequence[ir.Value]) -> Any:
        condition, pointer, index, other = args
        before = builder.block
        with builder.if_then(condition):
            value = _load(builder, buffer, pointer, index)
            inside = builder.block
        result = builder.phi(value.type)
        result.add_incoming(other, before)
        result.add_incoming(value, inside)
        return result

    return signature(buffer.dtype, types.boolean, buffer, types.int64, buffer.dtype), lower
