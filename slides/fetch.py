"""A download of slides from start to end: which ones, pinned in a manifest, what fits, what came and what did not."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .atomic import write_atomic
from .download import Fetched, fetch_all
from .errors import ConfigError, require
from .gdc import GdcSlide, Kind, data_release, find_slides, gdc_manifest, of_one_kind, read_gdc_manifest
from .progress import Progress
from .runcard import public, run_card
from .web import Web

PIN, RECORD = "manifest.tsv", "fetch.json"


@dataclass(frozen=True)
class Choice:
    """Slides of one kind, and how many of another kind were left out of a manifest."""

    slides: tuple[GdcSlide, ...]
    left_out: int = 0

    @property
    def size(self) -> int:
        """Bytes of all."""
        return sum(slide.file.size for slide in self.slides)


def choose_slides(
    web: Web,
    *,
    project: str | None = None,
    count: int = 3,
    manifest: Path | str | None = None,
    kind: Kind | None = None,
) -> Choice:
    """The slides of a manifest, or the first ``count`` of a project: diagnostic ones where ``kind`` is not given.

    Raises:
        ConfigError: If not exactly one of project and manifest is given, or kinds would be mixed.
        DownloadError: If the server or the manifest does not tell.
    """
    if (project is None) == (manifest is None):
        raise ConfigError("slides come from a --project or from a --manifest: give one of the two.")
    if manifest is not None:
        listed = read_gdc_manifest(manifest)
        chosen = of_one_kind(listed, kind)
        return Choice(tuple(chosen), len(listed) - len(chosen))
    return Choice(tuple(find_slides(web, str(project), kind or "diagnostic", count)))


def fetch_slides(
    web: Web, choice: Choice, out: Path | str, *, parallel: int = 4, progress: Progress | None = None
) -> list[Fetched]:
    """Fetch the chosen slides to ``out/<uuid>/<name>``, with the manifest that pins them and a record of the run.

    Raises:
        ConfigError: If ``out`` pins slides that are not chosen now, or the disk is too small.
    """
    require(len(choice.slides) > 0, "slides", "at least one", len(choice.slides))
    started, out = time.time(), Path(out)
    _refuse_other_pin(out, choice.slides)
    files = [slide.file for slide in choice.slides]
    release = data_release(web)
    pin = write_atomic(out / PIN, gdc_manifest(choice.slides))
    fetched = fetch_all(web, files, out, parallel=parallel, progress=progress)
    failures = [{"id": one.file.uuid, "message": one.error} for one in fetched if one.error is not None]
    card = run_card({"server": web.host, "data_release": release}, {PIN: pin}, started=started)
    write_atomic(out / RECORD, json.dumps(public(card | {"failures": failures}), indent=2) + "\n")
    return fetched


def _refuse_other_pin(out: Path, slides: Sequence[GdcSlide]) -> None:
    if not (out / PIN).is_file():
        return
    wanted = {slide.file for slide in slides}
    others = [slide.file.name for slide in read_gdc_manifest(out / PIN) if slide.file not in wanted]
    if others:
        raise ConfigError(
            f"{out.name}: its {PIN} pins {len(others)} slides that are not chosen now, {others[0]} among them; fetch "
            f"these with --manifest {PIN}, or choose another --out."
        )
