"""User-defined quantities: expressions in measured averages, parsed here and never evaluated by Python."""

import ast
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np

from lattice_flows.errors import InputError
from lattice_flows.theories.observable import Quantity, Term

_FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "cos": np.cos,
    "sin": np.sin,
    "abs": np.abs,
    "arccosh": np.arccosh,
}
_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.Pow: np.power,
}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_LONGEST = 1000  # letters; a tree of more is nobody's formula
_DEEPEST = 200  # levels of it


def parse_quantity(text: str, series: Collection[str]) -> Quantity:
    """The quantity "NAME = EXPRESSION" of these series.

    A series' name stands for its average, and mean(...) for the average of an expression in one series. Allowed are
    + - * / **, numbers, and exp, log, sqrt, cos, sin, abs, arccosh:

        string_tension = -log(wilson_loop_1x2 / plaquette)
        charge_variance = mean(topological_charge**2) - topological_charge**2

    Raises InputError for anything else.
    """
    where = f"--derive {text!r}"
    name, equals, formula = (part.strip() for part in text.partition("="))
    if not equals or not _NAME.fullmatch(name) or len(formula) > _LONGEST:
        raise InputError(f"{where}: must be written NAME = EXPRESSION, with a word as the name")
    known = {f"series_{k}": one for k, one in enumerate(sorted(series, key=len, reverse=True))}
    for placeholder, one in known.items():  # names may hold dots, which are no part of a name in a formula
        formula = re.sub(rf"(?<![\w.]){re.escape(one)}(?![\w.])", placeholder, formula)
    try:
        tree = ast.parse(formula, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise InputError(f"{where}: is not an expression of numbers, series and + - * / **") from None
    if _depth(tree) > _DEEPEST:
        raise InputError(f"{where}: is nested too deeply")
    reader = _Reader(where, known)
    try:
        function = reader.read(tree)
    except OverflowError:
        raise InputError(f"{where}: contains a number that is too large") from None
    if not reader.terms:
        raise InputError(f"{where}: names no series; available: {', '.join(sorted(series))}")
    keys = list(reader.terms)

    def of_means(*means: float) -> float:
        with np.errstate(all="ignore"):  # what is not finite is told as such
            return float(function(dict(zip(keys, means))))

    return Quantity(name, tuple(reader.terms.values()), of_means)


def _depth(tree: ast.expr) -> int:
    """The number of levels of the tree, found by a loop, as Python's recursion limit may be anything."""
    level: list[ast.AST] = [tree]
    depth = 0
    while level:
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        depth += 1
    return depth


Function = Callable[[Mapping[str, Any]], Any]


class _Reader:
    """Turns a tree into a function of averages; collects these averages as `terms`, by the expression they are of."""

    def __init__(self, where: str, known: Mapping[str, str]) -> None:
        self.where = where
        self.known = known
        self.terms: dict[str, Term] = {}

    def read(self, node: ast.expr) -> Function:
        """The function of the averages in `terms` that the node stands for."""
        if isinstance(node, ast.Name) and node.id in self.known:
            return self._average(node.id, Term(self.known[node.id]))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "mean":
            return self._mean(node)
        return self._combined(node, self.read)

    def _mean(self, node: ast.Call) -> Function:
        """The function for mean(EXPRESSION in one series)."""
        inside = {part.id for part in ast.walk(node) if isinstance(part, ast.Name) and part.id in self.known}
        if len(inside) != 1 or len(node.args) != 1 or node.keywords:
            raise InputError(f"{self.where}: mean(...) takes an expression in one series")
        (placeholder,) = inside

        def plain(part: ast.expr) -> Function:
            if isinstance(part, ast.Name) and part.id == placeholder:
                return lambda values: values[placeholder]
            return self._combined(part, plain)

        transform = plain(node.args[0])

        @np.errstate(all="ignore")  # what is not finite is told as such
        def of_series(values: Any) -> Any:
            return transform({placeholder: values})

        return self._average(ast.dump(node), Term(self.known[placeholder], of_series))

    def _average(self, key: str, term: Term) -> Function:
        self.terms.setdefault(key, term)
        return lambda means: means[key]

    def _combined(self, node: ast.expr, read: Callable[[ast.expr], Function]) -> Function:
        """The function for numbers, operators and calls whose operands `read` understands."""
        if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
            number = float(node.value)
            return lambda means: number
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
            operand, sign = read(node.operand), -1.0 if isinstance(node.op, ast.USub) else 1.0
            return lambda means: sign * operand(means)
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            left, right, operator = read(node.left), read(node.right), _OPERATORS[type(node.op)]
            return lambda means: operator(left(means), right(means))
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in _FUNCTIONS
            and len(node.args) == 1
            and not node.keywords
        ):
            argument, function = read(node.args[0]), _FUNCTIONS[node.func.id]
            return lambda means: function(argument(means))
        unknown = self.known.get(node.id, node.id) if isinstance(node, ast.Name) else ast.unparse(node)
        for placeholder, one in self.known.items():
            unknown = re.sub(rf"\b{placeholder}\b", one, unknown)
        known = ", ".join(sorted([*self.known.values(), *_FUNCTIONS, "mean"]))
        raise InputError(f"{self.where}: {unknown!r} is not known; there are {known}")
