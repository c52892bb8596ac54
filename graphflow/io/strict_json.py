"""JSON text to Python values with one meaning: what other readers may read differently is refused.

Refused are duplicate keys, NaN and Infinity, numbers that no int64, uint64 or finite float64
holds, deep nesting, more values than allowed, bytes that are not UTF-8, and lone surrogates.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import Any

from graphflow.compiler.errors import GraphFormatError
from graphflow.io.limits import Limits

#: digits and sign of the longest 64-bit int, and of the longest shortest-round-trip float64
_LONGEST_INT, _LONGEST_FLOAT = 20, 25

# A string may also run to the end of the text: were that no match, the search would start again
# at every quote inside, which takes quadratic time. The possessive + never goes back.
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)', re.DOTALL)
_EMPTY_PAIR = re.compile(rb"\[\]|\{\}")
_NOT_BRACKETS = bytes(sorted(set(range(256)) - set(b"[]{}")))
_SURROGATE = re.compile("[\ud800-\udfff]")


def parse(text: bytes, limits: Limits, what: str) -> Any:
    """The value of a JSON text; `what` names it in messages.

    Raises:
        GraphFormatError: the text is not strict JSON, or exceeds `limits`.
    """
    try:
        decoded = text.decode("utf-8", "strict")
    except UnicodeDecodeError as error:
        raise GraphFormatError(f"{what}: byte {error.start} is not UTF-8") from None
    _check_form(text, limits, what)
    try:
        return json.loads(
            decoded,
            object_pairs_hook=_unique_keys,
            parse_constant=_refuse_constant,
            parse_int=_short_int,
            parse_float=_finite_float,
        )
    except GraphFormatError as error:
        raise GraphFormatError(f"{what}: {error}") from None
    except ValueError as error:
        raise GraphFormatError(f"{what}: invalid JSON, {ascii(str(error))[1:-1][:120]}") from None


def _check_form(text: bytes, limits: Limits, what: str) -> None:
    """Bound depth and number of values before the parser builds them."""
    outside = _STRING.sub(b"", text)
    count = outside.count(b",") + outside.count(b"[") + outside.count(b"{")
    limits.check("values", count, f"{what}: the number of values")
    brackets = outside.translate(None, _NOT_BRACKETS)
    for _ in range(limits.nesting):
        if not brackets:
            return
        peeled = _EMPTY_PAIR.sub(b"", brackets)  # the innermost level
        if len(peeled) == len(brackets):
            raise GraphFormatError(f"{what}: invalid JSON, the brackets do not match")
        brackets = peeled
    if brackets:
        raise GraphFormatError(f"{what}: brackets are nested more than {limits.nesting} deep")


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        counts = Counter(key for key, _ in pairs)
        twice = max(counts, key=counts.__getitem__)
        raise GraphFormatError(f"the key {shown(twice)} occurs twice")
    return result


def _refuse_constant(text: str) -> Any:
    raise GraphFormatError(f"{text} is not a JSON number")


def _short_int(text: str) -> int:
    if len(text) > _LONGEST_INT:
        raise GraphFormatError(f"an int of {len(text)} digits is too long")
    return int(text)


def _finite_float(text: str) -> float:
    if len(text) > _LONGEST_FLOAT:
        raise GraphFormatError(f"a float of {len(text)} characters is too long")
    value = float(text)
    if not math.isfinite(value):
        raise GraphFormatError(f"the float {text} is out of range")
    return value


def canonical(value: Any) -> str:
    """The one JSON text of a value: no spaces, ASCII, keys in the order of the dicts."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def shown(value: Any, width: int = 60) -> str:
    """A value from a file as it may stand in a message: ASCII, one line, cut to `width`."""
    text = ascii(value)
    return text if len(text) <= width else text[: width - 3] + "..."


def has_surrogate(text: str) -> bool:
    """Whether a string holds half a surrogate pair, which no UTF-8 text can."""
    return _SURROGATE.search(text) is not None
