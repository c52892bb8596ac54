"""Turns what is known about a kernel's loops into LLVM loop metadata: unroll, and parallel."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from llvmlite import ir
from llvmlite.ir.values import MDValue

# Loops over literal ranges up to this many passes are unrolled before the loop around them is
# vectorised: convolution and pooling windows. LLVM's own limit, by code size, would also unroll
# loops of 64 passes, which then stay scalar.
UNROLLED_PASSES = 7

# Nested windows multiply: six small loops around an element would be 2,160 copies of it, and take
# 17 s to compile. A window of 7 x 7 is unrolled as a whole.
MOST_COPIES = 64


class _AccessGroup(MDValue):
    """A group of memory accesses; LLVM wants a distinct node without operands."""

    def descr(self, buf: Any) -> None:
        buf += ("distinct !{}\n",)


def hint_loop(latch: Any, passes: int | None, inside: int = 1) -> int:
    """Attach hints to the branch that closes a loop.

    Args:
        passes: the trip count if it is literal.
        inside: how many copies of its innermost body the loop contains, each pass.

    Returns:
        How many copies there are once the loop is unrolled, or stays.

    An innermost loop that may store over its own input (`buffer` with a scope) is declared
    parallel. LLVM would compare the addresses first, find them equal, and take the scalar loop:
    13 us instead of 6 us for 32,768 elements of x * y + 0.5 in place.
    """
    module, hints = latch.parent.parent.parent, []
    copies = inside
    if passes is not None and passes <= UNROLLED_PASSES and passes * inside <= MOST_COPIES:
        copies = max(passes, 1) * inside
        hints.append([ir.MetaDataString(module, "llvm.loop.unroll.full")])
    accesses = _independent_accesses(latch)
    if accesses:
        group = _AccessGroup(module, [], name=str(len(module.metadata)))
        hints.append([ir.MetaDataString(module, "llvm.loop.parallel_accesses"), group])
        for access in accesses:
            access.set_metadata("llvm.access.group", group)
    if hints:
        nodes = [module.add_metadata(hint) for hint in hints]
        # A loop's metadata names itself first, which keeps equal hints of two loops apart.
        loop = MDValue(module, [], name=str(len(module.metadata)))
        loop.operands = (loop, *nodes)
        latch.set_metadata("llvm.loop", loop)
    return copies


def _independent_accesses(latch: Any) -> list[Any]:
    """The memory accesses of a loop if its passes are independent but LLVM cannot see that; or [].

    They are independent if the loop touches memory through buffers only, stores to each slot in
    one place, and loads no slot that it stores to. What it loads from the other slots of a shared
    scope is the same element, by the contract of `buffer`.
    """
    accesses: list[Any] = []
    for block in _body(latch):
        for instruction in block.instructions:
            if hasattr(instruction, "buffer"):
                accesses.append(instruction)
            elif _touches_memory(instruction):
                return []
    stored = [a.buffer for a in accesses if a.opname == "store"]
    loaded = {a.buffer.slot for a in accesses if a.opname == "load"}
    slots = {buffer.slot for buffer in stored}
    if not any(buffer.shared for buffer in stored) or len(slots) < len(stored) or slots & loaded:
        return []
    # An access has one group, and the vectoriser asks for that of the innermost loop.
    return [] if any("llvm.access.group" in access.metadata for access in accesses) else accesses


def _touches_memory(instruction: Any) -> bool:
    """Whether an instruction reads or writes memory other than a local variable's."""
    kind = instruction.opname
    if kind in ("load", "store"):
        pointer = instruction.operands[kind == "store"]
        return getattr(pointer, "opname", "") != "alloca" and not _is_counter(pointer)
    if kind == "call":
        name = instruction.callee.name
        return not name.startswith("llvm.") or name.startswith(("llvm.mem", "llvm.masked"))
    return kind in ("cmpxchg", "atomicrmw", "fence", "load atomic", "store atomic")


def _is_counter(pointer: Any) -> bool:
    """Loop counters are local variables that travel inside the iterator's struct."""
    return getattr(pointer, "opname", "") == "extractvalue"


def _body(latch: Any) -> Iterable[Any]:
    """The blocks of the loop that the branch closes: all that reach it without its head."""
    (head,) = latch.operands
    before: dict[Any, list[Any]] = {}
    for block in head.parent.blocks:
        for target in getattr(block.terminator, "operands", ()):
            if isinstance(target, ir.Block):
                before.setdefault(target.name, []).append(block)
    body, pending = {head.name: head}, [latch.parent]
    while pending:
        block = pending.pop()
        if block.name not in body:
            body[block.name] = block
            pending += before.get(block.name, [])
    return body.values()
