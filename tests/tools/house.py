"""Measure the code's structure: `python -m tests.tools.house [--list] [PATH ...]`.

Each PATH is a checkout; two of them are printed side by side, such as before and after a change.
`--list` names every place.
Everything is read from the source with `ast`; only Textual itself is imported, to know its private
names.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import inspect
import re
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import textual

PACKAGE = "rnnlm_tui"
TEXTUAL_MODULE = "tui/_textual.py"
"""The one file that may use Textual's private names."""
SHORT_FILE = 60
LINE_LENGTH = 100
PRAGMA = re.compile(r"\s+# (noqa|type: ignore|fmt:|pragma:).*$")
PARAMETERS = 8


@dataclass(frozen=True, slots=True)
class Import:
    """One imported module, or one name of it."""

    target: str
    """The project's module."""
    line: int
    local: bool
    typing_only: bool


@dataclass(frozen=True, slots=True)
class Module:
    """A source file of the package."""

    name: str
    path: str
    text: str
    tree: ast.Module
    names: dict[str, str]
    """Local name → the dotted name that it was imported as."""
    imports: tuple[Import, ...]

    @property
    def lines(self) -> int:
        return len(self.text.splitlines())


@dataclass(frozen=True, slots=True)
class House:
    """The figures of one checkout: what was measured → every place, in words."""

    modules: int
    median: float
    largest: tuple[int, str]
    found: dict[str, list[str]] = field(default_factory=dict)


def measure(root: Path) -> House:
    """Measure the checkout at `root`."""
    modules = read_modules(root)
    sizes = sorted((module.lines, module.path) for module in modules.values())
    cycles = import_cycles(modules, typing=False)
    every_cycle = import_cycles(modules, typing=True)
    return House(
        len(modules),
        statistics.median(size for size, _ in sizes),
        sizes[-1],
        {
            f"files under {SHORT_FILE} lines with one importer": list(single_importers(modules)),
            "bases with one subclass": list(lonely_bases(modules)),
            "import cycles": cycles,
            "import cycles through TYPE_CHECKING": [
                cycle for cycle in every_cycle if cycle not in cycles
            ],
            f"uses of Textual's private names outside {TEXTUAL_MODULE}": list(
                private_uses(modules)
            ),
            f"lines over {LINE_LENGTH} columns in {PACKAGE}": list(long_lines(root, PACKAGE)),
            f"lines over {LINE_LENGTH} columns in tests": list(long_lines(root, "tests")),
            "class names used more than once": list(repeated_classes(modules)),
            f"constructors with more than {PARAMETERS} parameters": list(
                wide_functions(modules, constructors=True)
            ),
            f"functions with more than {PARAMETERS} parameters": list(
                wide_functions(modules, constructors=False)
            ),
        },
    )


# ---------------------------------------------------------------- reading


def read_modules(root: Path) -> dict[str, Module]:
    """Every module of the package by its dotted name."""
    found: dict[str, tuple[str, str, ast.Module]] = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        text = path.read_text(encoding="utf-8")
        found[name] = path.relative_to(root / PACKAGE).as_posix(), text, ast.parse(text)
    known = frozenset(found)
    return {
        name: Module(
            name, path, text, tree, imported_names(tree), tuple(project_imports(tree, known))
        )
        for name, (path, text, tree) in found.items()
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

    def visit(body: Iterable[ast.AST], local: bool, typing_only: bool) -> Iterator[Import]:
        for node in body:
            if isinstance(node, ast.Import):
                targets = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                whole = [f"{node.module}.{alias.name}" for alias in node.names]
                targets = [name if name in known else node.module for name in whole]
            else:
                inside = local or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
                if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
                    yield from visit(node.body, inside, True)
                    yield from visit(node.orelse, inside, typing_only)
                else:
                    yield from visit(ast.iter_child_nodes(node), inside, typing_only)
                continue
            for target in dict.fromkeys(targets):
                if target in known:
                    yield Import(target, node.lineno, local, typing_only)

    yield from visit(tree.body, False, False)


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


def single_importers(modules: dict[str, Module]) -> Iterator[str]:
    """Short files that one other file imports."""
    importers: dict[str, set[str]] = defaultdict(set)
    for module in modules.values():
        for imported in module.imports:
            importers[imported.target].add(module.name)
    for name, module in modules.items():
        if (
            module.lines < SHORT_FILE
            and not module.path.endswith("__init__.py")
            and len(importers[name] - {name}) == 1
        ):
            (importer,) = importers[name] - {name}
            yield f"{module.path}: {module.lines} lines, imported by {importer}"


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
            if (typing or not imported.typing_only) and imported.target != name
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


def repeated_classes(modules: dict[str, Module]) -> Iterator[str]:
    """Names that more than one class has; not those inside a class, such as a widget's message
    `Changed`."""
    places: dict[str, list[str]] = defaultdict(list)
    for module in modules.values():
        for node in module.tree.body:
            if isinstance(node, ast.ClassDef):
                places[node.name].append(module.path)
    yield from (
        f"{name}: {', '.join(paths)}" for name, paths in sorted(places.items()) if len(paths) > 1
    )


def wide_functions(modules: dict[str, Module], *, constructors: bool) -> Iterator[str]:
    """Constructors, or other functions, with many parameters; a verb's options are its parameters
    and don't count."""
    for module in modules.values():
        for node in ast.walk(module.tree):
            if (
                not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
                or (node.name == "__init__") != constructors
            ):
                continue
            given = node.args
            count = len(
                [
                    one
                    for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)
                    if one.arg not in ("self", "cls")
                ]
            )
            is_verb = module.path.startswith("cli/") and "typer." in ast.unparse(given)
            if count > PARAMETERS and not is_verb:
                yield f"{module.path}:{node.lineno}: {node.name}, {count}"


def long_lines(root: Path, folder: str) -> Iterator[str]:
    """Lines over LINE_LENGTH, as ruff counts them: tool comments and long words are allowed."""
    for path in sorted((root / folder).rglob("*.py")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            plain = PRAGMA.sub("", line)
            if len(plain) > LINE_LENGTH and len(plain.lstrip("# ").split()) > 1:
                yield f"{path.relative_to(root)}:{number}: {len(line)} columns"


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


# ---------------------------------------------------------------- report


def table(houses: dict[str, House], *, listed: bool) -> str:
    """The figures, a column per checkout; with `listed` every place of the last one."""
    rows = [
        ("", *houses),
        ("modules", *(f"{house.modules:,}" for house in houses.values())),
        ("median lines", *(f"{house.median:g}" for house in houses.values())),
        ("largest file", *(f"{house.largest[0]} {house.largest[1]}" for house in houses.values())),
    ]
    last = list(houses.values())[-1]
    rows += [
        (name, *(f"{len(house.found[name]):,}" for house in houses.values())) for name in last.found
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    if listed:
        for name, places in last.found.items():
            if places:
                lines += ["", f"{name}:", *(f"  {place}" for place in places)]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.tools.house", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument(
        "paths",
        nargs="*",
        type=Path,
        default=[Path()],
        metavar="PATH",
        help="a checkout (default: this folder)",
    )
    parser.add_argument("--list", action="store_true", help="name every place in the last checkout")
    given = parser.parse_args(arguments)
    for path in given.paths:
        if not (path / PACKAGE).is_dir():
            parser.error(f"{path}: no folder {PACKAGE}")
    print(table({str(path.resolve()): measure(path) for path in given.paths}, listed=given.list))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
