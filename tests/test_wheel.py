"""The wheel holds every file of the five rooms, and nothing else."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ["slides", "generators", "forensics", "benchmarks", "cli"]


def shipped_files(root: Path) -> set[str]:
    """What each room holds, as the wheel should name it."""
    return {
        f"histoforensics/{path.relative_to(root)}"
        for room in ROOMS
        for path in (root / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_the_wheel_of_a_copied_tree_holds_what_the_rooms_hold(tmp_path):
    # Built from a copy: built in place, a stale build/lib would hide what is missing.
    tree = tmp_path / "tree"
    keep = {*ROOMS, "pyproject.toml", "README.md", "LICENSE"}
    shutil.copytree(
        ROOT, tree, ignore=lambda folder, names: set(names) - keep if Path(folder) == ROOT else {"__pycache__"}
    )
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path / "dist", tree],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == shipped_files(tree)
    assert "histoforensics/forensics/py.typed" in names
