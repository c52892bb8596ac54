"""The invariants of a graph and of a Program; a stage that breaks one is stopped where it did."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from graphflow.compiler.dims import Size, Symbol, atoms, evaluate, is_nonnegative, symbols
from graphflow.compiler.errors import GraphError, VerificationError
from graphflow.compiler.graph import Graph, Node
from graphflow.compiler.memory_plan import ALIGNMENT, Layout
from graphflow.compiler.op import ops
from graphflow.compiler.program import (
    STATUS,
    Branch,
    Buffer,
    Copy,
    Launch,
    Loop,
    Program,
    Sliced,
    Step,
)
from graphflow.compiler.spec import DTYPES, TensorSpec

# ---- graphs ----------------------------------------------------------------------------------


def check_graph(graph: Graph, where: str) -> None:
    """Check order, leaves, updates, and of each node arity, attributes and inferred spec.

    Bodies of control flow are graphs of their own and are checked as well.

    Args:
        where: the pass that made the graph, for the message.

    Raises:
        VerificationError: an invariant does not hold.
    """
    seen: set[Node] = set()
    for node in graph.nodes:
        if node in seen:
            raise _wrong(where, node, "is listed twice")
        for value in node.inputs:
            if value not in seen:
                raise _wrong(where, node, f"comes before its input {value}")
        seen.add(node)
        _check_node(node, where)
    for node in graph.roots:
        if node not in seen:
            raise _wrong(where, node, "is a result and not among the nodes")
        if not isinstance(node.spec, TensorSpec):
            raise _wrong(where, node, "is several values, and a result is one")
    _check_leaves(graph, where)
    _check_updates(graph, where)


def _wrong(where: str, node: Node, message: str) -> VerificationError:
    line = f" [{node.source}]" if node.source else ""
    return VerificationError(f"after {where}: {node}{line} {message}")


def _check_leaves(graph: Graph, where: str) -> None:
    fed: set[Node] = set()
    for node in graph.inputs:
        if node in fed:
            raise _wrong(where, node, "is listed as an input twice")
        if node.op.name != "placeholder":
            raise _wrong(where, node, "is an input and no placeholder")
        fed.add(node)
    for node in graph.nodes:
        if node.op.name == "placeholder" and node not in fed:
            raise _wrong(where, node, "is a placeholder and no input")


def _check_updates(graph: Graph, where: str) -> None:
    targets: set[Node] = set()
    for target, value in graph.updates:
        if target in targets:
            raise _wrong(where, target, "is updated twice")
        if target.op.name != "variable":
            raise _wrong(where, target, "is updated and no variable")
        if target.spec != value.spec:
            raise _wrong(where, target, f"cannot be updated with {value}")
        targets.add(target)


def _check_node(node: Node, where: str) -> None:
    if ops.find(node.op.name) is not node.op:
        raise _wrong(where, node, f"has an op that is not registered, {node.op.name}")
    low, high = node.op.arity
    if not low <= len(node.inputs) <= high:
        raise _wrong(where, node, f"has {len(node.inputs)} inputs; expected {low} to {high}")
    for value in node.inputs:
        if isinstance(value.spec, tuple) is not node.op.is_projection:
            many = "a single value" if node.op.is_projection else "several values as one"
            raise _wrong(where, node, f"reads {many}, {value}")
    _check_attrs(node, where)
    specs = node.spec if isinstance(node.spec, tuple) else (node.spec,)
    for spec in specs:
        if spec.dtype not in DTYPES or any(isinstance(n, int) and n < 0 for n in spec.shape):
            raise _wrong(where, node, f"has the impossible spec {spec}")
    try:
        expected = node.op.infer(*(value.spec for value in node.inputs), **node.attrs)
    except GraphError as error:
        raise _wrong(where, node, f"is refused by inference: {error}") from None
    if expected != node.spec:
        raise _wrong(where, node, f"has another spec than inference gives, {expected}")


def _check_attrs(node: Node, where: str) -> None:
    if node.attrs.keys() != node.op.attributes.keys():
        expected = sorted(node.op.attributes)
        raise _wrong(where, node, f"has the attributes {sorted(node.attrs)}; expected {expected}")
    for name, value in node.attrs.items():
        try:
            hash(value)
        except TypeError:
            raise _wrong(where, node, f"has {name}={value!r}, which is not hashable") from None
        if isinstance(value, Graph):
            check_graph(value, f"{where}, in {name} of {node.label}")
    canonical = node.op.canonical_attrs(dict(node.attrs))
    # NaN is not equal to itself; text is.
    if repr(canonical) != repr(dict(node.attrs)):
        raise _wrong(where, node, f"has {dict(node.attrs)}; the canonical form is {canonical}")


# ---- programs --------------------------------------------------------------------------------


def check_program(program: Program, env: Mapping[str, int] | None = None) -> None:
    """Check what the driver relies on: ids, slots, sizes, lifetimes and the arena.

    Args:
        env: sizes of the named dims for which the arena is laid out; by default 2, 3, 4, ...

    Raises:
        VerificationError: an invariant does not hold.
    """
    _check_slots(program)
    _check_kernels(program)
    _check_steps(program, program.steps, _dims_of(program))
    _check_once(program)
    _check_notes(program)
    uses = _Uses(program)
    uses.walk(program.steps)
    _check_lifetimes(program, uses)
    if env is None:
        names = sorted(_dims_of(program))
        env = {name: value for value, name in enumerate(names, 2)}
    _check_layout(program, program.layout(env), env)


def _fail(program: Program, message: str) -> VerificationError:
    return VerificationError(f"program {program.name}: {message}")


def _dims_of(program: Program) -> set[str]:
    """Names of the dims that the inputs and variables give values to."""
    arguments = (*program.inputs, *program.variables)
    return set(symbols(size for argument in arguments for size in argument.spec.shape))


def _check_slots(program: Program) -> None:
    """Buffers of inputs, variables, constants and outputs name one of each, of its spec."""
    owned: dict[str, Sequence[TensorSpec]] = {
        "input": [argument.spec for argument in program.inputs],
        "variable": [argument.spec for argument in program.variables],
        "constant": [TensorSpec(a.dtype.name, a.shape) for a in program.constants],
        "output": program.outputs,
    }
    found: dict[str, set[int]] = {kind: set() for kind in owned}
    for number, buffer in enumerate(program.buffers):
        if buffer.kind in owned:
            specs = owned[buffer.kind]
            if not 0 <= buffer.slot < len(specs) or buffer.spec != specs[buffer.slot]:
                raise _fail(program, f"b{number} is no {buffer.kind} {buffer.slot} of its spec")
            found[buffer.kind].add(buffer.slot)
        elif buffer.kind not in ("temp", "kept", "status"):
            raise _fail(program, f"b{number} is of kind {buffer.kind!r}")
        if buffer.kind == "kept" and not isinstance(buffer.spec.nbytes, int):
            raise _fail(program, f"b{number} is kept and its size has names, {buffer.spec}")
        if buffer.kind == "status" and buffer.spec != STATUS:
            raise _fail(program, f"b{number} holds the status and is {buffer.spec}")
        # What shares storage comes after what owns it, so that there are no circles.
        if buffer.alias is not None and not 0 <= buffer.alias < number:
            raise _fail(
                program, f"b{number} shares the storage of b{buffer.alias}, which is none before it"
            )
    for slot in range(len(program.outputs)):
        if slot not in found["output"]:
            raise _fail(program, f"output {slot} has no buffer")
    for slot in program.written:
        if slot not in found["variable"]:
            raise _fail(program, f"variable {slot} is written and has no buffer")


def _check_kernels(program: Program) -> None:
    for kernel in program.kernels:
        if f"\ndef {kernel.entry}(buffers, dims, lo, hi):\n" not in kernel.source:
            raise _fail(program, f"the kernel {kernel.name} does not define {kernel.entry}")


def _check_steps(program: Program, steps: Sequence[Step], dims: Collection[str]) -> None:
    for step in steps:
        for number in _buffers_of(step):
            if not 0 <= number < len(program.buffers):
                raise _fail(program, f"{_label(step)}: there is no b{number}")
        for size in _sizes_of(step):
            _check_size(program, step, size, dims)
        if isinstance(step, Launch):
            _check_launch(program, step)
        elif isinstance(step, Copy):
            _check_copy(program, step)
        elif isinstance(step, Loop):
            if isinstance(step.count, int) and step.count < 0:
                raise _fail(program, f"loop: {step.count} passes")
            for item in step.sliced:
                _check_row(program, step, item)
            _check_steps(program, step.body, dims)
        else:
            predicate = program.buffers[step.predicate].spec
            # It may be stored as the bool(1,) that it is a reshape of.
            if predicate.dtype != "bool" or predicate.size != 1:
                raise _fail(program, f"the predicate b{step.predicate} is {predicate}")
            _check_steps(program, step.then, dims)
            _check_steps(program, step.otherwise, dims)


def _label(step: Step) -> str:
    return step.label or "launch" if isinstance(step, Launch) else type(step).__name__.lower()


def _buffers_of(step: Step) -> tuple[int, ...]:
    """Buffers that the step itself names, those of its body left out."""
    if isinstance(step, Launch):
        return step.buffers
    if isinstance(step, Copy):
        return (step.source, step.target)
    if isinstance(step, Loop):
        return tuple(n for item in step.sliced for n in (item.buffer, item.base))
    return (step.predicate,)


def _sizes_of(step: Step) -> tuple[Size, ...]:
    if isinstance(step, Launch):
        return (*step.dims, step.extent, step.cost)
    if isinstance(step, Loop):
        return (step.count, *(item.row_bytes for item in step.sliced))
    return ()


def _check_size(program: Program, step: Step, size: Size, dims: Collection[str]) -> None:
    """A size is known when the function is called: of named dims, without loop variables."""
    for atom in atoms(size):
        if not isinstance(atom, Symbol) or atom.name not in dims:
            raise _fail(program, f"{_label(step)}: {atom} in {size} is no dim of an input")


def _check_launch(program: Program, launch: Launch) -> None:
    if not 0 <= launch.kernel < len(program.kernels):
        raise _fail(program, f"{_label(launch)}: there is no kernel {launch.kernel}")
    source = program.kernels[launch.kernel].source
    for text, given in (("buffers", len(launch.buffers)), ("dims", len(launch.dims))):
        wanted = _slots_read(source, text)
        if wanted != given:
            raise _fail(
                program, f"{_label(launch)}: the kernel reads {wanted} {text}, {given} are given"
            )
    has_status = any(program.buffers[n].kind == "status" for n in launch.buffers)
    if launch.can_fail != has_status:
        raise _fail(
            program,
            f"{_label(launch)}: can_fail is {launch.can_fail}, a status is {'' if has_status else 'not '}given",
        )
    if launch.grain < 1:
        raise _fail(program, f"{_label(launch)}: a grain of {launch.grain}")
    if isinstance(launch.extent, int) and launch.extent < 0:
        raise _fail(program, f"{_label(launch)}: an extent of {launch.extent}")
    for note in launch.nodes:
        if not 0 <= note < len(program.notes):
            raise _fail(program, f"{_label(launch)}: there is no note {note}")


def _slots_read(source: str, table: str) -> int:
    """How many slots of `buffers` or `dims` a kernel takes; the head of its body names each."""
    begin = "buffer(buffers, " if table == "buffers" else "dims["
    return sum(begin in line for line in source.splitlines())


def _check_copy(program: Program, copy: Copy) -> None:
    source, target = program.buffers[copy.source], program.buffers[copy.target]
    different = source.spec.nbytes - target.spec.nbytes
    # Sizes with names may be equal by a check when the function runs.
    certain = isinstance(different, int) or not program.checks
    if source.spec.dtype != target.spec.dtype or (certain and different != 0):
        raise _fail(
            program, f"copy: b{copy.source} is {source.spec}, b{copy.target} is {target.spec}"
        )
    if target.kind in ("input", "constant", "kept"):
        raise _fail(
            program, f"copy: b{copy.target} may not be written, {target.kind} {target.slot}"
        )


def _check_once(program: Program) -> None:
    """What is not done in every call reads nothing of a call, and leaves nothing but kept buffers."""
    if not 0 <= program.once <= len(program.steps):
        raise _fail(program, f"{program.once} of {len(program.steps)} steps are done once")
    filled: set[int] = set()
    for step in program.steps[: program.once]:
        if not isinstance(step, Launch) or step.can_fail:
            raise _fail(
                program, f"{_label(step)}: is done once; expected a launch that cannot fail"
            )
        if not all(isinstance(size, int) for size in _sizes_of(step)):
            raise _fail(program, f"{_label(step)}: is done once, and its sizes have names")
        for number in step.buffers:
            buffer = program.buffers[number]
            written = buffer.kind == "variable" and buffer.slot in program.written
            if buffer.kind in ("input", "output") or written:
                raise _fail(program, f"{_label(step)}: is done once and uses b{number}")
            filled.add(number)
    for number in _all_buffers(program.steps[program.once :]):
        if program.buffers[number].kind == "temp" and number in filled:
            raise _fail(program, f"b{number} is filled once and not kept")
        if program.buffers[number].kind == "kept" and number not in filled:
            raise _fail(program, f"b{number} is kept and not filled once")


def _all_buffers(steps: Sequence[Step]) -> Iterator[int]:
    for step in steps:
        yield from _buffers_of(step)
        for inner in ("body", "then", "otherwise"):
            yield from _all_buffers(getattr(step, inner, ()))


def _check_row(program: Program, loop: Loop, item: Sliced) -> None:
    row, base = program.buffers[item.buffer], program.buffers[item.base]
    if row.alias != item.base:
        raise _fail(program, f"b{item.buffer} is a row of b{item.base}, its alias is {row.alias}")
    if row.spec.nbytes != item.row_bytes or row.spec.dtype != base.spec.dtype:
        raise _fail(program, f"b{item.buffer} is {row.spec}, a row of {item.row_bytes} bytes")
    rest = base.spec.nbytes - loop.count * item.row_bytes
    if isinstance(rest, int) and rest < 0:
        raise _fail(program, f"{loop.count} rows of {item.row_bytes} bytes leave b{item.base}")


def _check_notes(program: Program) -> None:
    for note in program.notes:
        if note.buffer is not None and not 0 <= note.buffer < len(program.buffers):
            raise _fail(program, f"the note of {note.name} speaks of b{note.buffer}")


class _Uses:
    """First and last step that touches each buffer; steps count as the schedule numbers them."""

    def __init__(self, program: Program):
        self.program = program
        self.at = 0
        self.spans: dict[int, tuple[int, int]] = {}

    def touch(self, numbers: Iterator[int] | Sequence[int]) -> None:
        for number in numbers:
            first, _ = self.spans.get(number, (self.at, self.at))
            self.spans[number] = (first, self.at)
            alias = self.program.buffers[number].alias
            if alias is not None:
                self.touch([alias])

    def walk(self, steps: Sequence[Step]) -> None:
        for step in steps:
            begin = self.at
            self.touch(_buffers_of(step))
            if isinstance(step, Branch):
                self.at += 1
                self.walk(step.then)
                self.walk(step.otherwise)
            elif isinstance(step, Loop):
                self.at += 1
                self.walk(step.body)
                self.touch([item.base for item in step.sliced])
                # What came from before the loop is read again in its next pass.
                for number, (first, last) in self.spans.items():
                    if first <= begin <= last:
                        self.spans[number] = (first, self.at)
            self.at += 1


def _check_lifetimes(program: Program, uses: _Uses) -> None:
    for number, (first, last) in uses.spans.items():
        buffer = program.buffers[number]
        if not _is_in_arena(buffer):
            continue
        if buffer.lifetime is None:
            raise _fail(program, f"b{number} is used and has no lifetime")
        begin, end = buffer.lifetime
        if begin > first or end < last:
            raise _fail(
                program, f"b{number} is used in {first}..{last} and alive in {begin}..{end}"
            )


def _is_in_arena(buffer: Buffer) -> bool:
    return buffer.kind == "temp" and buffer.alias is None


def _check_layout(program: Program, layout: Layout, env: Mapping[str, int]) -> None:
    """Temps alive at the same time do not overlap, and all lie in the arena."""
    placed: list[tuple[int, int, int]] = []
    for number, buffer in enumerate(program.buffers):
        if not _is_in_arena(buffer) or buffer.lifetime is None:
            continue
        size = _size(buffer, env)
        if size < 0:
            continue
        begin = layout.offsets.get(number)
        if begin is None:
            raise _fail(program, f"b{number} has no place in the arena")
        if begin < 0 or begin % ALIGNMENT or begin + size > layout.arena_bytes:
            raise _fail(program, f"b{number} lies at {begin}, {size} bytes of the arena's")
        placed.append((begin, begin + size, number))
    # Sweep by offset; only neighbours whose bytes meet are compared by lifetime.
    placed.sort()
    for k, (begin, end, number) in enumerate(placed):
        for other_begin, other_end, other in placed[k + 1 :]:
            if other_begin >= end:
                break
            if begin < end and other_begin < other_end and _meet(program, number, other):
                raise _fail(program, f"b{number} and b{other} overlap while both are alive")


def _size(buffer: Buffer, env: Mapping[str, int]) -> int:
    """Bytes of a buffer; negative where the dims chosen here make a shape impossible."""
    if not all(is_nonnegative(s) or evaluate(s, env) >= 0 for s in buffer.spec.shape):
        return -1
    return evaluate(buffer.spec.nbytes, env)


def _meet(program: Program, one: int, other: int) -> bool:
    a, b = program.buffers[one].lifetime, program.buffers[other].lifetime
    return a is not None and b is not None and a[0] <= b[1] and b[0] <= a[1]
