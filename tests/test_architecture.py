"""Who may import whom, where third-party libraries live, and the house rules that a machine can check."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PACKAGES = ("foundation", "search_spaces", "evaluators", "hw_profiles", "nas", "dashboards")
BELOW = {
    "foundation": set(),
    "search_spaces": {"foundation"},
    "evaluators": {"foundation", "search_spaces"},
    "hw_profiles": {"foundation", "search_spaces"},
    "nas": {"foundation", "search_spaces", "evaluators", "hw_profiles"},
    "dashboards": {"foundation", "search_spaces", "evaluators", "hw_profiles", "nas"},
}
HOMES = {
    "optuna": ("nas/strategies/",),
    "ray": ("nas/executors/", "nas/interop/tune.py"),
    "nni": ("nas/strategies/nni.py",),
    "sqlalchemy": ("nas/store/",),
    "alembic": ("nas/store/",),
    "dash": ("dashboards/",),
    "plotly": ("dashboards/",),
    "fvcore": ("hw_profiles/flops.py",),
    "moocore": ("nas/pareto.py",),
    "transformers": (
        "search_spaces/references/",
        "search_spaces/checkpoints/against_transformers.py",
        "search_spaces/checkpoints/modeling_nas.py",
        "nas/modifier_checks/",
    ),
    "peft": ("nas/modifier_checks/",),
    "galore_torch": ("nas/modifier_checks/",),
    "torchao": ("nas/modifier_checks/", "hw_profiles/conversions/executorch_few_bits.py"),
    "gguf": ("search_spaces/checkpoints/gguf.py", "search_spaces/checkpoints/gguf_writing.py"),
    "tokenizers": ("evaluators/tokens/tokenizer.py",),
    "pyarrow": ("evaluators/tokens/sources/parquet.py",),
    "datasets": ("evaluators/tokens/sources/hub.py",),
    "onnx": ("hw_profiles/conversions/onnx",),
    "executorch": ("hw_profiles/conversions/executorch.py",),
    "starlette": ("nas/serving/",),
    "uvicorn": ("nas/serving/",),
    "prometheus_client": ("nas/serving/",),
    "onnxruntime": ("hw_profiles/conversions/onnx", "hw_profiles/bundles/onnxruntime.py"),
}
OPERATORS = (
    "search_spaces/ops/kernels/",
    "search_spaces/ops/slstm.py",
    "search_spaces/ops/gated_attention.py",
)
"""Kernels and custom operators take tensors and sizes one by one: Triton and PyTorch want it so."""

UNSAFE = ("pickle", "marshal", "shelve", "dill", "cloudpickle")
BROAD = {
    "nas/executors/base.py",
    "evaluators/tokens/sources/hub.py",
    "evaluators/tokens/tokenizer.py",
    "foundation/error_text.py",
    "nas/study/own_code.py",
    "nas/study/user_files.py",
    "search_spaces/block_contract/check.py",
    "search_spaces/language/objections.py",
}
"""Files that may catch `Exception`: what a candidate, a user's file, or a library without errors of its own
raises becomes a record or a line."""

FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield str(node.module), node.lineno


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_point_down_and_libraries_stay_at_home(path: Path) -> None:
    package = name_of(path).split("/")[0]
    for module, line in imports(parsed(path)):
        top = module.split(".")[0]
        where = f"{name_of(path)}:{line} imports {module}"
        assert top not in PACKAGES or top == package or top in BELOW[package], f"{where}: that points up"
        assert top not in UNSAFE, f"{where}: nothing is unpickled here"
        homes = HOMES.get(top, (name_of(path),))
        assert name_of(path).startswith(tuple(homes)), f"{where}: its home is {', '.join(homes)}"


def test_checks_of_types_need_no_more_than_dev() -> None:
    """A library that only another extra installs is found on its author's machine, and not by CI's mypy."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    there = closure(
        [*project["project"]["dependencies"], *project["project"]["optional-dependencies"]["dev"]]
    )
    may_miss = {
        name.split(".")[0] for rule in project["tool"]["mypy"]["overrides"] for name in rule["module"]
    }
    ours = {*PACKAGES, "benchmarks", "examples", "docs", "tests"}
    found = {
        top
        for top, dists in packages_distributions().items()
        if there & {canonicalize_name(d) for d in dists}
    }
    checked = [
        *FILES,
        *(path for folder in ("benchmarks", "examples") for path in (ROOT / folder).rglob("*.py")),
    ]
    for path in checked:
        for module, line in imports(parsed(path)):
            known = module.split(".")[0] in ours | may_miss | found | sys.stdlib_module_names
            assert known, f"{name_of(path)}:{line} imports {module}: neither in dev nor in mypy's overrides"


def closure(lines: list[str]) -> set[str]:
    """The distributions that these requirements bring, with their own requirements."""
    names: set[str] = set()
    waiting = [Requirement(line) for line in lines]
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        if name in names or (wanted.marker and not wanted.marker.evaluate({"extra": ""})):
            continue
        names.add(name)
        waiting += [Requirement(line) for line in requires(name) or ()]
    return names


def test_there_are_no_import_cycles() -> None:
    """Imports inside functions count, too."""
    graph = {module_of(path): imported_modules(path) for path in FILES}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join([*trail[trail.index(module) :], module])
        if module in done:
            return
        for imported in graph.get(module, ()):
            visit(imported, (*trail, module))
        done.add(module)

    for module in graph:
        visit(module, ())


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported_modules(path: Path) -> set[str]:
    ours = {module_of(other) for other in FILES}
    names: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            submodules = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= submodules & ours or {node.module}
    return (names & ours) - {module_of(path)}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_house_rules(path: Path) -> None:
    text, tree = path.read_text(), parsed(path)
    assert text.count("\n") <= 500, "a file has at most 500 lines"
    assert ast.get_docstring(tree), "every module says what it is"
    for node in functions(tree):
        assert (node.end_lineno or 0) - node.lineno <= 60, f"{node.name} is over 60 lines"
        free = name_of(path).startswith(OPERATORS)
        assert free or positional(node) <= 5, f"{node.name} has over 5 positional parameters"
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and name_of(path) not in BROAD:
            caught = getattr(node.type, "id", None)
            assert node.type is not None, f"line {node.lineno}: a bare except"
            assert caught not in ("Exception", "BaseException"), f"line {node.lineno}: a broad except"


BENCHMARKS = sorted((ROOT / "benchmarks").rglob("*.py"))


@pytest.mark.parametrize("path", [*FILES, *BENCHMARKS], ids=name_of)
def test_nobody_borrows_a_private_name(path: Path) -> None:
    own = {path.parts[len(ROOT.parts)], "benchmarks"}
    borrowed = [
        f"{node.module}.{alias.name}"
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in {*PACKAGES, *own}
        for alias in node.names
        if alias.name.startswith("_")
    ]
    assert not borrowed, "what two modules need has a public name"


def test_files_and_functions_are_short() -> None:
    lines = [path.read_text().count("\n") for path in FILES]
    lengths = [(f.end_lineno or 0) - f.lineno + 1 for path in FILES for f in functions(parsed(path))]
    assert np.percentile(lines, 90) <= 250
    assert np.percentile(lengths, 90) <= 25
    assert np.median(lengths) <= 8


def functions(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]


def positional(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    names = [argument.arg for argument in (*function.args.posonlyargs, *function.args.args)]
    return len(names) - (names[:1] in (["self"], ["cls"]))
