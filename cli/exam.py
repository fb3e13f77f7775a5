"""`histoforensics exam`: build a study, serve it to readers, import paper marks, grade."""

from __future__ import annotations

from contextlib import closing
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from histoforensics.slides import ConfigError

from .console import out as console
from .console import progress

if TYPE_CHECKING:
    from histoforensics.benchmarks.study import Study

app = typer.Typer(no_args_is_help=True, help="People and machines on the same patches.")


class Preset(StrEnum):
    """What a study is by default."""

    STUDY = "study"
    PAPER = "paper"


@app.command()
def build(
    real: Annotated[Path, typer.Option(help="Real patches: a patch set or a folder of images.")],
    fake: Annotated[list[str], typer.Option(help="NAME=FOLDER of one generator's patches; repeatable.")],
    out: Annotated[Path, typer.Option(help="Folder of the exam.")],
    n_real: Annotated[int, typer.Option(help="Real patches.")] = 30,
    n_per_generator: Annotated[int, typer.Option(help="Fakes of each generator.")] = 10,
    repeats: Annotated[float | None, typer.Option(help="Share shown twice; default 0.1, paper: 0.")] = None,
    practice: Annotated[int | None, typer.Option(help="Practice items with feedback; default 5, paper: 0.")] = None,
    preset: Annotated[
        Preset, typer.Option(help="paper: the exam of 2020; told that half are real, no repeats, no practice.")
    ] = Preset.STUDY,
    title: Annotated[str, typer.Option(help="Heads the pages.")] = "Real or generated?",
    consent: Annotated[Path | None, typer.Option(help="Text that readers agree to; default: the one shipped.")] = None,
    reasons: Annotated[Path | None, typer.Option(help="YAML of reasons to tick; default: the paper's.")] = None,
    seed: Annotated[int, typer.Option(help="Of the draw, the names and the order.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an exam that stands there.")] = False,
) -> None:
    """Draw an exam from real and fake patches and freeze it.

    Each fake stands against a real patch that it resembles; the files tell nothing of the class; the key stays apart.

    Example: histoforensics exam build --real real/ --fake StyleGAN2=fakes/ --out exam/ --n-per-generator 30
    """
    from histoforensics.benchmarks.study_build import build_study
    from histoforensics.slides import PatchSet

    paper = preset is Preset.PAPER
    with progress("Reading patches") as advance:
        reals = PatchSet.open(real, label="real", progress=advance)
        sets = {
            name: PatchSet.open(folder, label="fake", progress=advance)
            for name, folder in (_named(text, "--fake") for text in fake)
        }
    if len(sets) < len(fake):
        raise ConfigError("--fake names one generator twice.")
    study = build_study(
        reals,
        sets,
        out,
        n_real=n_real,
        n_per_generator=n_per_generator,
        repeats=(0.0 if paper else 0.1) if repeats is None else repeats,
        practice=(0 if paper else 5) if practice is None else practice,
        preset=preset.value,
        title=title,
        consent=consent,
        reasons=reasons,
        seed=seed,
        overwrite=overwrite,
    )
    for line in _told(study):
        console.print(line, markup=False, soft_wrap=True)
    console.print(f"Exam: {out}  Next: histoforensics exam serve {out}", markup=False, soft_wrap=True)


@app.command()
def serve(
    exam: Annotated[Path, typer.Argument(help="Folder of the exam.")],
    port: Annotated[int, typer.Option(help="Port; 0 takes any free one.")] = 8765,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Let other machines in; readers then need the printed token.")
    ] = False,
    name: Annotated[
        list[str] | None, typer.Option(help="Name by which readers reach this machine; repeatable.")
    ] = None,
) -> None:
    """Open the reading room: a local page on which people mark the exam.

    Every answer is on disk before the reader goes on, so the command can be stopped and started at any time.

    Example: histoforensics exam serve exam/
    """
    from histoforensics.benchmarks.room_server import serve_room

    serve_room(exam, host=host, port=port, allow_remote=allow_remote, names=tuple(name or ()), tell=_say)


