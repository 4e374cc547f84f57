"""Every fault that can be planted in a module's source: one small change of one expression or statement each."""

from __future__ import annotations

import ast
import copy
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

_SWAPPED_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
_SWAPPED_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
_SWAPPED_NAMES = {
    "floor": "rint",
    "rint": "floor",
    "ceil": "floor",
    "round": "int",
    "minimum": "maximum",
    "maximum": "minimum",
    "min": "max",
    "max": "min",
    "fmin": "fmax",
    "fmax": "fmin",
    "sin": "cos",
    "cos": "sin",
    "any": "all",
    "all": "any",
    "degrees": "radians",
    "radians": "degrees",
    "argmin": "argmax",
    "argmax": "argmin",
    "isfinite": "isnan",
    "zeros": "ones",
    "ones": "zeros",
    "width_px": "height_px",
    "height_px": "width_px",
    "cx_px": "cy_px",
    "cy_px": "cx_px",
    "fx_px": "fy_px",
    "fy_px": "fx_px",
}
_CLAMPS = {"clip", "minimum", "maximum", "min", "max"}
_SYMMETRIC = {
    "hypot",
    "isclose",
    "allclose",
    "array_equal",
    *_CLAMPS,
    "fmin",
    "fmax",
    "zip",
    "gcd",
    "dict",
    "isinstance",
}
_Node = TypeVar("_Node", bound=ast.AST)
_IS_A_MATRIX = ("rotation", "pose", "_from_", "(3, 3)", "(4, 4)")


@dataclass(frozen=True, slots=True)
class Mutant:
    """One changed place: `text` is to stand at characters `start` to `end` of the file."""

    key: str
    """Digest of file, function, operator, the change and its number among equals: other edits do not move it."""
    file: str
    function: str
    line: int
    last_line: int
    statement_line: int
    """Where the statement begins: of one over many lines, coverage may know only that."""
    at_import: bool
    """It is no part of a function's body: of a module's or a class's, or a default."""
    operator: str
    before: str
    after: str
    start: int
    end: int

    def applied(self, source: str) -> str:
        encoded = source.encode()
        return (encoded[: self.start] + self.after.encode() + encoded[self.end :]).decode()

    def compiles(self, source: str) -> bool:
        try:
            compile(self.applied(source), self.file, "exec")
        except SyntaxError:
            return False
        return True


def mutants_of(file: str, source: str) -> list[Mutant]:
    """Return all mutants of a module, in the order of its source."""
    tree, encoded = ast.parse(source), source.encode()
    offsets = [0]
    for line in encoded.splitlines(keepends=True):
        offsets.append(offsets[-1] + len(line))
    found: list[Mutant] = []
    seen: Counter[str] = Counter()
    for function, statement, at_import, node, operator, after in _walk(tree):
        start = offsets[node.lineno - 1] + node.col_offset
        end = offsets[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)
        before = encoded[start:end].decode()
        name = "|".join((file, function, operator, before, after))
        seen[name] += 1
        key = hashlib.sha256(f"{name}|{seen[name]}".encode()).hexdigest()[:12]
        last = node.end_lineno or node.lineno
        place = (key, file, function, node.lineno, last, statement, at_import)
        found.append(Mutant(*place, operator, before, after, start, end))
    return found


