"""The import rules of the design, kept by reading every import of every module, also those inside functions."""

import ast
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import ROOT

FOLDERS = ("schemas", "pipeline", "trainer", "tests")
FILES = [ROOT / "cli.py", *sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))]
SHIPPED = [path for path in FILES if not path.is_relative_to(ROOT / "tests")]
OURS = {"schemas", "pipeline", "trainer", "cli", "tests"}

# the longest prefix that fits a module decides which of ours it may import
MAY_IMPORT = {
    "schemas": {"schemas"},
    "pipeline.core": {"pipeline.core", "schemas"},
    "pipeline.adapters": {"pipeline.adapters", "schemas"},
    "pipeline.stages": {"pipeline", "schemas"},
    "pipeline": {"schemas"},
    "trainer.core": {"trainer.core", "schemas"},
    "trainer": {"trainer", "schemas"},
    "cli": {"schemas.errors"},
}
NOTHING_ELSE = {"pipeline.core": {"numpy"}, "trainer.core": {"numpy"}}  # beside the standard library
NEVER = {"schemas": {"torch", "transformers"}, "pipeline": {"torch", "transformers"}}  # outside an expert
MAX_FILE_LINES, MAX_FUNCTION_LINES = 300, 60


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    """Full names of all modules that a file may import, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            submodules = (f"{node.module}.{alias.name}" for alias in node.names)
            found = [name for name in submodules if ROOT.joinpath(*name.split(".")).with_suffix(".py").exists()]
            yield from found or [node.module]


def fits(module: str, prefixes: set[str]) -> bool:
    return any(module == prefix or module.startswith(f"{prefix}.") for prefix in prefixes)


def rule_of(module: str, rules: dict[str, set[str]]) -> set[str] | None:
    fitting = [prefix for prefix in rules if fits(module, {prefix})]
    return rules[max(fitting, key=len)] if fitting else None


def wrong_imports(path: Path) -> set[str]:
    module, names = module_of(path), set(imports(path))
    ours = {name for name in names if name.partition(".")[0] in OURS}
    others = {name.partition(".")[0] for name in names - ours} - sys.stdlib_module_names
    wrong = {name for name in ours if not fits(name, rule_of(module, MAY_IMPORT) or set())}
    if (allowed := rule_of(module, NOTHING_ELSE)) is not None:
        wrong |= others - allowed
    if not fits(module, {"pipeline.adapters.experts"}):  # an expert may be a local model
        wrong |= others & (rule_of(module, NEVER) or set())
    return wrong


def test_imports_go_one_way():
    assert {str(path): wrong for path in SHIPPED if (wrong := wrong_imports(path))} == {}


def test_the_rules_are_about_modules_that_there_are():
    modules = {module_of(path) for path in SHIPPED}
    assert all(any(fits(module, {prefix}) for module in modules) for prefix in MAY_IMPORT)
    assert {"schemas.reader", "pipeline.core.grn", "pipeline.stages.gc", "trainer.core.rewards"} <= modules


def test_a_forbidden_import_is_seen_wherever_it_hides(tmp_path: Path):
    hidden = tmp_path / "hidden.py"
    hidden.write_text(
        "def late():\n    if True:\n        from pipeline import stages\n        import trainer.loop as x\n"
    )
    assert set(imports(hidden)) == {"pipeline", "trainer.loop"}
    assert not fits("pipelines.x", {"pipeline"})
    assert rule_of("pipeline.core.grn", MAY_IMPORT) == {"pipeline.core", "schemas"}


def test_the_command_names_every_other_module_only_as_text():
    tree = ast.parse((ROOT / "cli.py").read_text(encoding="utf-8"))
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert len(top) == sum(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.walk(tree))
    assert {name for name in imports(ROOT / "cli.py") if name.partition(".")[0] in OURS} == {"schemas.errors"}


def functions(path: Path) -> dict[str, int]:
    """Lines of each function of a file."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    found = (node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {one.name: (one.end_lineno or 0) - one.lineno + 1 for one in found}


def test_files_are_short_and_so_are_functions():
    lines = {str(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {path: n for path, n in lines.items() if n > MAX_FILE_LINES} == {}
    each = {(str(path), name): n for path in FILES for name, n in functions(path).items()}
    assert {name: n for name, n in each.items() if n > MAX_FUNCTION_LINES} == {}


def test_a_module_says_its_one_idea_and_a_package_exports_nothing():
    for path in SHIPPED:
        if path.name == "__init__.py":
            assert not any(fits(name, {module_of(path)}) for name in imports(path)), path
        else:
            assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


def test_nothing_is_evaluated_or_unpickled():
    for path in SHIPPED:
        assert not {"pickle", "dill", "cloudpickle"} & {name.partition(".")[0] for name in imports(path)}, path
        calls = (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call))
        names = {call.func.id for call in calls if isinstance(call.func, ast.Name)}
        assert not {"eval", "exec", "__import__"} & names, path


@pytest.mark.parametrize("name", ["pipeline", "trainer", "schemas", "cli"])
def test_our_name_is_ours(name: str):
    assert Path(importlib.import_module(name).__file__ or "").is_relative_to(ROOT)