@app.command("import")
def import_(
    exam: Annotated[Path, typer.Argument(help="Folder of the exam.")],
    marks: Annotated[Path, typer.Argument(help="Table of one reader's marks, made from marks_template.csv.")],
    role: Annotated[str, typer.Option(help="The reader's role.")],
    years: Annotated[int, typer.Option(help="The reader's years of experience.", min=0, max=80)],
) -> None:
    """Add the marks of a reader who used the paper form.

    Example: histoforensics exam import exam/ marks.csv --role Pathologist --years 12
    """
    from histoforensics.benchmarks.answers import Answers
    from histoforensics.benchmarks.paper_marks import import_marks
    from histoforensics.benchmarks.study import Study

    study = Study.open(exam)
    with closing(Answers(study.root, study.digest)) as answers:
        person, count = import_marks(study, answers, marks, role=role, years=years)
    console.print(f"{count} of {len(study.exam)} patches marked by reader {person.name}.", markup=False, soft_wrap=True)


@app.command()
def grade(
    exam: Annotated[Path, typer.Argument(help="Folder of the exam.")],
    detector: Annotated[
        list[str] | None, typer.Option(help="NAME=FOLDER of a trained detector that marks the same exam; repeatable.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Where to write the results; default: grade.json in EXAM.")] = None,
) -> None:
    """Count what people answered, beside detectors on the same patches and the published pathologist.

    Beside the JSON stand a page to read, its tables as CSV, and every rating for iMRMC (.csv for R, .imrmc for Java)
    and MRMCaov.

    Example: histoforensics exam grade exam/ --detector radial-lr=detectors/radial-lr
    """
    from histoforensics.benchmarks.answers import Answers
    from histoforensics.benchmarks.grading import grade as graded
    from histoforensics.benchmarks.grading import write_grading
    from histoforensics.benchmarks.human_marks import human_marks
    from histoforensics.benchmarks.readers import ReaderKind
    from histoforensics.benchmarks.study import Study
    from histoforensics.slides import ExamError

    study = Study.open(exam)
    with closing(Answers(study.root, study.digest)) as answers:
        people = human_marks(study, answers)
    machines = {}
    for name, folder in (_named(text, "--detector") for text in detector or ()):
        from histoforensics.forensics import load_detector
        from histoforensics.forensics.registry import CONTROLS

        judge = load_detector(folder)
        kind = ReaderKind.CONTROL if type(judge) in CONTROLS.values() else ReaderKind.DETECTOR
        machines[name] = study.exam.mark(judge, name, kind)
    if not machines and not any(one.answered for one in people):
        raise ExamError(f"{exam.name}: nobody has marked this exam yet; serve it, import marks, or name a --detector.")
    results = graded(study, people, machines)
    written = write_grading(out or exam / "grade.json", results, study, people, machines)
    _show(results)
    console.print(f"Results: {written[0]}", markup=False, soft_wrap=True)
    console.print(f"Page:    {written[1]}", markup=False, soft_wrap=True)
    console.print(f"Tables:  {', '.join(path.name for path in written[2:])}", markup=False, soft_wrap=True)


def _show(results: dict[str, Any]) -> None:
    """The tables of a grading, on the console."""
    from rich.table import Table

    counts = Table(title="Right answers; unsure counted as wrong, left out, and as half", title_justify="left")
    for heading in ("Reader", "Right", "Wrong", "Left out", "Half", "95 % Wilson", "95 % exact", "p guessing"):
        counts.add_column(heading, no_wrap=True)
    for one in results["readers"]:
        rules = [one[rule] for rule in ("accuracy", "accuracy_unsure_dropped", "accuracy_unsure_half")]
        ends = [f"{low:.2f} to {high:.2f}" for low, high in (one["wilson95"], one["clopper_pearson95"])]
        shares = [f"{rule:.2f}" for rule in rules]
        counts.add_row(one["name"], f"{one['right']} of {one['total']}", *shares, *ends, f"{one['p_chance']:.3f}")
    console.print(counts)
    if results["pooled_note"]:
        console.print(results["pooled_note"], markup=False, soft_wrap=True)
    for one in results["readers"]:
        rows = {f"truth {truth}": row for truth, row in one["table"].items()} | one["by_generator"]
        table = Table(title=one["name"], title_justify="left")
        for heading in ("", "real", "fake", "unsure"):
            table.add_column(heading, justify="right" if heading else "left")
        for name, row in rows.items():
            table.add_row(name, *(str(row[verdict]) for verdict in ("real", "fake", "unsure")))
        console.print(table)
    for line in _told_of_pairs(results):
        console.print(line, markup=False, soft_wrap=True)


