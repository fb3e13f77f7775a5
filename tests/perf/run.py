"""`make perf`: every measurement of this folder, one line each, and results/perf.json.

One thread, so that a ratio is of work and not of cores. A name on the command line runs that measurement alone.
"""

from __future__ import annotations

import os

os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # before numpy and torch

import importlib.util
import json
import platform
import sys
from dataclasses import asdict
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE.parents[1] / "results" / "perf.json"


def main() -> None:
    sys.path.insert(0, str(HERE))
    wanted = sys.argv[1:]
    rows = []
    print(f"{platform.machine()}, Python {platform.python_version()}, one thread, CPU time")
    for path in sorted(HERE.glob("perf_*.py")):
        if wanted and path.stem.removeprefix("perf_") not in wanted:
            continue
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module  # where dataclasses look their module up
        spec.loader.exec_module(module)
        for ratio in module.measurements():
            print(ratio, flush=True)
            rows.append(asdict(ratio) | {"times": ratio.times, "suite": path.stem})
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
