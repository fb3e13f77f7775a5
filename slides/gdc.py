"""Slides of the NCI Genomic Data Commons: found by a query or named by a manifest, each pinned by UUID, md5 and size.

Diagnostic slides (fixed in formalin, "DX" in TCGA's names) and tissue slides (frozen, "TS", "MS" or "BS") look and are
compressed differently, so one download holds one kind.

References: GDC API user's guide, search and retrieval; TCGA barcode, portion "slide".
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .download import RemoteFile
from .errors import ConfigError, DownloadError, require
from .web import Web

Kind = Literal["diagnostic", "tissue", "unknown"]

STRATEGIES: dict[Kind, str] = {"diagnostic": "Diagnostic Slide", "tissue": "Tissue Slide"}
PAGE = 200  # hits asked for at once

_FIELDS = "file_id,file_name,md5sum,file_size,experimental_strategy"
_COLUMNS = ("id", "filename", "md5", "size", "state")  # those of the portal's manifest, which gdc-client reads too
_PROJECT = re.compile(r"[A-Z0-9]+(-[A-Z0-9_]+)+")
_BARCODE_SLIDE = re.compile(r"^TCGA-\w{2}-\w{4}-\w{3}-\w{2}-(DX|TS|MS|BS)\w*", re.IGNORECASE)


@dataclass(frozen=True)
class GdcSlide:
    """One slide: the file as it is fetched, and how its tissue was prepared."""

    file: RemoteFile
    kind: Kind

    @classmethod
    def of(cls, uuid: str, name: str, md5: str, size: object, strategy: str | None = None) -> GdcSlide:
        """Checked, with the kind from the strategy or, where that is not told, from a TCGA name.

        Raises:
            DownloadError: If a value is hostile or broken, or name and strategy contradict each other.
        """
        by_name, stated = kind_of_name(name), _kind_of_strategy(strategy)
        if "unknown" not in (by_name, stated) and by_name != stated:
            raise DownloadError(f"{name!r}: is a {by_name} slide by its name, but a {stated} slide by its record.")
        file = RemoteFile.checked(uuid, name, md5, size, f"data/{uuid}")
        if not file.name.lower().endswith(".svs"):
            raise DownloadError(f"{file.name}: not a slide, GDC keeps them as .svs; leave it out of the manifest.")
        return cls(file, by_name if stated == "unknown" else stated)


def kind_of_name(name: str) -> Kind:
    """The kind that a TCGA slide's name tells.

    >>> kind_of_name("TCGA-A6-2672-01Z-00-DX1.5F9B.svs"), kind_of_name("TCGA-A6-2672-01A-01-BS1.0A.svs")
    ('diagnostic', 'tissue')
    """
    match = _BARCODE_SLIDE.match(name)
    if match is None:
        return "unknown"
    return "diagnostic" if match[1].upper() == "DX" else "tissue"


def query_filter(project: str, kind: Kind) -> dict[str, Any]:
    """GDC's filter for the open-access slides of a project and kind."""
    wanted = {
        "cases.project.project_id": project,
        "data_type": "Slide Image",
        "data_format": "SVS",
        "experimental_strategy": STRATEGIES[kind],
        "access": "open",
    }
    parts = [{"op": "in", "content": {"field": field, "value": [value]}} for field, value in wanted.items()]
    return {"op": "and", "content": parts}


def find_slides(web: Web, project: str, kind: Kind, count: int) -> list[GdcSlide]:
    """The first ``count`` slides of a project in the order of their UUIDs, which is random with regard to the tissue.

    Raises:
        ConfigError: If a setting is out of range, or there are fewer slides.
        DownloadError: If the server cannot be reached, or its answer is not what was asked for.
    """
    require(_PROJECT.fullmatch(project) is not None, "project", "a GDC project such as TCGA-COAD", project)
    require(kind in STRATEGIES, "kind", "diagnostic or tissue", kind)
    require(count >= 1, "count", "at least 1", count)
    found: dict[str, GdcSlide] = {}
    question = {"filters": query_filter(project, kind), "fields": _FIELDS, "format": "JSON", "sort": "file_id:asc"}
    seen = 0
    while len(found) < count:
        hits, total = _page(web.ask("files", question | {"from": seen, "size": min(PAGE, count - len(found))}))
        for hit in hits:
            slide = _slide_of(hit)
            if slide.kind != kind:
                raise DownloadError(f"{slide.file.name}: a {slide.kind} slide came where {kind} slides were asked for.")
            found[slide.file.uuid] = slide
        seen += len(hits)
        if not hits or seen >= total:
            break
    if len(found) < count:
        raise ConfigError(f"count must be at most {len(found)}, the {kind} slides of {project}, got {count}.")
    return list(found.values())[:count]


