"""Arithmetic as people write it: ``3 * 2477 + 50``, parsed and added up without ever being evaluated as code."""

from __future__ import annotations

import ast
from collections.abc import Callable
import operator

from roofprobe.errors import BadInput

_OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def add_up(text: str) -> float:
    """The value of numbers joined by ``+ - * /`` and brackets. Raises BadInput for anything else."""
    try:
        return _value(ast.parse(text, mode="eval").body)
    except (SyntaxError, ValueError, ZeroDivisionError):
        raise BadInput(f"'{text}' is not a sum; expected numbers, + - * / and brackets") from None


def _value(node: ast.expr) -> float:
    match node:
        case ast.Constant(value=float() | int() as value) if not isinstance(value, bool):
            return value
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_value(left), _value(right))
    raise ValueError(ast.dump(node))
