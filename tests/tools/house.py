"""Measure the code's structure: import cycles, bases with one subclass, and uses of Textual's
private names.

Everything is read from the source with `ast`; only Textual itself is imported, to know its private
names.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import textual

PACKAGE = "rnnlm_tui"
APP = f"{PACKAGE}.tui.app"
"""Screens name the app, which shows them, in their types: that is no cycle."""
TEXTUAL_MODULE = "tui/_textual.py"
"""The one file that may use Textual's private names."""


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module, or one name of it."""

    target: str
    """The project's module."""
    typing_only: bool


@dataclass(frozen=True, slots=True)
class Module:
    """A source file of the package."""

    name: str
    path: str
    tree: ast.Module
    names: dict[str, str]
    """Local name → the dotted name that it was imported as."""
    imports: tuple[Import, ...]


def measure(root: Path) -> dict[str, list[str]]:
    """What is found in the checkout at `root`: every place, in words."""
    modules = read_modules(root)
    cycles = import_cycles(modules, typing=False)
    every_cycle = import_cycles(modules, typing=True)
    return {
        "bases with one subclass": list(lonely_bases(modules)),
        "import cycles": cycles,
        "import cycles through TYPE_CHECKING": [
            cycle for cycle in every_cycle if cycle not in cycles
        ],
        f"uses of Textual's private names outside {TEXTUAL_MODULE}": list(private_uses(modules)),
    }


# ---------------------------------------------------------------- reading


def read_modules(root: Path) -> dict[str, Module]:
    """Every module of the package by its dotted name."""
    found: dict[str, tuple[str, ast.Module]] = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found[name] = path.relative_to(root / PACKAGE).as_posix(), tree
    known = frozenset(found)
    return {
        name: Module(name, path, tree, imported_names(tree), tuple(project_imports(tree, known)))
        for name, (path, tree) in found.items()
    }


def imported_names(tree: ast.AST) -> dict[str, str]:
    """What each imported name of a module refers to; the package uses absolute imports only."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {
                alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names
            }
    return names


def project_imports(tree: ast.Module, known: frozenset[str]) -> Iterator[Import]:
    """The project's modules that a module imports, at its top, in functions and for type
    checkers."""

    def visit(body: Iterable[ast.AST], typing_only: bool) -> Iterator[Import]:
        for node in body:
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                whole = [f"{node.module}.{alias.name}" for alias in node.names]
                targets = [name if name in known else node.module for name in whole]
            else:
                if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
                    yield from visit(node.body, True)
                    yield from visit(node.orelse, typing_only)
                else:
                    yield from visit(ast.iter_child_nodes(node), typing_only)
                continue
            for target in dict.fromkeys(targets):
                if target in known:
                    yield Import(target, typing_only)

    yield from visit(tree.body, False)


def classes(modules: dict[str, Module]) -> Iterator[tuple[Module, ast.ClassDef]]:
    """Every class, nested ones too."""
    for module in modules.values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.ClassDef):
                yield module, node


def base_names(module: Module, node: ast.ClassDef) -> Iterator[str]:
    """The dotted names of a class's bases, without their type parameters."""
    for base in node.bases:
        yield qualified(module, base.value if isinstance(base, ast.Subscript) else base)


def qualified(module: Module, node: ast.expr) -> str:
    """The dotted name of an expression such as `Widget` or `widgets.Input`."""
    first, _, rest = ast.unparse(node).partition(".")
    return module.names.get(first, f"{module.name}.{first}") + (f".{rest}" if rest else "")


# ---------------------------------------------------------------- structure


def lonely_bases(modules: dict[str, Module]) -> Iterator[str]:
    """Classes that one class inherits from and nothing creates: parts of that class in a file of
    their own."""
    subclasses: dict[str, list[str]] = defaultdict(list)
    defined = {f"{module.name}.{node.name}" for module, node in classes(modules)}
    for module, node in classes(modules):
        for base in base_names(module, node):
            if base in defined:
                subclasses[base].append(f"{module.name}.{node.name}")
    created = {
        qualified(module, node.func)
        for module in modules.values()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Call)
    }
    yield from (
        f"{base}: {only[0]}"
        for base, only in sorted(subclasses.items())
        if len(only) == 1 and base not in created
    )


def import_cycles(modules: dict[str, Module], *, typing: bool) -> list[str]:
    """Groups of modules that import each other, imports inside functions included; with `typing`
    those for type checkers too."""
    graph = {
        name: {
            imported.target
            for imported in module.imports
            if imported.target != name
            and not (imported.typing_only and (imported.target == APP or not typing))
        }
        for name, module in modules.items()
    }
    return sorted(" ↔ ".join(sorted(group)) for group in strong_components(graph) if len(group) > 1)


