"""Reads Python packages as syntax trees and says where they break Baton's architecture.

Every check takes a `Tree` and returns its findings as sentences, one each, none when all is well;
so a test can show on a made-up tree that the check is able to fail.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Import:
    module: str  # what is imported, as far down as it is a module
    name: str  # the name taken from it, or the module itself
    line: int
    inside: str | None  # the function it stands in
    checked_only: bool  # under `if TYPE_CHECKING`


@dataclass(frozen=True)
class Module:
    name: str
    path: Path
    is_package: bool

    @cached_property
    def source(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.source, str(self.path))

    @property
    def lines(self) -> int:
        return len(self.source.splitlines())


class Tree:
    """All modules of the named packages under `root`."""

    def __init__(self, root: Path, packages: Sequence[str]) -> None:
        self.root, self.packages = root, tuple(packages)
        self.modules: dict[str, Module] = {}
        self._imports_of: dict[str, list[Import]] = {}
        for package in self.packages:
            for path in sorted((root / package).rglob("*.py")):
                parts = path.relative_to(root).with_suffix("").parts
                is_package = parts[-1] == "__init__"
                name = ".".join(parts[:-1] if is_package else parts)
                self.modules[name] = Module(name, path, is_package)

    def imports(self, module: Module) -> list[Import]:
        """What a module imports, wherever it says so, `import_module("...")` among it."""
        if module.name not in self._imports_of:
            self._imports_of[module.name] = list(self._imports(module, module.tree, None, False))
        return self._imports_of[module.name]

    def _imports(
        self, module: Module, node: ast.AST, inside: str | None, checked: bool
    ) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(alias.name, alias.name, child.lineno, inside, checked)
            elif isinstance(child, ast.ImportFrom):
                base = _absolute(module, child)
                for alias in child.names:
                    deeper = f"{base}.{alias.name}"
                    target = deeper if deeper in self.modules else base
                    yield Import(target, alias.name, child.lineno, inside, checked)
            elif isinstance(child, ast.Call) and _called(child) in {"import_module", "__import__"}:
                named = child.args[0] if child.args else None
                known = isinstance(named, ast.Constant) and isinstance(named.value, str)
                text = str(named.value) if isinstance(named, ast.Constant) and known else "?"
                yield Import(text, text, child.lineno, inside, checked)
            within = child.name if isinstance(child, FUNCTIONS) else inside
            guard = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
            yield from self._imports(module, child, within, checked or guard)

    def functions(self) -> Iterator[tuple[str, int]]:
        """Every function's full name and its length in lines, the docstring not counted."""
        for module in self.modules.values():
            for node in ast.walk(module.tree):
                if isinstance(node, FUNCTIONS):
                    first = node.body[0]
                    has_docstring = ast.get_docstring(node) is not None
                    docstring = _span(first) if has_docstring else 0
                    yield f"{module.name}:{node.name}", _span(node) - docstring


