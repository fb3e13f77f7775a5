"""The answer in plain words: who did better, by how much, how sure, and whether the comparison was worth anything.

The rules come before the numbers: an unfair comparison gets no verdict, an easy one is called easy, a detector that has
not learned its task or does not hold its placebo is not counted, and no single best detector is picked after the fact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from .statistics import least_above_chance

ALPHA = 0.05
BRIEF = 0.1  # of the training that a generator's authors gave it

LOOKS_AT = {
    "rgb": "the mean colour",
    "blockiness": "the edges of 8-px blocks",
    "slope": "the slope of the spectrum",
    "meta": "the files' metadata",
}


class Verdict(StrEnum):
    """What a run may claim."""

    WITHHELD = "withheld"  # reals and fakes differ in more than being fake
    NO_DETECTOR = "no detector"  # none learned its task and held its placebo
    EASY = "easy"  # a trivial cue does it too
    MACHINES = "machines"  # at least one detector did better
    HUMAN = "human"  # at least one did worse, and none better
    NOT_SHOWN = "not shown"  # no difference beyond chance


def answer(results: Mapping[str, Any]) -> dict[str, Any]:
    """Verdict, headline and the lines below it, of the content of results.json."""
    sound = sound_detectors(results)
    verdict = _verdict(results, sound)
    lines = [
        _unfair_line(results),
        _scores_line(results, sound, verdict),
        _difference_line(results, sound),
        _human_line(results),
        _unseen_line(results, sound),
        _brief_line(results),
        _discarded_line(results),
    ]
    told = _headline(results, sound, verdict)
    return {"verdict": verdict.value, "headline": told, "lines": [line for line in lines if line]}


def sound_detectors(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The detectors whose marks count: neither failed nor contradicted by their placebo."""
    placebo = results["placebo"]
    return [
        reader
        for reader in results["readers"]
        if reader["kind"] == "detector"
        and reader["name"] not in results["failed"]
        and placebo.get(reader["name"], {}).get("holds_half") is not False
    ]


def _verdict(results: Mapping[str, Any], sound: Sequence[Mapping[str, Any]]) -> Verdict:
    if not results["audit"]["fair"]:
        return Verdict.WITHHELD
    if not sound:
        return Verdict.NO_DETECTOR
    if results["audit"]["comparison_is_easy"]:
        return Verdict.EASY
    differs = [row for row in _rows(results, sound) if row["fisher_p_holm"] < ALPHA]
    if any(row["difference"] > 0 for row in differs):
        return Verdict.MACHINES
    return Verdict.HUMAN if differs else Verdict.NOT_SHOWN


def _headline(results: Mapping[str, Any], sound: Sequence[Mapping[str, Any]], verdict: Verdict) -> str:
    human = results["readers"][0]
    audit = results["audit"]
    match verdict:
        case Verdict.WITHHELD:
            return "No verdict: the comparison is not fair."
        case Verdict.NO_DETECTOR:
            return "No verdict: no detector both learned its task and held its placebo."
        case Verdict.EASY:
            return (
                f"An easy comparison: {_looks_at(audit['best_control'])} alone tells these fakes from real tissue, "
                f"at AUC {audit['best_control_auc']:.2f}."
            )
        case Verdict.MACHINES:
            return f"{_range_right(sound)}; the pathologist marked {human['right']} of {human['total']} other ones."
        case Verdict.HUMAN:
            return (
                f"The pathologist did better: {human['right']} of {human['total']} right, on other patches. "
                f"{_range_right(sound)}."
            )
    return (
        f"No difference was shown. {_range_right(sound)}; the pathologist marked {human['right']} of "
        f"{human['total']} other ones."
    )


def _unfair_line(results: Mapping[str, Any]) -> str:
    reason = results["audit"]["not_fair"]
    return "" if reason is None else f"{reason[:1].upper()}{reason[1:].rstrip('.')}."


