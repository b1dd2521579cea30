"""Options as the source of a class or of a function has them: read with ``ast``, because importing takes seconds."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[2]
_EMPTY = ("None", "", "[]", "()", "{}", "list()", "dict()")  # defaults that say nothing


@dataclass(frozen=True)
class Option:
    """An option as ``--help`` shows it.

    Attributes:
        kind: its type; empty for what has no value.
        default: as text, or None.
        text: what it does.
        several: whether an argument without a name takes several values.
    """

    name: str
    kind: str
    default: str | None
    required: bool
    text: str
    several: bool = False


def read_options(source: str, prefix: str, positional: Sequence[str] = ()) -> list[Option]:
    """The options of ``module:Class`` (fields, or parameters of its constructor) or ``module:function`` (``add_argument``).

    Args:
        prefix: of their names, as ``--data.``.
        positional: names without the prefix.
    """
    module, node = _find(source)
    calls = [_added(module, call) for call in _calls(node)]
    if calls or not isinstance(node, ast.ClassDef):
        return calls
    texts = _described(node)
    fields = list(_parameters(node)) or list(_fields(node))
    return [
        Option(
            name if name in positional else prefix + name,
            _kind(annotation),
            None if default is None else _default(module, default),
            default is None,
            texts.get(name, ""),
            name in positional,
        )
        for name, annotation, default in fields
    ]


def find_decoders() -> dict[str, str]:
    """Every decoder's name, with ``module:Class``, in the order of ``parlab/decode/__init__.py``."""
    found = {}
    for path in sorted((_ROOT / "parlab" / "decode" / "strategies").glob("*.py")):
        module = f"parlab.decode.strategies.{path.stem}"
        for node in _tree(module).body:
            if not isinstance(node, ast.ClassDef):
                continue
            for entry in node.body:
                if isinstance(entry, ast.AnnAssign) and ast.unparse(entry.target) == "name" and entry.value is not None:
                    found[node.name] = (str(ast.literal_eval(entry.value)), f"{module}:{node.name}")
    listed = ast.unparse(next(n for n in _tree("parlab.decode").body if "DECODERS:" in ast.unparse(n)))
    order = [name for name in re.findall(r"\w+", listed) if name in found]
    return dict(found[name] for name in dict.fromkeys(order))


def summary(source: str) -> str:
    """The first sentence of a docstring."""
    doc = ast.get_docstring(_find(source)[1]) or ""  # type: ignore[arg-type]
    return _plain(doc.split("\n\n")[0])


# ---- source to nodes ------------------------------------------------------------------------------


@cache
def _tree(module: str) -> ast.Module:
    path = _ROOT.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8"))


def _find(source: str) -> tuple[str, ast.ClassDef | ast.FunctionDef]:
    module, name = source.split(":")
    for node in _tree(module).body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == name:
            return module, node
    raise LookupError(source)


def _calls(node: ast.AST) -> Iterator[ast.Call]:
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "add_argument":
            yield call


def _parameters(node: ast.ClassDef) -> Iterator[tuple[str, ast.expr | None, ast.expr | None]]:
    for entry in node.body:
        if isinstance(entry, ast.FunctionDef) and entry.name == "__init__":
            arguments, defaults = entry.args.args[1:], entry.args.defaults
            padded = [None] * (len(arguments) - len(defaults)) + list(defaults)
            for argument, default in zip(arguments, padded, strict=True):
                yield argument.arg, argument.annotation, default


def _fields(node: ast.ClassDef) -> Iterator[tuple[str, ast.expr | None, ast.expr | None]]:
    for entry in node.body:
        if isinstance(entry, ast.AnnAssign) and not ast.unparse(entry.annotation).startswith("ClassVar"):
            yield ast.unparse(entry.target), entry.annotation, entry.value


# ---- nodes to text --------------------------------------------------------------------------------


def _added(module: str, call: ast.Call) -> Option:
    """The option of a call of ``add_argument``."""
    given = {keyword.arg: keyword.value for keyword in call.keywords}
    name = str(ast.literal_eval(call.args[0]))
    default = _default(module, given["default"]) if "default" in given else None
    text = str(_value(module, given["help"]))
    return Option(name, _kind(given.get("type")), default, False, text, "nargs" in given)


def _described(node: ast.ClassDef) -> dict[str, str]:
    """The texts of a docstring's ``Args`` or ``Attributes``, by name."""
    doc = inspect.cleandoc(ast.get_docstring(node) or "")
    section = re.search(r"^(?:Args|Attributes):\n((?: .*\n?|\n)*)", doc, re.MULTILINE)
    found: dict[str, str] = {}
    for entry in re.split(r"^    (?=\S)", section.group(1) if section else "", flags=re.MULTILINE)[1:]:
        names, _, text = entry.partition(":")
        found |= dict.fromkeys((name.strip() for name in names.split(",")), _plain(text))
    return found


def _plain(text: str) -> str:
    """Text without the marks of code and the last full stop."""
    return " ".join(text.replace("``", "").split()).removesuffix(".")


def _kind(annotation: ast.expr | None) -> str:
    """A short word for a type."""
    names = [] if annotation is None else [part for part in ast.unparse(annotation).split(" | ") if part != "None"]
    short = [re.sub(r"\[.*", "", name).lower() for name in names]
    words = {"str": "text", "bool": "true|false", "sequence": "list", "mapping": "dict", "path": "folder"}
    return "|".join(dict.fromkeys(words.get(name, name) for name in short))


def _default(module: str, node: ast.expr) -> str | None:
    """A default as text; None where it says nothing."""
    if isinstance(node, ast.Call) and node.keywords and node.keywords[0].arg == "default_factory":
        factory = node.keywords[0].value
        node = factory.body if isinstance(factory, ast.Lambda) else ast.Call(factory, [], [])
    value = _value(module, node)
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return None if text in _EMPTY or isinstance(node, ast.Call) else text


def _value(module: str, node: ast.expr) -> Any:
    """The value of an expression of constants; its source where there is more in it."""
    names = {n.id: _constant(module, n.id) for n in ast.walk(node) if isinstance(n, ast.Name)}
    try:
        code = compile(ast.fix_missing_locations(ast.Expression(node)), module, "eval")
        return eval(code, {}, names)  # the package's own source
    except Exception:
        return ast.unparse(node)


def _constant(module: str, name: str) -> Any:
    """The constant that a module assigns, or imports from another module of the package."""
    for node in _tree(module).body:
        if isinstance(node, ast.ImportFrom) and any(alias.name == name for alias in node.names):
            return _constant(str(node.module), name) if str(node.module).startswith("parlab") else None
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(ast.unparse(target) == name for target in targets):
                return _value(module, node.value)
    return None
