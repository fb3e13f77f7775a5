"""The house rules: imports go one way, names are public on purpose, the links for the checkers stand."""

import ast
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ORDER = ["slides", "generators", "forensics", "benchmarks", "cli"]


def imported_rooms(module: Path) -> set[str]:
    """The rooms of histoforensics that a module imports by absolute name."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module if node.module != "histoforensics" else f"histoforensics.{node.names[0].name}")
        elif isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
    return {name.split(".")[1] for name in names if name.startswith("histoforensics.")}


@pytest.mark.parametrize("room", ORDER)
def test_imports_go_one_way(room):
    allowed = set(ORDER[: ORDER.index(room)])
    for module in (ROOT / room).glob("*.py"):
        assert imported_rooms(module) <= allowed, f"{room}/{module.name} imports a room above or beside it"


def test_the_import_check_can_fail(tmp_path):
    module = tmp_path / "bad.py"
    module.write_text("def f():\n    from histoforensics.cli import app\n    import histoforensics.benchmarks\n")
    assert imported_rooms(module) == {"cli", "benchmarks"}


@pytest.mark.parametrize("room", ORDER)
def test_all_names_what_the_room_re_exports(room):  # that it is sorted, ruff checks
    package = importlib.import_module(f"histoforensics.{room}")
    tree = ast.parse((ROOT / room / "__init__.py").read_text())
    checkers = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    statements = [*tree.body, *(node for block in checkers for node in block.body)]
    re_exported = {
        alias.asname or alias.name for node in statements if isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names
    }  # fmt: skip
    assert set(package.__all__) == re_exported
    assert len(package.__all__) == len(re_exported)


def test_names_that_a_room_looks_up_late_are_those_that_checkers_see():
    package = importlib.import_module("histoforensics.forensics")
    tree = ast.parse((ROOT / "forensics" / "__init__.py").read_text())
    seen = {
        alias.name: node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names
    }  # fmt: skip
    assert seen == package._HOMES
    assert not {module.stem for module in (ROOT / "forensics").glob("*.py")} & set(package.__all__)
    for name, module in seen.items():
        assert getattr(package, name) is getattr(importlib.import_module(f"histoforensics.forensics.{module}"), name)
    with pytest.raises(AttributeError, match="has no attribute 'magic'"):
        _ = package.magic
    assert set(package.__all__) <= set(dir(package))


@pytest.mark.parametrize("room", ORDER)
def test_the_checkers_link_points_at_the_room(room):
    link = ROOT / ".layout" / "histoforensics" / room
    assert link.is_symlink()
    assert link.resolve() == (ROOT / room).resolve()


def test_no_room_holds_a_pickle_or_an_unsafe_load():
    for room in ORDER:
        for module in (ROOT / room).glob("*.py"):
            for node in ast.walk(ast.parse(module.read_text())):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                    keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
                    assert keywords.get("weights_only") == "True", f"{room}/{module.name}:{node.lineno}"


@pytest.mark.parametrize("folder", [*ORDER, "tests"])
def test_no_module_imports_a_room_by_its_bare_name(folder):
    # From the root of the tree `import forensics` would work, and then fail for every user. Ruff's TID251 cannot say
    # this: it takes `from .console import out` in cli/ for an import of `cli`.
    for module in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            else:
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not {name.split(".")[0] for name in names} & set(ORDER), f"{module.name}:{node.lineno}"