def _scores_line(results: Mapping[str, Any], sound: Sequence[Mapping[str, Any]], verdict: Verdict) -> str:
    if not sound or verdict not in (Verdict.EASY, Verdict.WITHHELD):
        return ""
    human = results["readers"][0]
    return (
        f"{_range_right(sound)}; the pathologist marked {human['right']} of {human['total']} other ones. "
        "That is no credit to the detectors here."
    )


def _difference_line(results: Mapping[str, Any], sound: Sequence[Mapping[str, Any]]) -> str:
    rows = _rows(results, sound)
    if not rows or not results["audit"]["fair"]:
        return ""
    better = sum(row["fisher_p_holm"] < ALPHA and row["difference"] > 0 for row in rows)
    low, high = min(row["newcombe95"][0] for row in rows), max(row["newcombe95"][1] for row in rows)
    return (
        f"{better} of {len(rows)} detectors did better than she did beyond chance "
        f"(Fisher's exact test, p below {ALPHA} after Holm). Taken together, the 95 % intervals of the difference run "
        f"from {_points(low)} to {_points(high)} percentage points. She marked other patches, so it is unpaired."
    )


def _human_line(results: Mapping[str, Any]) -> str:
    human = results["readers"][0]
    least = least_above_chance(human["total"])
    relation = "not different from" if human["p_chance"] >= ALPHA else "different from"
    return (
        f"Her {human['right']} of {human['total']} are {relation} guessing (p = {human['p_chance']:.2f}); "
        f"on {human['total']} patches it takes {least} right answers to beat chance."
    )


def _unseen_line(results: Mapping[str, Any], sound: Sequence[Mapping[str, Any]]) -> str:
    table = results["generalization"]
    cells = [
        (cell["auc"], reader["name"], left_out)
        for reader in sound
        for left_out, cell in table.get(reader["name"], {}).items()
        if cell["auc"] is not None
    ]
    if not cells:
        return "How the detectors do on a generator that they never saw could not be measured: it takes two generators."
    worst, best = min(cells), max(cells)
    return (
        f"On a generator left out of training, AUC runs from {worst[0]:.2f} ({worst[1]}, {worst[2]} left out) to "
        f"{best[0]:.2f} ({best[1]}, {best[2]} left out); 0.5 is guessing."
    )


def _brief_line(results: Mapping[str, Any]) -> str:
    told = [
        f"{name} for {_duration(facts['seconds'])} on {facts['kimg']:.1f} thousand images "
        f"(its authors: {facts['published_kimg']:,.0f} thousand)"
        for name, facts in results["generators"].items()
        if facts["seconds"] is not None
        and facts["kimg"] is not None
        and facts["published_kimg"]
        and facts["kimg"] < BRIEF * facts["published_kimg"]
    ]
    if not told:
        return ""
    return (
        f"The fakes come from generators that were trained only briefly: {_listed(told)}. "
        "Such fakes are easier to tell than those the pathologist saw."
    )


def _discarded_line(results: Mapping[str, Any]) -> str:
    failed = list(results["failed"])
    broken = [name for name, row in results["placebo"].items() if row["holds_half"] is False and name not in failed]
    told = []
    if failed:
        told.append(f"{_listed(failed)} failed to learn the task")
    if broken:
        told.append(f"{_listed(broken)} told real patches from real patches that went through the fakes' path")
    return f"Not counted: {'; '.join(told)}." if told else ""


def _rows(results: Mapping[str, Any], sound: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [results["versus"][reader["name"]] for reader in sound]


def _range_right(sound: Sequence[Mapping[str, Any]]) -> str:
    right, total = sorted(reader["right"] for reader in sound), sound[0]["total"]
    if len(right) == 1:
        return f"One detector marked {right[0]} of {total} patches right"
    span = f"{right[0]}" if right[0] == right[-1] else f"{right[0]} to {right[-1]}"
    return f"{_number(len(right)).capitalize()} detectors marked {span} of {total} patches right"


def _looks_at(control: str) -> str:
    return LOOKS_AT.get(control, f"the control {control}")


def _points(difference: float) -> str:
    return f"{100 * difference:+.0f}".replace("-", "\u2212")


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.0f} minutes"


def _number(count: int) -> str:
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    return words[count] if count < len(words) else str(count)


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