def _walk(tree: ast.Module) -> Iterator[tuple[str, int, bool, ast.expr | ast.stmt, str, str]]:
    """Yield (function, statement's line, whether an import runs it, node, operator, new text) of all that computes."""
    stack: list[tuple[str, int, ast.AST, ast.FunctionDef | None]] = [("", 1, tree, None)]
    while stack:
        where, line, node, owner = stack.pop()
        if isinstance(node, ast.stmt):
            line = node.lineno
            for operator, changed in _statements(node, owner):
                yield where, line, owner is None, node, operator, changed
            if isinstance(node, ast.If | ast.While) and not isinstance(node.test, ast.Compare | ast.UnaryOp):
                yield where, line, owner is None, node.test, "negated condition", f"(not ({ast.unparse(node.test)}))"
        if isinstance(node, ast.expr):
            for operator, changed in _expressions(node):
                after = changed if isinstance(node, ast.Constant) else f"({changed})"
                yield where, line, owner is None, node, operator, after
        inner, within = where, owner
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            inner = f"{where}.{node.name}".lstrip(".")
            within = node if isinstance(node, ast.FunctionDef) else None
        for child in reversed(list(_children(node))):
            stack.append((inner, line, child, owner if isinstance(child, ast.arguments) else within))


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what of a node computes: no annotation, decorator, type alias, docstring or error message."""
    if isinstance(node, ast.Raise | ast.JoinedStr | ast.Assert | ast.Import | ast.ImportFrom):
        return
    if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id in ("__all__",) for t in node.targets):
        return
    skipped = {"annotation", "returns", "decorator_list", "type_comment", "bases"}
    for name, value in ast.iter_fields(node):
        if name in skipped:
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield child


def _expressions(node: ast.expr) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.BinOp):
        yield from _binary(node)
    elif isinstance(node, ast.Compare):
        for place, op in enumerate(node.ops):
            for other in _SWAPPED_COMPARISONS[type(op)]:
                ops = [other() if number == place else each for number, each in enumerate(node.ops)]
                yield "comparison", ast.unparse(_with(node, ops=ops))
    elif isinstance(node, ast.BoolOp):
        yield "boolean", ast.unparse(_with(node, op=ast.And() if isinstance(node.op, ast.Or) else ast.Or()))
    elif isinstance(node, ast.UnaryOp):
        if isinstance(node.op, ast.Not | ast.USub | ast.Invert):
            yield "removed " + type(node.op).__name__.lower(), ast.unparse(node.operand)
    elif isinstance(node, ast.Constant):
        yield from _constants(node)
    elif isinstance(node, ast.Call):
        yield from _calls(node)
    elif isinstance(node, ast.Attribute):
        if isinstance(node.ctx, ast.Load) and node.attr == "T":
            yield "transposed", ast.unparse(node.value)
        elif isinstance(node.ctx, ast.Load) and node.attr.endswith("_px") and node.attr in _SWAPPED_NAMES:
            yield "x for y", ast.unparse(_with(node, attr=_SWAPPED_NAMES[node.attr]))
    elif isinstance(node, ast.IfExp):
        yield "negated condition", ast.unparse(_with(node, body=node.orelse, orelse=node.body))
    elif isinstance(node, ast.Slice):
        return  # not an expression of its own; its bounds are mutated by `Subscript`
    elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load) and isinstance(node.slice, ast.Slice):
        for name in ("lower", "upper"):
            bound = getattr(node.slice, name)
            if bound is not None and not isinstance(bound, ast.Constant):
                moved = ast.BinOp(bound, ast.Sub(), ast.Constant(1))
                yield "off by one", ast.unparse(_with(node, slice=_with(node.slice, **{name: moved})))


def _binary(node: ast.BinOp) -> Iterator[tuple[str, str]]:
    if isinstance(node.op, ast.MatMult):
        yield "swapped product", ast.unparse(_with(node, left=node.right, right=node.left))
        return
    other = _SWAPPED_OPERATORS.get(type(node.op))
    if other is not None and not any(map(_is_text, (node.left, node.right))):
        yield "arithmetic", ast.unparse(_with(node, op=other()))
    if isinstance(node.op, ast.Sub | ast.Div):
        yield "swapped operands", ast.unparse(_with(node, left=node.right, right=node.left))


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _constants(node: ast.Constant) -> Iterator[tuple[str, str]]:
    value = node.value
    if isinstance(value, bool):
        yield "constant", repr(not value)
    elif isinstance(value, int):
        yield "constant + 1", repr(value + 1)
        yield "constant - 1", f"({value - 1})" if value < 1 else repr(value - 1)
    elif isinstance(value, float):
        yield "constant + 1", repr(value + 1)
        yield "constant doubled", repr(value * 2) if value else "(-1.0)"


def _calls(node: ast.Call) -> Iterator[tuple[str, str]]:
    function = node.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    if name in _SWAPPED_NAMES:
        other = _SWAPPED_NAMES[name]
        new = _with(function, attr=other) if isinstance(function, ast.Attribute) else ast.Name(other, ast.Load())
        yield "other function", ast.unparse(_with(node, func=new))
    plain = [each for each in node.args if not isinstance(each, ast.Starred)]
    if name in _CLAMPS and len(plain) >= 2:
        yield "dropped clamp", ast.unparse(plain[0])
    if len(plain) >= 2 and len(plain) == len(node.args) and name not in _SYMMETRIC:
        yield "swapped arguments", ast.unparse(_with(node, args=[plain[1], plain[0], *plain[2:]]))


def _statements(node: ast.stmt, owner: ast.FunctionDef | None) -> Iterator[tuple[str, str]]:
    is_call = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    if is_call or isinstance(node, ast.AugAssign | ast.Raise):
        yield "removed statement", "pass"
    elif isinstance(node, ast.Continue):
        yield "break for continue", "break"
    elif isinstance(node, ast.Break):
        yield "continue for break", "continue"
    elif isinstance(node, ast.Return) and node.value is not None and owner is not None and _is_a_matrix(owner):
        yield "transposed", f"return ({ast.unparse(node.value)}).T"


def _is_a_matrix(function: ast.FunctionDef) -> bool:
    says = f"{function.name} {(ast.get_docstring(function) or '').partition('.')[0]}"
    returns = ast.unparse(function.returns) if function.returns else ""
    return returns == "Float64Array" and any(word in says for word in _IS_A_MATRIX)


def _with(node: _Node, **changes: object) -> _Node:
    changed = copy.copy(node)
    for name, value in changes.items():
        setattr(changed, name, value)
    return changed