def strong_components(graph: dict[str, set[str]]) -> list[set[str]]:
    """Tarjan's strongly connected components."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def connect(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in sorted(graph[node]):
            if target not in index:
                connect(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            place = stack.index(node)
            found.append(set(stack[place:]))
            del stack[place:]

    for node in graph:
        if node not in index:
            connect(node)
    return found


# ---------------------------------------------------------------- Textual's private names


def private_uses(modules: dict[str, Module]) -> Iterator[str]:
    """Uses of Textual's private modules, names and attributes outside the one file for them."""
    bases = {
        f"{module.name}.{node.name}": list(base_names(module, node))
        for module, node in classes(modules)
    }
    for module in modules.values():
        if module.path == TEXTUAL_MODULE:
            continue
        found = {*private_imports(module), *inherited_uses(module, bases), *foreign_uses(module)}
        yield from (f"{module.path}:{line}: {what}" for line, what in sorted(found))


def private_imports(module: Module) -> Iterator[tuple[int, str]]:
    """`from textual._x import y`, `from textual.x import _y`, `import textual._x`."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (
            (node.lineno, name)
            for name in names
            if name.startswith("textual.") and any(map(is_private, name.split(".")))
        )


def inherited_uses(module: Module, bases: dict[str, list[str]]) -> Iterator[tuple[int, str]]:
    """Private attributes that a class uses or overrides and that one of its Textual bases has."""
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.ClassDef):
            continue
        inherited = inherited_private_names(f"{module.name}.{node.name}", bases)
        for part in ast.walk(node):
            if (
                isinstance(part, ast.Attribute)
                and isinstance(part.value, ast.Name | ast.Call)
                and part.attr in inherited
            ):
                if ast.unparse(part.value) in ("self", "cls", "super()"):
                    yield part.lineno, f"{ast.unparse(part.value)}.{part.attr}"
            elif (
                isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef)
                and part in node.body
                and part.name in inherited
            ):
                yield part.lineno, f"overrides {part.name}"


def inherited_private_names(name: str, bases: dict[str, list[str]]) -> frozenset[str]:
    """The private names of every Textual class that a class of the project inherits from."""
    names: frozenset[str] = frozenset()
    for base in bases.get(name, []):
        names |= (
            inherited_private_names(base, bases) if base in bases else textual_class_names(base)
        )
    return names


def foreign_uses(module: Module) -> Iterator[tuple[int, str]]:
    """`widget._x` and `getattr(widget, "_x")` where Textual has such a name and the module itself
    doesn't define it."""
    if not any(
        name.split(".")[0] == "textual" for name in module.names.values()
    ) and not module.path.startswith("tui/"):
        return
    own = private_definitions(module.tree)
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and not (
            isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
        ):
            owner = ast.unparse(node.value)
            other_library = module.names.get(owner.partition(".")[0], "textual").partition(".")[
                0
            ] not in (PACKAGE, "textual")
            known = is_private(node.attr) and node.attr not in own and node.attr in textual_names()
            if known and owner != "super()" and not other_library:
                yield node.lineno, f"{ast.unparse(node.value)}.{node.attr}"
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func) in ("getattr", "setattr", "hasattr", "delattr")
            and len(node.args) > 1
        ):
            name = node.args[1].value if isinstance(node.args[1], ast.Constant) else ""
            if (
                isinstance(name, str)
                and is_private(name)
                and name not in own
                and name in textual_names()
            ):
                yield node.lineno, ast.unparse(node)


def is_private(name: str) -> bool:
    """Starts with an underscore and isn't a special method."""
    return name.startswith("_") and not name.startswith("__")


def private_definitions(tree: ast.AST) -> frozenset[str]:
    """Private methods, class variables and attributes of `self` that a source defines."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and isinstance(node.value, ast.Name)
            and node.value.id == "self"
        ):
            names.add(node.attr)
        elif isinstance(node, ast.ClassDef):
            for part in node.body:
                for target in (
                    part.targets
                    if isinstance(part, ast.Assign)
                    else [part.target]
                    if isinstance(part, ast.AnnAssign)
                    else []
                ):
                    names |= {target.id} if isinstance(target, ast.Name) else set()
    return frozenset(name for name in names if is_private(name))


@cache
def textual_names() -> frozenset[str]:
    """Every private name that a class of Textual defines."""
    names: frozenset[str] = frozenset()
    for path in Path(textual.__file__).parent.rglob("*.py"):
        names |= private_definitions(ast.parse(path.read_text(encoding="utf-8")))
    return names


@cache
def textual_class_names(name: str) -> frozenset[str]:
    """The private names of one class of Textual and of its bases in Textual; empty for any other
    class."""
    module_name, _, class_name = name.rpartition(".")
    if module_name.partition(".")[0] != "textual":
        return frozenset()
    found = getattr(importlib.import_module(module_name), class_name, None)
    names: set[str] = set()
    for base in inspect.getmro(found) if inspect.isclass(found) else ():
        if base.__module__.partition(".")[0] == "textual":
            names |= private_definitions(class_source(base)) | {
                one for one in vars(base) if is_private(one)
            }
    return frozenset(names)


def class_source(found: type) -> ast.AST:
    """The source of a class."""
    tree = _module_source(inspect.getsourcefile(found) or "")
    return next(
        (
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef) and node.name == found.__name__
        ),
        ast.Module([], []),
    )


@cache
def _module_source(path: str) -> ast.Module:
    return ast.parse(Path(path).read_text(encoding="utf-8"))
