"""Turns a Python function into LLVM IR text: Numba's front end with a small target of our own.

Numba's own target serves Python callers: it loads all of NumPy's overloads (0.18 s at the first
compilation), wraps each function twice, counts references and returns a status that every caller
checks. Kernels need none of that. Kept are Numba's bytecode analysis, SSA form, type inference and
lowering; replaced are the rules of scalars (`scalar_rules`), `range`, the lookup of functions and
the calling convention (plain C).
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba.core import (
    bytecode,
    callconv,
    cgutils,
    compiler,
    cpu,
    errors,
    funcdesc,
    interpreter,
    lowering,
    typed_passes,
    types,
    untyped_passes,
)
from numba.core.compiler_lock import global_compiler_lock
from numba.core.datamodel import models
from numba.core.datamodel.registry import register_default
from numba.core.dispatcher import Dispatcher
from numba.core.extending import _Intrinsic
from numba.core.ir_utils import build_definitions
from numba.core.targetconfig import ConfigStack
from numba.core.typing.context import BaseContext
from numba.core.typing.templates import AbstractTemplate, Signature, signature
from numba.np.numpy_support import from_dtype

from graphflow.runtime.loop_hints import hint_loop
from graphflow.runtime.scalar_rules import OPERATORS, Rule, convert

I64 = ir.IntType(64)

OPTIONS: Any = compiler.Flags()
OPTIONS.error_model = "numpy"
OPTIONS.no_cpython_wrapper = True
OPTIONS.no_cfunc_wrapper = True
OPTIONS.no_compile = True


# ---- range ---------------------------------------------------------------------------------------


class RangeIterator(types.SimpleIteratorType):
    """Counter (in memory, for mem2reg to lift) and end of a running `range` loop."""

    def __init__(self, step: int, passes: int | None) -> None:
        self.step, self.passes = step, passes
        super().__init__(f"kernel_range_iterator({step}, {passes})", types.int64)


class Range(types.SimpleIterableType):
    """`range(start, stop, step)` over int64; `passes` is known if all three are literals."""

    def __init__(self, step: int, passes: int | None) -> None:
        super().__init__(f"kernel_range({step}, {passes})", RangeIterator(step, passes))


PAIR = types.Pair(types.int64, types.boolean)


@register_default(Range)
class _RangeModel(models.StructModel):
    def __init__(self, manager: Any, fe_type: Any) -> None:
        super().__init__(manager, fe_type, [("start", types.int64), ("stop", types.int64)])


@register_default(RangeIterator)
class _RangeIteratorModel(models.StructModel):
    def __init__(self, manager: Any, fe_type: Any) -> None:
        members = [("counter", types.CPointer(types.int64)), ("stop", types.int64)]
        super().__init__(manager, fe_type, members)


def _pack(builder: ir.IRBuilder, ty: ir.Type, values: Sequence[ir.Value]) -> ir.Value:
    result = ir.Constant(ty, ir.Undefined)
    for position, value in enumerate(values):
        result = builder.insert_value(result, value, position)
    return result


def _range_rule(typing: KernelTyping, *args: types.Type) -> Any:
    integers = all(isinstance(types.unliteral(a), types.Integer) for a in args)
    if not integers or not 1 <= len(args) <= 3:
        return None
    literals: list[Any] = [getattr(a, "literal_value", None) for a in args]
    step = literals[2] if len(args) == 3 else 1
    if not step:
        raise errors.TypingError("range: the step must be a literal other than 0")
    passes = None if None in literals else len(range(*literals))
    loop = Range(step, passes)

    def lower(context: Any, builder: Any, sig: Signature, values: Sequence[ir.Value]) -> Any:
        start, stop = (I64(0), values[0]) if len(values) == 1 else values[:2]
        return _pack(builder, context.get_value_type(loop), (start, stop))

    return signature(loop, *[types.int64] * len(args)), lower


def _getiter_rule(typing: KernelTyping, iterable: types.Type) -> Any:
    if not isinstance(iterable, Range):
        return None

    def lower(context: Any, builder: Any, sig: Signature, args: Sequence[ir.Value]) -> Any:
        start, stop = (builder.extract_value(args[0], k) for k in range(2))
        with builder.goto_entry_block():
            counter = builder.alloca(I64)
        builder.store(start, counter)
        return _pack(builder, context.get_value_type(iterable.iterator_type), (counter, stop))

    return signature(iterable.iterator_type, iterable), lower


def _iternext_rule(typing: KernelTyping, iterator: types.Type) -> Any:
    if not isinstance(iterator, RangeIterator):
        return None

    def lower(context: Any, builder: Any, sig: Signature, args: Sequence[ir.Value]) -> Any:
        counter, stop = (builder.extract_value(args[0], k) for k in range(2))
        i = builder.load(counter)
        inside = builder.icmp_signed("<" if iterator.step > 0 else ">", i, stop)
        builder.store(builder.add(i, I64(iterator.step), flags=["nsw"]), counter)
        return _pack(builder, context.get_value_type(PAIR), (i, inside))

    return signature(PAIR, iterator), lower


def _pointer_getitem(typing: KernelTyping, pointer: types.Type, index: types.Type) -> Any:
    if not isinstance(pointer, types.CPointer):
        return None

    def lower(context: Any, builder: Any, sig: Signature, args: Sequence[ir.Value]) -> Any:
        return context.unpack_value(builder, pointer.dtype, builder.gep(args[0], [args[1]]))

    return signature(pointer.dtype, pointer, types.int64), lower


def _pointer_setitem(
    typing: KernelTyping, pointer: types.Type, index: types.Type, value: types.Type
) -> Any:
    if not isinstance(pointer, types.CPointer):
        return None

    def lower(context: Any, builder: Any, sig: Signature, args: Sequence[ir.Value]) -> Any:
        context.pack_value(builder, pointer.dtype, args[2], builder.gep(args[0], [args[1]]))

    return signature(types.none, pointer, types.int64, pointer.dtype), lower


# Rules by function (or by Numba's name of an operation); the first that accepts the types wins.
RULES: dict[Any, list[Rule]] = {
    **{function: [rule] for function, rule in OPERATORS.items()},
    range: [_range_rule],
    "getiter": [_getiter_rule],
    "iternext": [_iternext_rule],
    operator.getitem: [_pointer_getitem],
    operator.setitem: [_pointer_setitem],
}


def inline_rule(function: FunctionType) -> Rule:
    """Type a call of a Python function by compiling it for the types of the arguments."""

    def rule(typing: KernelTyping, *args: types.Type) -> Any:
        formal = tuple(types.unliteral(a) for a in args)
        lowered = typing.compiler.inline(function, formal)

        def lower(context: Any, builder: Any, sig: Signature, values: Sequence[ir.Value]) -> Any:
            context.active_code_library.calls[lowered.symbol] = lowered
            types_ = context.call_conv.get_function_type(sig.return_type, formal)
            callee = cgutils.get_or_insert_function(builder.module, types_, lowered.symbol)
            values = context.get_arg_packer(formal).as_arguments(builder, values)
            result = builder.call(callee, values)
            return context.get_returned_value(builder, sig.return_type, result)

        return signature(lowered.return_type, *formal), lower

    return rule


# ---- Typing and target contexts ------------------------------------------------------------------


class KernelFunction(types.Function):
    """The type of a function that KernelTyping has rules for."""

    def __init__(self, function: Any) -> None:
        super().__init__(type("kernel_function", (AbstractTemplate,), {"key": function}))

    def get_call_type(self, context: Any, args: Any, kws: Any) -> Any:
        return context.resolve_function_type(self, args, kws)


register_default(KernelFunction)(models.OpaqueModel)


class KernelTyping(BaseContext):
    """Finds the type of each call by the rules above, and remembers it."""

    def __init__(self, owner: KernelCompiler) -> None:
        super().__init__()
        self.compiler = owner
        self.functions: dict[Any, types.Type] = {}
        self.rules: dict[Any, list[Rule]] = dict(RULES)
        self.signatures: dict[Any, Signature | None] = {}
        self.lowerings: dict[Any, Any] = {}

    def refresh(self) -> None:
        """Nothing to load: the rules are complete."""

    def resolve_value_type(self, value: Any) -> types.Type:
        try:
            known = self.functions.get(value)
        except TypeError:
            known = None
        if known is not None:
            return known
        rules = self._rules_of(value)
        if rules is None:
            return super().resolve_value_type(value)
        if isinstance(rules, types.Type):
            self.functions[value] = rules
            return rules
        known = self.functions[value] = KernelFunction(value)
        self.rules[known] = rules
        return known

    def _rules_of(self, value: Any) -> list[Rule] | types.Type | None:
        if isinstance(value, _Intrinsic):
            return [value._defn]
        if isinstance(value, Dispatcher):
            return [inline_rule(value.py_func)]
        if isinstance(value, FunctionType):
            return [inline_rule(value)]
        if isinstance(value, type) and issubclass(value, np.generic):
            return types.NumberClass(from_dtype(np.dtype(value)))
        try:
            return self.rules.get(value)
        except TypeError:
            return None

    def resolve_function_type(self, func: Any, args: tuple, kws: Any) -> Signature | None:
        args = tuple(args)
        key = (func, args)
        if key not in self.signatures:
            self.signatures[key] = self._resolve(func, args)
        return self.signatures[key]

    def _resolve(self, func: Any, args: tuple[types.Type, ...]) -> Signature | None:
        if isinstance(func, types.NumberClass):
            (source,) = args
            return signature(func.instance_type, types.unliteral(source))
        for rule in self.rules.get(func, ()):
            found = rule(self, *args)
            if found is not None:
                sig, lower = found
                self.lowerings[func, sig.args, sig.return_type] = lower
                return sig
        return None

    def resolve_setitem(self, target: Any, index: Any, value: Any) -> Signature | None:
        return self.resolve_function_type(operator.setitem, (target, index, value), {})

    def resolve_getattr(self, typ: types.Type, attr: str) -> types.Type | None:
        return self.resolve_module_constants(typ, attr) if isinstance(typ, types.Module) else None


class _Codegen:
    """What Numba's target context asks of a code generator: empty modules and the data layout."""

    def __init__(self) -> None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        self.triple = llvm.get_process_triple()
        machine = llvm.Target.from_triple(self.triple).create_target_machine()
        self.target_data = machine.target_data
        self.layout = str(self.target_data)

    def _create_empty_module(self, name: str) -> ir.Module:
        module = ir.Module(name)
        module.triple, module.data_layout = self.triple, self.layout
        return module