def _told_of_pairs(results: dict[str, Any]) -> list[str]:
    """Who differs from whom, in sentences: pairs, the average reader, agreement, published groups."""
    lines = []
    for pair in results["paired"]:
        lines.append(
            f"{pair['person']} and {pair['machine']}, {pair['patches']} patches: only the person right on "
            f"{pair['only_person_right']}, only the machine on {pair['only_machine_right']}; "
            f"McNemar exact p {pair['exact_p']:.3f}, after Holm {pair['exact_p_holm']:.3f}; both wrong on "
            f"{pair['mistakes']['both_wrong']} where chance expects {pair['mistakes']['expected']:.1f}."
        )
        if pair["auc"] is not None:
            low, high = pair["auc"]["delong95"]
            lines.append(
                f"  AUC, person minus machine: {pair['auc']['difference']:+.2f} ({low:+.2f} to {high:+.2f}), "
                f"DeLong p {pair['auc']['p']:.3f}, after Holm {pair['auc']['p_holm']:.3f}."
            )
    average = results["average"]
    for merit in () if average is None else ("auc", "accuracy"):
        low, high = average[merit]["ci95"]
        lines.append(
            f"The average of {len(average['readers'])} readers, {merit}: {average[merit]['mean']:.2f} "
            f"({low:.2f} to {high:.2f} for other readers of other patches)."
        )
        for name, row in average[merit]["machines"].items():
            low, high = row["difference"]["ci95"]
            lines.append(
                f"  minus {name} ({row['value']:.2f}): {row['difference']['mean']:+.2f} ({low:+.2f} to {high:+.2f}), "
                f"p {row['difference']['p']:.3f}, after Holm {row['difference']['p_holm']:.3f}."
            )
    groups = [f"{group['name']} {group['accuracy']:.1%}" for group in results["published_groups"]]
    return [*lines, f"Published, other images, share of decisions right: {', '.join(groups)}."]


def _say(line: str) -> None:
    typer.echo(line)  # plain, so that a program can read the addresses, and at once


def _told(study: Study) -> list[str]:
    """What was built and what it can show."""
    from histoforensics.benchmarks.blinding import strongest
    from histoforensics.benchmarks.statistics import (
        least_above_chance,
        patches_to_beat_guessing,
        patches_to_show_guessing,
        power,
    )

    key, total = study.exam.key, len(study.exam)
    mix = ", ".join(f"{int((key['generator'] == name).sum())} by {name}" for name in study.exam.generators)
    cue, found = strongest(study.settings.pixel_controls)
    least = least_above_chance(total)
    shows = "no count beats guessing" if least is None else f"{least} right ({least / total:.0%}) beat guessing"
    return [
        f"{total} patches of {study.patch_px} px: {int((key['truth'] == 'real').sum())} real, {mix}.",
        (
            f"{study.patches_per_block} real per block at most; {study.overlapping_pairs} pairs of reals overlap; "
            f"{len(study.settings.repeats)} shown twice, {len(study.practice)} more for practice."
        ),
        (
            "Trivial cues: length and metadata of the files tell nothing; the strongest in the pixels is "
            f"{cue}, AUC {found:.2f}."
        ),
        (
            f"What this size shows: {shows}; a reader who is right on 70 % of such patches is seen to beat it in "
            f"{power(total, 0.7):.0%} of exams, one who is right on 65 % in {power(total, 0.65):.0%}."
        ),
        (
            f"In 80 % of exams: {patches_to_beat_guessing(0.65)} patches show that a reader of 65 % does not guess, "
            f"{patches_to_show_guessing(0.1)} that a guesser is within 40 to 60 %."
        ),
    ]


def _named(text: str, option: str) -> tuple[str, Path]:
    name, separator, path = text.partition("=")
    if not (name and separator and path):
        raise ConfigError(f"{option} must be NAME=FOLDER, got {text!r}.")
    return name, Path(path)