def _absolute(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = module.name.split(".")
    parts = parts[: len(parts) - node.level + module.is_package]
    return ".".join([*parts, *([node.module] if node.module else [])])


def _called(node: ast.Call) -> str:
    if isinstance(node.func, ast.Name):
        return node.func.id
    return node.func.attr if isinstance(node.func, ast.Attribute) else ""


def _span(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _under(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def place(name: str, order: Sequence[str]) -> int | None:
    """Where a module stands: at the entry that is longest of those that fit; `x_*` fits a start."""
    fits = [
        (len(entry), index)
        for index, entry in enumerate(order)
        if (name.startswith(entry[:-1]) if entry.endswith("*") else _under(name, entry))
    ]
    return max(fits)[1] if fits else None


def package_of(name: str) -> str:
    """The package a module stands in: the first two parts of its name."""
    return ".".join(name.split(".")[:2])


def not_allowed(
    tree: Tree, may_import: Mapping[str, str], of_experiments: Mapping[str, str]
) -> list[str]:
    """Imports between packages that the tables do not name, and packages that have no place.

    `may_import` names for each package the packages of its own top folder, `of_experiments` those
    of `experiments`; `learning` may be imported by all of `experiments` and `service`, and nothing
    of `service` by either.
    """
    found = []
    for module in tree.modules.values():
        here = package_of(module.name)
        if module.name in tree.packages:
            if any(one.module.split(".")[0] in tree.packages for one in tree.imports(module)):
                found.append(f"{module.name}: the root of a package may import nothing of Baton")
            continue
        if here not in may_import:
            found.append(f"{module.name} has no place in the table of packages")
            continue
        for one in tree.imports(module):
            there = package_of(one.module)
            if one.module.split(".")[0] not in tree.packages or there == here:
                continue
            if not _may(here, there, may_import, of_experiments):
                found.append(f"{module.name}:{one.line} imports {one.module}, which {here} may not")
    packages = {package_of(name) for name in tree.modules}
    return list(dict.fromkeys(found)) + [
        f"{e} names no module" for e in may_import if e not in packages
    ]


def _may(
    here: str, there: str, may_import: Mapping[str, str], of_experiments: Mapping[str, str]
) -> bool:
    top, _, _ = here.partition(".")
    other, _, leaf = there.partition(".")
    if other == top:
        return leaf in may_import[here].split()
    if other == "experiments":
        return top == "service" and leaf in of_experiments.get(here, "").split()
    return other == "learning"


def upwards(tree: Tree, package: str, floors: Sequence[str]) -> list[str]:
    """Imports inside a package that go to a floor above, or to another room of the same floor."""
    level = {room: number for number, floor in enumerate(floors) for room in floor.split()}
    found = []
    for module in tree.modules.values():
        here = _room(module.name, package)
        if here is None:
            continue
        if here not in level:
            found.append(f"{module.name} stands on no floor of {package}")
            continue
        for one in tree.imports(module):
            there = _room(one.module, package)
            if there is None or there == here:
                continue
            if there in level and level[there] >= level[here]:
                found.append(f"{module.name}:{one.line} imports {one.module}, not a floor below")
    return list(dict.fromkeys(found))


def _room(name: str, package: str) -> str | None:
    return (
        name.removeprefix(f"{package}.").split(".")[0] if name.startswith(f"{package}.") else None
    )


def circles(tree: Tree) -> list[str]:
    """Circles of imports, which within one place of the order nothing else would find."""
    edges = {
        name: {one.module for one in tree.imports(module) if one.module in tree.modules} - {name}
        for name, module in tree.modules.items()
    }
    while leaves := [name for name, targets in edges.items() if not targets & edges.keys()]:
        for name in leaves:
            del edges[name]
    return [f"{', '.join(sorted(edges))} import each other in a circle"] if edges else []


def side_doors(
    tree: Tree, doors: Mapping[str, Sequence[str]], passed: Mapping[str, Sequence[str]]
) -> list[str]:
    """Imports of an outside package by a module that is not its door.

    `passed` names, per package, the types that others may name, because their values are handed on.
    """
    found = []
    for module in tree.modules.values():
        for one in tree.imports(module):
            package = one.module.split(".")[0]
            at_door = package not in doors or place(module.name, doors[package]) is not None
            if not at_door and one.name not in passed.get(package, ()):
                where = f"{module.name}:{one.line} imports {one.module}"
                found.append(f"{where}; its door is {', '.join(doors[package])}")
    return list(dict.fromkeys(found))


def hidden_imports(tree: Tree, allowed: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Imports inside functions, and entries of the list of allowed ones that nothing uses."""
    found: list[str] = []
    used: set[tuple[str, str]] = set()
    for module in tree.modules.values():
        for one in tree.imports(module):
            if one.inside is None:
                continue
            fits = {
                (name, target)
                for name, targets in allowed.items()
                for target in targets
                if _under(module.name, name) and _under(one.module, target)
            }
            used |= fits
            if not fits:
                where = f"{module.name}:{one.line}"
                found.append(f"{where} imports {one.module} inside {one.inside}()")
    stale = {(m, t) for m, targets in allowed.items() for t in targets} - used
    return found + [f"{m} no longer imports {t} in a function" for m, t in sorted(stale)]


def too_long(
    tree: Tree, lines_max: int, function_max: int, allowed: Mapping[str, str]
) -> list[str]:
    """Files and functions beyond the limits, and allowed ones that are short again."""
    sizes = {name: (m.lines, lines_max) for name, m in tree.modules.items()}
    for name, length in tree.functions():
        sizes[name] = max(sizes.get(name, (0, 0)), (length, function_max))
    long = {name: size for name, (size, limit) in sizes.items() if size > limit}
    found = [f"{name} is {size} lines long" for name, size in long.items() if name not in allowed]
    return found + [f"{name} is allowed to be long and is not" for name in allowed.keys() - long]


def outside(tree: Tree, package: str, allowed: Sequence[str]) -> list[str]:
    """Imports of a package from outside itself that are not among the allowed modules."""
    return [
        f"{module.name}:{one.line} imports {one.module}"
        for module in tree.modules.values()
        if _under(module.name, package)
        for one in tree.imports(module)
        if not any(_under(f"{one.module}.{one.name}", entry) for entry in (package, *allowed))
    ]


IMPURE_CALLS = {"hash", "id", "open", "print", "input", "exec", "eval", "write_text", "write_bytes"}
BLAS = {"dot", "vdot", "inner", "matmul", "einsum", "tensordot", "linalg"}


def impure(tree: Tree, package: str) -> list[str]:
    """What may differ between two processes: hash order, files, chance, sums of other libraries."""
    return [
        f"{module.name}:{getattr(node, 'lineno', '?')} {what}"
        for module in tree.modules.values()
        if _under(module.name, package)
        for node in ast.walk(module.tree)
        if (what := _impurity(node))
    ]


def _impurity(node: ast.AST) -> str | None:
    if isinstance(node, ast.Call) and _called(node) in IMPURE_CALLS and _is_builtin_or_write(node):
        return f"calls {_called(node)}()"
    if isinstance(node, ast.Attribute) and node.attr in {"now", "utcnow", "today"}:
        return "reads the clock"
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
        return "multiplies matrices with @"
    if isinstance(node, ast.Attribute) and node.attr in BLAS | {"random"}:
        if isinstance(node.value, ast.Name) and node.value.id in {"np", "numpy"}:
            return f"uses numpy.{node.attr}"
        return None
    if isinstance(node, (ast.For, ast.comprehension)) and _is_set(node.iter):
        return "goes through a set in its own order"
    return None


def _is_builtin_or_write(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Name) or _called(node).startswith("write_")


def _is_set(node: ast.expr) -> bool:
    if isinstance(node, (ast.Set, ast.SetComp)):
        return True
    return isinstance(node, ast.Call) and _called(node) in {"set", "frozenset"}


def top_level_outside(tree: Tree) -> list[str]:
    """Outside modules that importing the tree loads, the standard library not counted."""
    names = {
        one.module
        for module in tree.modules.values()
        for one in tree.imports(module)
        if one.inside is None and not one.checked_only
    }
    ours = {*tree.packages, *sys.stdlib_module_names, "?"}
    return sorted(name for name in names if name.split(".")[0] not in ours)