class CCallConv(callconv.BaseCallConv):
    """The C convention: arguments by value, the result returned, no status and no exceptions."""

    def _make_call_helper(self, builder: Any) -> None:
        return None

    def get_function_type(self, restype: types.Type, argtypes: Sequence[types.Type]) -> Any:
        result: ir.Type = ir.VoidType()
        if restype not in (types.none, types.void):
            result = self.context.data_model_manager[restype].get_return_type()
        return ir.FunctionType(result, list(self._get_arg_packer(argtypes).argument_types))

    def decorate_function(
        self, fn: Any, args: Any, fe_argtypes: Any, noalias: bool = False
    ) -> None:
        fn.attributes.add("nounwind")
        # Otherwise LLVM turns loops that fill or copy into calls of memset and memcpy.
        set.add(fn.attributes, '"no-builtins"')

    def get_arguments(self, func: Any) -> Any:
        return func.args

    def return_value(self, builder: Any, retval: Any) -> None:
        if isinstance(builder.function.function_type.return_type, ir.VoidType):
            builder.ret_void()
        else:
            builder.ret(retval)

    def return_user_exc(self, builder: Any, exc: Any, *args: Any, **kwargs: Any) -> None:
        raise errors.LoweringError("a kernel cannot raise an exception")


class KernelTarget(cpu.CPUContext):
    """Numba's CPU target without its runtime, its registries and its execution engine."""

    def init(self) -> None:
        self.is32bit = False
        self._internal_codegen = _Codegen()

    def load_additional_registries(self) -> None:
        from numba.cpython import builtins, numbers  # noqa: F401

    @property
    def call_conv(self) -> CCallConv:
        return CCallConv(self)

    def get_function(self, fn: Any, sig: Signature, _firstcall: bool = True) -> Any:
        if isinstance(fn, types.NumberClass):
            return lambda builder, args, loc=None: self.cast(
                builder, args[0], sig.args[0], sig.return_type
            )
        lower = self.typing_context.lowerings.get((fn, sig.args, sig.return_type))
        if lower is not None:
            return lambda builder, args, loc=None: lower(self, builder, sig, args)
        return super().get_function(fn, sig, _firstcall)

    def cast(self, builder: Any, val: Any, fromty: types.Type, toty: types.Type) -> Any:
        scalars = (types.Number, types.Boolean)
        if isinstance(fromty, types.Literal) and isinstance(toty, scalars):
            val = self.get_constant(types.unliteral(fromty), fromty.literal_value)
        if isinstance(types.unliteral(fromty), scalars) and isinstance(toty, scalars):
            return convert(builder, val, fromty, toty)
        return super().cast(builder, val, fromty, toty)

    def post_lowering(self, mod: Any, library: Any) -> None:
        """Numba links its runtime here; kernels do not use it."""

    def pair_first(self, builder: Any, val: Any, ty: Any) -> Any:
        return builder.extract_value(val, 0)

    def pair_second(self, builder: Any, val: Any, ty: Any) -> Any:
        return builder.extract_value(val, 1)


