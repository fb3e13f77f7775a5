"""Building a study: the exam, then its repeats, practice items, texts and paper form, in one folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from histoforensics.slides import ExamError, PatchSet, atomic_folder, require

from .blinding import check_plain, file_controls, pixel_controls
from .draw import draw
from .exam import ITEMS, Exam
from .examiner import build_exam, encode_item, write_items
from .paper import write_paper_form
from .study import CONSENT, PRACTICE, PRACTICE_KEY, REASONS, STUDY, Study, StudySettings, read_consent, read_reasons

Preset = Literal["study", "paper"]
HALF_REAL = "Half of the patches are real, half are fake."
PRACTICE_COLUMNS = ("id", "file", "truth", "generator", "source_id")


def build_study(
    real: PatchSet,
    fakes: Mapping[str, PatchSet],
    out: Path | str,
    *,
    n_real: int = 30,
    n_per_generator: int = 10,
    repeats: float = 0.1,
    practice: int = 5,
    preset: Preset = "study",
    title: str = "Real or generated?",
    consent: Path | None = None,
    reasons: Path | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> Study:
    """Freeze an exam and everything that decides how readers meet it.

    Args:
        real: Real patches of the judged size.
        fakes: Candidates by generator, codec-matched, of the same size.
        out: The folder.
        n_real: Real patches.
        n_per_generator: Fakes of each generator.
        repeats: Share of the items that every reader meets twice, in [0, 0.5].
        practice: Items shown first, with feedback and outside the count; none of them is in the exam.
        preset: "paper" is the exam of 2020: readers are told that half are real, nothing is repeated or practised.
        title: Heads the pages.
        consent: Text that readers agree to; default: the one that ships.
        reasons: YAML of the reasons to tick; default: the paper's.
        seed: Of every draw.
        overwrite: Whether a study that stands there may be replaced.

    Raises:
        ExamError: As `build_exam`; or practice items are too few; or the paper's exam is not half real.
        ConfigError: If a number is out of range.
    """
    require(0.0 <= repeats <= 0.5, "repeats", "a share from 0 to 0.5", repeats)
    require(practice >= 0, "practice", "0 or more", practice)
    texts = {CONSENT: consent or _shipped(CONSENT), REASONS: reasons or _shipped(REASONS)}
    read_consent(texts[CONSENT])
    read_reasons(texts[REASONS])
    if preset == "paper" and n_per_generator * len(fakes) != n_real:
        raise ExamError(
            f"Readers of the paper's exam are told that half are real, but {n_real} real and "
            f"{n_per_generator} x {len(fakes)} fake patches were asked for."
        )
    rng = np.random.default_rng([seed, 1])  # not the exam's own stream: its draw is the same with and without practice
    with atomic_folder(out, overwrite=overwrite) as work:
        build_exam(
            real, fakes, work, n_real=n_real, n_per_generator=n_per_generator, seed=seed, allow_overlap=True,
            overwrite=True,
        )  # fmt: skip
        exam = Exam.open(work)
        _write_practice(exam, real, fakes, practice, rng)
        served = [path.read_bytes() for folder in (ITEMS, PRACTICE) for path in sorted((work / folder).iterdir())]
        truth = [_is_fake(exam, path.stem) for path in sorted((work / ITEMS).iterdir())]
        check_plain(served)
        settings = StudySettings(
            title=title,
            preset=preset,
            told=HALF_REAL if preset == "paper" else "",
            mpp=_one_mpp(real),
            repeats=_choose_repeats(exam, repeats, rng),
            seed=seed,
            file_controls=file_controls(served[: len(exam)], truth),
            pixel_controls=pixel_controls(exam.pixels(), list(exam.key["truth"] == "fake")),
        )
        (work / STUDY).write_text(json.dumps(settings.to_json(), indent=2) + "\n", "utf-8")
        for name, source in texts.items():
            shutil.copyfile(source, work / name)
        write_paper_form(Study.open(work))
    return Study.open(out)


def _write_practice(
    exam: Exam, real: PatchSet, fakes: Mapping[str, PatchSet], count: int, rng: np.random.Generator
) -> None:
    used = exam.key["source_id"].astype(str)
    n_fake = count // 2
    names = list(fakes)
    generators = [names[i % len(names)] for i in range(n_fake)]
    chosen: list[tuple[str, str | None, PatchSet, int]] = []
    taken = [int(i) for i in np.flatnonzero(real.table["id"].astype(str).isin(used[exam.key["truth"] == "real"]))]
    chosen += [("real", None, real, int(row)) for row in draw(real.table, count - n_fake, rng, taken).rows]
    for name in dict.fromkeys(generators):
        mine = used[exam.key["generator"] == name]
        free = np.flatnonzero(~fakes[name].table["id"].astype(str).isin(mine))
        rows = rng.permutation(free)[: generators.count(name)]
        chosen += [("fake", name, fakes[name], int(row)) for row in rows]
    if len(chosen) < count:
        raise ExamError(
            f"{count} practice items were asked for, but beside the exam's own patches there are only {len(chosen)}; "
            "lower --practice or give more patches."
        )
    served: dict[str, bytes] = {}
    rows_out: list[dict[str, Any]] = []
    for at in rng.permutation(len(chosen)):
        truth, generator, source, row = chosen[at]
        name = rng.bytes(8).hex()
        served[name] = encode_item(source.pixels([row])[0])
        where = str(source.table["id"].iloc[row])
        rows_out.append(dict(zip(PRACTICE_COLUMNS, (name, f"{name}.png", truth, generator, where), strict=True)))
    write_items(exam.root / PRACTICE, served)
    pd.DataFrame(rows_out, columns=list(PRACTICE_COLUMNS)).to_parquet(exam.root / PRACTICE_KEY, index=False)


def _choose_repeats(exam: Exam, share: float, rng: np.random.Generator) -> dict[str, str]:
    """Second names for a share of the items, of both classes as evenly as their number allows."""
    count = round(share * len(exam))
    ids = exam.key["id"].astype(str).to_numpy()
    classes: list[NDArray[Any]] = [rng.permutation(ids[exam.key["truth"] == truth]) for truth in ("real", "fake")]
    if rng.random() < 0.5:  # an odd one goes to either class
        classes.reverse()
    dealt = [classes[i % 2][i // 2] for i in range(2 * min(len(one) for one in classes))][:count]
    return {rng.bytes(8).hex(): str(name) for name in rng.permutation(np.array(dealt, dtype=object))}


def _one_mpp(real: PatchSet) -> float | None:
    known = {round(float(mpp), 6) for mpp in real.table["mpp"].dropna()}
    return known.pop() if len(known) == 1 and real.table["mpp"].notna().all() else None


def _is_fake(exam: Exam, name: str) -> bool:
    return bool(exam.key.set_index("id").loc[name, "truth"] == "fake")


def _shipped(name: str) -> Path:
    return Path(str(files("histoforensics.benchmarks").joinpath(name)))