def data_release(web: Web) -> str:
    """The name of GDC's current data release, for the record."""
    answer = web.ask("status", None)
    return str(answer.get("data_release", "unknown")) if isinstance(answer, Mapping) else "unknown"


def read_gdc_manifest(path: Path | str) -> list[GdcSlide]:
    """The slides of a manifest: one that the portal gave, or one that :func:`gdc_manifest` wrote.

    Raises:
        DownloadError: If it cannot be read, lacks a column, or a row is hostile, broken or there twice.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as err:
        raise DownloadError(f"{path.name}: the manifest cannot be read ({err.__class__.__name__}).") from err
    rows = csv.DictReader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE)
    missing = [column for column in _COLUMNS[:4] if column not in (rows.fieldnames or ())]
    if missing:
        raise DownloadError(f"{path.name}: not a GDC manifest, it lacks the column {', '.join(missing)}.")
    slides: dict[str, GdcSlide] = {}
    for number, row in enumerate(rows, start=2):
        try:
            uuid, name, md5, size = (row[column] or "" for column in _COLUMNS[:4])
            slide = GdcSlide.of(uuid, name, md5, size, row.get("strategy"))
        except DownloadError as err:
            raise DownloadError(f"{path.name}, line {number}: {err}") from err
        if slide.file.uuid in slides:
            raise DownloadError(f"{path.name}, line {number}: {slide.file.uuid} is there twice.")
        slides[slide.file.uuid] = slide
    if not slides:
        raise DownloadError(f"{path.name}: the manifest names no file.")
    return list(slides.values())


def gdc_manifest(slides: Iterable[GdcSlide]) -> str:
    """A manifest as text: the portal's columns and, as a sixth, the strategy that tells the kind."""
    lines = ["\t".join((*_COLUMNS, "strategy"))]
    for slide in slides:
        file = slide.file
        strategy = STRATEGIES.get(slide.kind, "")
        lines.append("\t".join((file.uuid, file.name, file.md5, str(file.size), "released", strategy)))
    return "\n".join(lines) + "\n"


def of_one_kind(slides: Sequence[GdcSlide], kind: Kind | None) -> list[GdcSlide]:
    """The slides of ``kind``, or all if they are of one kind.

    Raises:
        ConfigError: If they are of several kinds and none is chosen, or none is of the chosen kind.
    """
    counts = Counter(slide.kind for slide in slides)
    told = ", ".join(f"{counts[name]} {name}" for name in sorted(counts))
    if kind is None:
        if len(counts) > 1:
            raise ConfigError(f"the slides are of several kinds ({told}); choose one with --kind.")
        return list(slides)
    require(kind in STRATEGIES, "kind", "diagnostic or tissue", kind)
    chosen = [slide for slide in slides if slide.kind == kind]
    if not chosen:
        raise ConfigError(f"none of the slides is known as a {kind} slide ({told}).")
    return chosen


def _kind_of_strategy(strategy: str | None) -> Kind:
    return next((kind for kind, name in STRATEGIES.items() if name == strategy), "unknown")


def _page(answer: Any) -> tuple[list[Mapping[str, Any]], int]:
    try:
        hits, total = answer["data"]["hits"], int(answer["data"]["pagination"]["total"])
    except (KeyError, TypeError, ValueError) as err:
        raise DownloadError("GDC's answer has not the form of a file search; is the endpoint right?") from err
    if not isinstance(hits, list) or not all(isinstance(hit, Mapping) for hit in hits):
        raise DownloadError("GDC's answer has not the form of a file search; is the endpoint right?")
    return hits, total


def _slide_of(hit: Mapping[str, Any]) -> GdcSlide:
    uuid, name, md5 = (str(hit.get(field, "")) for field in ("file_id", "file_name", "md5sum"))
    return GdcSlide.of(uuid, name, md5, hit.get("file_size"), hit.get("experimental_strategy"))