class KernelLower(lowering.Lower):
    """Numba's lowering without reference counts and without the environment of Python globals."""

    def init(self) -> None:
        super().init()
        self.last_block: dict[int, ir.Block] = {}

    def emit_environment_object(self) -> None:
        pass

    def incref(self, typ: Any, val: Any) -> None:
        pass

    def decref(self, typ: Any, val: Any) -> None:
        pass

    def delvar(self, name: str) -> None:
        pass

    def alloca_lltype(self, name: str, lltype: ir.Type, datamodel: Any = None) -> ir.Value:
        with self.builder.goto_entry_block():
            return self.builder.alloca(lltype, name=name)

    def lower_function_body(self) -> ir.Block:
        """Lower all blocks, then tell LLVM what is known about the loops."""
        entry = super().lower_function_body()
        copies: dict[tuple[int, int], int] = {}
        # Labels grow along the text, so inner loops end first.
        for label, block in sorted(self.blocks.items()):
            head = getattr(block.terminator, "target", None)
            if head is None or head > label:
                continue
            inner = (n for (begin, end), n in copies.items() if head <= begin and end <= label)
            loop = (head, label)
            # A far jump begins with a prefix, to which Numba gives a block of its own.
            if len(self.blocks[head].body) == 1:
                head = self.blocks[head].terminator.target
            for expression in self.blocks[head].find_exprs(op="iternext"):
                iterator = self.typeof(expression.value.name)
                latch = self.last_block[label].terminator
                copies[loop] = hint_loop(latch, iterator.passes, max(inner, default=1))
        return entry

    def post_block(self, block: Any) -> None:
        super().post_block(block)
        label = next(label for label, other in self.blocks.items() if other is block)
        self.last_block[label] = self.builder.block

    def lower_binop(self, resty: types.Type, expr: Any, op: Any) -> ir.Value:
        sig = self.fndesc.calltypes[expr]
        operands = [
            self.context.cast(self.builder, self.loadvar(var.name), self.typeof(var.name), formal)
            for var, formal in zip((expr.lhs, expr.rhs), sig.args, strict=True)
        ]
        function = self.context.typing_context.resolve_value_type(expr.fn)
        result = self.context.get_function(function, sig)(self.builder, operands)
        return self.context.cast(self.builder, result, sig.return_type, resty)


