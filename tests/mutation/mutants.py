"""Which mutants of a file there are: the file with one small change, which a test has to notice.

The changes are mutmut's, and two more: a statement is taken out, and a condition that holds no
operator is turned round. They are made at the top of a module too, in the bodies of classes and in
properties, where mutmut's own way to run mutants cannot go.

Left out is what no test of behaviour should hold:

*   texts for people: where it compiles to the same once the arguments of errors are taken out and
    the functions of `TEXTS` are empty. So does what is no change at all, a last `return None`;
*   types, which mypy holds; what a module exports, which `tests/test_exports.py` holds; decorators,
    and calls of `len` and `isinstance`, as mutmut does.

A mutant's name is its file, the function or class, and the changed lines before and after: it lasts
while the code around it changes.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from types import CodeType

import libcst as cst
import libcst.matchers as m
from libcst.metadata import CodeRange, MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators

__all__ = ["Mutant", "mutants_of"]

#: Functions that make texts for people, and nothing else.
TEXTS = {"__repr__", "__str__", "_policy", "_remedy", "_shown"}

#: Errors whose arguments are more than a text.
NUMBERED = {"FrameTooLargeError"}

NOT_CHANGED = (
    m.Annotation()
    | m.Decorator()
    | m.Import()
    | m.ImportFrom()
    | m.Call(m.Name("len") | m.Name("isinstance"))
    | m.AnnAssign(annotation=m.Annotation(m.Name("TypeAlias")))
    | m.Assign(value=m.Call(m.Name("TypeVar")))
    | m.Assign([m.AssignTarget(m.Name("__all__"))])
    | m.FunctionDef(decorators=[m.Decorator(m.Name("overload"))])
)

LITERAL = m.SimpleString() | m.ConcatenatedString() | m.Ellipsis()
REMOVABLE = m.Raise() | m.Return() | m.Del() | m.Expr(~LITERAL)

#: A condition that none of mutmut's changes would turn round.
PLAIN = m.Name() | m.Attribute() | m.Call() | m.NamedExpr()

ORIGIN = ast.Pass(lineno=1, col_offset=0, end_lineno=1, end_col_offset=0)

Positions = Mapping[cst.CSTNode, CodeRange]


@dataclass(frozen=True)
class Mutant:
    """A file with one change.

    :param place: the names of the classes and functions that it is in, the outermost first
    :param lines: those of the original that it is in: only tests that run them can notice
    :param source: the whole file, changed
    """

    path: Path
    name: str
    place: tuple[str, ...]
    lines: range
    source: str


@dataclass(frozen=True)
class Change:
    """A node, what takes its place, and where."""

    node: cst.CSTNode
    instead: cst.CSTNode
    place: tuple[str, ...]
    lines: range


def mutants_of(path: Path) -> tuple[list[Mutant], int]:
    """Make a file's mutants, in its order, and count the changes that are left out as texts."""
    wrapper = MetadataWrapper(cst.parse_module(path.read_text("utf-8")), unsafe_skip_copy=True)
    module, positions = wrapper.module, wrapper.resolve(PositionProvider)
    codes = [module.code_for_node(node) for node in (*module.header, *module.body)]
    mutants: list[Mutant] = []
    names: Counter[str] = Counter()
    texts = 0
    for index, top in enumerate(module.body, len(module.header)):
        original = codes[index]
        meant = meaning(original)
        for change in changes_in(top, positions):
            changed = module.code_for_node(replaced(top, change))
            if meaning(changed) == meant:
                texts += 1
                continue
            where = ".".join(change.place) or "module"
            name = f"{path}: {where}: {difference(original, changed)}"
            names[name] += 1
            name += f" ({names[name]})" * (names[name] > 1)
            source = "".join((*codes[:index], changed, *codes[index + 1 :]))
            mutants.append(Mutant(path, name, change.place, change.lines, source))
    return mutants, texts


def changes_in(
    node: cst.CSTNode,
    positions: Positions,
    place: tuple[str, ...] = (),
    statement: range | None = None,
) -> Iterator[Change]:
    """Walk what may be changed, and give each change.

    :param statement: the lines of the simple statement that the node is in
    """
    if m.matches(node, NOT_CHANGED):
        return
    if isinstance(node, cst.FunctionDef | cst.ClassDef):
        place = (*place, node.name.value)
    lines = statement
    if statement is None and node in positions:
        position = positions[node]
        lines = range(position.start.line, position.end.line + 1)
        if isinstance(node, cst.BaseSmallStatement):
            statement = lines
    for instead in alternatives(node):
        yield Change(node, instead, place, lines or range(0))
    for child in node.children:
        yield from changes_in(child, positions, place, statement)


def alternatives(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """Give what may stand in a node's place."""
    for kind, operator in mutation_operators:
        if isinstance(node, kind):
            yield from operator(node)
    if m.matches(node, REMOVABLE):
        yield cst.Pass()
    if isinstance(node, cst.If | cst.While) and m.matches(node.test, PLAIN):
        test = node.test.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
        yield node.with_changes(test=cst.UnaryOperation(cst.Not(), test))


def replaced(top: cst.CSTNode, change: Change) -> cst.CSTNode:
    """Make the change in a statement at the top of a module."""
    new = top.deep_replace(change.node, change.instead)
    assert isinstance(new, cst.CSTNode)
    return new


class Blanker(ast.NodeTransformer):
    """Takes texts for people out of a syntax tree, and positions."""

    def visit(self, node: ast.AST) -> ast.AST:
        if "lineno" in node._attributes:
            ast.copy_location(node, ORIGIN)
        visited: ast.AST = super().visit(node)
        return visited

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        if node.name in TEXTS:
            node.body = [ast.Pass()]
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        called = getattr(node.func, "id", "")
        if called.endswith("Error") and called not in NUMBERED:
            node.args, node.keywords = [], []
        return self.generic_visit(node)


def meaning(code: str) -> CodeType:
    """Compile code without texts for people and without positions."""
    tree = Blanker().visit(ast.parse(code))
    return compile(tree, "mutant", "exec", dont_inherit=True)  # type: ignore[call-overload,no-any-return]


def difference(before: str, after: str) -> str:
    """Show the lines that differ, in one line."""
    old, new = before.splitlines(), after.splitlines()
    head = common(old, new)
    tail = common(old[head:][::-1], new[head:][::-1])
    return f"{joined(old[head : len(old) - tail])} -> {joined(new[head : len(new) - tail])}"


def common(some: Sequence[str], others: Sequence[str]) -> int:
    """Count the lines that two lists begin with both."""
    return sum(
        1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(some, others, strict=False))
    )


def joined(lines: Sequence[str]) -> str:
    return " ".join(line.strip() for line in lines)
