"""The summary of a cohort: one row a slide, the failures with their cause, and the merging of shards."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from histoforensics.slides import ConfigError, atomic_folder, require, write_atomic
from histoforensics.slides.runcard import public

from .scan_index import INDEX, render_index
from .scanstate import VERDICT, claim, parameters_digest, read_parameters, read_state

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Cohort:
    """What is known of a cohort.

    Attributes:
        parameters: That every slide was scanned with.
        verdicts: One a finished slide, sorted by slide.
        failures: One a slide that has none: slide, cause, kind, message; sorted by slide.
    """

    parameters: Row
    verdicts: tuple[Row, ...]
    failures: tuple[Row, ...]

    @classmethod
    def of(cls, parameters: Row, verdicts: Iterable[Row], failures: Iterable[Row]) -> Cohort:
        """Sorted; a slide that is finished is no failure, whatever another run says."""
        finished = {str(row["slide"]): row for row in verdicts}
        failed = {str(row["slide"]): row for row in failures if row["slide"] not in finished}
        return cls(parameters, *(tuple(rows[slide] for slide in sorted(rows)) for rows in (finished, failed)))

    def to_json(self) -> dict[str, Any]:
        """The whole cohort, without what stands in each slide's own folder alone."""
        calls = [str(row["call"]) for row in self.verdicts]
        return {
            "parameters": dict(self.parameters),
            "parameters_sha256": parameters_digest(self.parameters),
            "finished": len(self.verdicts),
            "failed": len(self.failures),
            "calls": {call: calls.count(call) for call in sorted(set(calls))},
            "slides": [_summary(row) for row in self.verdicts],
            "failures": [dict(row) for row in self.failures],
        }

    def to_csv(self) -> str:
        """One row a slide, failed ones included."""
        labels = list(self.parameters["detectors"])
        heads = [f"{column} {label}" for label in labels for column in _PER_DETECTOR]
        out = io.StringIO()
        table = csv.writer(out, lineterminator="\n")
        table.writerow(["slide", "status", "call", *_COMMON, *heads, "cause", "message"])
        for row in self.verdicts:
            judged = [row["detectors"][label][column] for label in labels for column in _PER_DETECTOR]
            common = [row["mpp"], *(row["patches"][status] for status in ("ok", "background", "corrupt"))]
            table.writerow([_cell(v) for v in [row["slide"], "finished", row["call"], *common, *judged, "", ""]])
        for row in self.failures:
            blank = [""] * (1 + len(_COMMON) + len(heads))
            table.writerow([_cell(v) for v in [row["slide"], "failed", *blank, row["cause"], row["message"]]])
        return out.getvalue()


_COMMON = ("mpp", "ok", "background", "corrupt")
_PER_DETECTOR = ("call", "patches", "called_fake", "p", "false_alarm_rate", "scope")


def write_cohort(out: Path, cohort: Cohort, shard: tuple[int, int] | None) -> None:
    """Write cohort.json, cohort.csv and index.html, or the first two of a shard: pages are for the whole."""
    data = cohort.to_json() | ({} if shard is None else {"shard": list(shard)})
    write_atomic(out / f"cohort{_ending(shard)}.json", json.dumps(data, indent=2) + "\n")
    write_atomic(out / f"cohort{_ending(shard)}.csv", cohort.to_csv())
    if shard is None:
        write_atomic(out / INDEX, render_index(data))


def write_run(out: Path, card: Mapping[str, Any], shard: tuple[int, int] | None) -> None:
    """Write run.json: all that differs from one run to the next."""
    write_atomic(out / f"run{_ending(shard)}.json", json.dumps(public(card), indent=2) + "\n")


def merge(folders: Sequence[Path | str], out: Path | str) -> Cohort:
    """Bring shards together in ``out``: their slides' folders and one cohort, as one undivided run would give.

    Args:
        folders: Results folders of shards or of whole runs, all with the same parameters.
        out: Where to; may be the one folder into which all shards wrote.

    Raises:
        ConfigError: If a folder is no scan, was made with other parameters, or a shard is missing.
    """
    require(len(folders) > 0, "folders", "at least one", len(folders))
    sources, out = [Path(folder) for folder in folders], Path(out)
    parts = [(source, data) for source in sources for data in _summaries(source)]
    _refuse_missing_shards([tuple(data["shard"]) for _, data in parts if "shard" in data])
    parameters = read_parameters(sources[0])
    for source in sources:
        if read_parameters(source) != parameters:
            raise ConfigError(f"{source.name}: was made with other parameters than {sources[0].name}.")
    claim(out, parameters)
    names = {str(row["slide"]): source for source, data in parts for row in data["slides"]}
    for name, source in names.items():
        _bring(source / name, out / name)
    verdicts = [json.loads((out / name / VERDICT).read_text(encoding="utf-8")) for name in names]
    cohort = Cohort.of(parameters, verdicts, [row for _, data in parts for row in data["failures"]])
    write_cohort(out, cohort, None)
    return cohort


def _summaries(folder: Path) -> list[dict[str, Any]]:
    """The cohort files of a results folder: the shards' where there are some, else the whole one."""
    read_parameters(folder)
    files = sorted(folder.glob("cohort-*-of-*.json")) or sorted(folder.glob("cohort.json"))
    if not files:
        raise ConfigError(f"{folder.name}: its scan has not ended yet, there is no cohort.json.")
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def _refuse_missing_shards(shards: Sequence[tuple[int, ...]]) -> None:
    counts = {count for _, count in shards}
    if len(counts) > 1:
        raise ConfigError(f"the shards are of different divisions: {', '.join(f'1/{n}' for n in sorted(counts))}.")
    for count in counts:
        missing = sorted(set(range(count)) - {index for index, _ in shards})
        if missing:
            told = ", ".join(f"{index}/{count}" for index in missing)
            raise ConfigError(f"shard {told} is missing; run it, or add its folder.")


def _bring(source: Path, target: Path) -> None:
    """Copy a slide's folder unless it is there; the same slide with other results is refused."""
    if source.resolve() == target.resolve():
        return
    there = read_state(target)
    if there is None:
        with atomic_folder(target, overwrite=True) as work:
            shutil.copytree(source, work, dirs_exist_ok=True)
    elif there != read_state(source):
        raise ConfigError(f"{target.name}: two of the folders have different results for this slide.")


def _summary(row: Row) -> dict[str, Any]:
    """A slide's verdict without what is long or the same for all."""
    return {key: value for key, value in row.items() if key not in ("does_not_show", "unreadable", "properties")}


def _ending(shard: tuple[int, int] | None) -> str:
    return "" if shard is None else f"-{shard[0]}-of-{shard[1]}"


def _cell(value: Any) -> Any:
    """A cell that spreadsheets do not take for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