# ---- From function to IR -------------------------------------------------------------------------


class _Library:
    """Where Numba's lowering puts its module, with the functions that the module calls."""

    def __init__(self, codegen: _Codegen) -> None:
        self.codegen = codegen
        self.module: ir.Module | None = None
        self.calls: dict[str, Lowered] = {}

    def create_ir_module(self, name: str) -> ir.Module:
        return self.codegen._create_empty_module(name)

    def add_ir_module(self, module: ir.Module) -> None:
        self.module = module


@dataclass(frozen=True)
class Lowered:
    """LLVM IR of one function and of all functions that it calls, by symbol."""

    symbol: str
    return_type: types.Type
    module: ir.Module
    calls: dict[str, Lowered]


class KernelCompiler:
    """Numba's front end over the two contexts above; one per process, used under Numba's lock."""

    def __init__(self) -> None:
        self.typing = KernelTyping(self)
        base = KernelTarget(self.typing)
        base.refresh()
        self.target = compiler._make_subtarget(base, OPTIONS)
        self.inlined: dict[Any, Lowered] = {}

    def lower(self, function: FunctionType, sig: Signature, symbol: str) -> Lowered:
        """LLVM IR of `function` for the argument types of `sig`; its return type may be None."""
        identity = bytecode.FunctionIdentity.from_function(function)
        func_ir = interpreter.Interpreter(identity).interpret(bytecode.ByteCode(identity))
        state = compiler.StateDict(func_ir=func_ir, locals={}, typemap=None, flags=OPTIONS)
        with ConfigStack().enter(OPTIONS.copy()):
            untyped_passes.ReconstructSSA().run_pass(state)
            typemap, return_type, calltypes, _ = typed_passes.type_inference_stage(
                self.typing, self.target, state.func_ir, sig.args, sig.return_type
            )
            # Only this half of Numba's pass: the other half finds where to drop references.
            state.func_ir = typed_passes.PreLowerStripPhis()._strip_phi_nodes(state.func_ir)
            state.func_ir._definitions = build_definitions(state.func_ir.blocks)
            descriptor = funcdesc.PythonFunctionDescriptor.from_specialized_function(
                state.func_ir,
                typemap,
                return_type,
                calltypes,
                mangler=lambda *args, **kwargs: symbol,
                inline=False,
                noalias=False,
                abi_tags=(),
            )
            library = _Library(self.target.codegen())
            with self.target.push_code_library(library):
                KernelLower(self.target, library, descriptor, state.func_ir).lower()
        return Lowered(symbol, return_type, library.module, library.calls)

    def inline(self, function: FunctionType, args: tuple[types.Type, ...]) -> Lowered:
        """The function compiled once per process and argument types, to be linked where called."""
        key = (function, args)
        if key not in self.inlined:
            symbol = f"{function.__name__}.{len(self.inlined)}"
            self.inlined[key] = self.lower(function, signature(None, *args), symbol)
        return self.inlined[key]


KERNEL_SIGNATURE = types.void(
    types.CPointer(types.uintp), types.CPointer(types.int64), types.int64, types.int64
)

_compiler: KernelCompiler | None = None


@global_compiler_lock
def lower_to_text(function: FunctionType, sig: Signature, symbol: str) -> list[str]:
    """LLVM assembly of the function, then of each function that it calls."""
    global _compiler
    if _compiler is None:
        _compiler = KernelCompiler()
    lowered = _compiler.lower(function, sig, symbol)
    exported = lowered.module.get_global(symbol)
    if sig == KERNEL_SIGNATURE:
        for table in exported.args[:2]:
            table.add_attribute("noalias")
    texts, pending = [str(lowered.module)], list(lowered.calls.values())
    seen = set()
    while pending:
        callee = pending.pop()
        if callee.symbol not in seen:
            seen.add(callee.symbol)
            texts.append(str(callee.module))
            pending += callee.calls.values()
    return texts
