"""The main job: real tissue and fakes in, detectors trained and judged beside the published pathologist, a report out.

::

    out/
    ├── report.html  results.json  confusion.csv  scores.parquet
    ├── exam/          the exam and its answer key
    ├── detectors/     one folder a detector, for `load_detector`
    ├── figures/
    └── work/          finished stages; a second run uses what is still valid
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pandas as pd

from histoforensics.forensics import CONTROLS, Detector
from histoforensics.forensics.placebo import Placebo
from histoforensics.generators import LoadedGenerator, sample_patchset
from histoforensics.slides import PatchSet, Progress, Slide, require, run_card, sample_slide

from .beside import Beside
from .config import BenchmarkConfig
from .exam import Exam, Marks, exam_size
from .examiner import build_exam
from .gallery import write_figures
from .gates import codec_gate, path_placebo, read_gate, write_gate
from .generalization import HeldOut, auc_matrix, in_domain, leave_one_out, same_generator
from .learning import CODEC_POLICY, LOSSLESS_POLICY, RAW_POLICY, Narrator, School, fit_options, is_cnn
from .material import COUNTS, EXAM_REALS, SAMPLES, Material, write_fakes, write_real
from .measures import measures
from .origins import CHECKPOINT, NOT_GENERATED, SHIPPED, TRAINED, generator_facts, made, shipped, why_not_fair
from .probes import Probe
from .readers import ReaderKind
from .replicas import Replicas
from .report import FIGURES, write_report
from .results import assemble, exam_scores, write_results
from .seeds import named_scores, seed_spread, trained_again
from .sources import Fakes, StandIn, open_fakes, open_tissue
from .stages import digest, stage
from .tampering import Scene, TamperTest, read_tampering, tamper_benchmark, tampered_slide, write_tampering
from .threads import limited_threads
from .tissue import SlideTissue


def _nothing(done: int, total: int, note: str = "") -> None:
    pass


@contextmanager
def _silent(_: str) -> Iterator[Progress]:
    yield _nothing


def run_benchmark(config: BenchmarkConfig, out: Path | str, *, narrate: Narrator = _silent) -> dict[str, Any]:
    """Run the benchmark, or what is still missing of it, and return the content of results.json.

    Args:
        config: What to run.
        out: Its folder; may hold an earlier run, finished or killed.
        narrate: Gives a progress callback for each stage, by title.

    Raises:
        HistoforensicsError: In one sentence, where an input cannot be used; what was finished is kept.
    """
    with limited_threads(config.threads):
        return _Benchmark(config, Path(out), narrate).run()


class _Benchmark:
    """One run: each stage is a folder under ``work`` whose key holds all that it depends on."""

    def __init__(self, config: BenchmarkConfig, out: Path, narrate: Narrator) -> None:
        self.config, self.out, self.narrate = config, out, narrate
        self.work = out / "work"
        self.started = time.time()
        with narrate("Opening the tissue") as progress:
            self.given = open_fakes(config, progress)
            self.tissue = open_tissue(config, self.given, progress)
        self.tissue_key = digest(self.tissue.facts())
        self.beside = shipped(config.beside, config.device)
        for name, one in self.beside.items():
            ok, px = one.config.resolution >= self.tissue.patch_px, one.config.resolution
            require(ok, "patch_px", f"at most the {px} px of {name}, which stands beside", self.tissue.patch_px)
        self.scene = tampered_slide(self.tissue) if config.tamper else None

    def run(self) -> dict[str, Any]:
        self.out.mkdir(parents=True, exist_ok=True)
        generators: dict[str, Fakes] = {**self.given} or made(
            self.config, self.tissue, self.work / "generators", self.narrate
        )
        matched = self._material(generators, matched=True)
        raw = matched if self.tissue.is_lossless else self._material(generators, matched=False)
        not_fair, probe = why_not_fair(self.config, self.tissue, generators), self._probe()
        inspection = probe.audit(matched, self.tissue, same_source=not_fair is None or None)
        homes = (self.out / "detectors", self.work / "detectors")
        school = School(self.config, self.tissue, matched, homes, self.policy, self.narrate)
        test = _held_out(matched)
        seen = same_generator(self.names, test, school.train)
        unseen = leave_one_out(self.names, test, school.train)
        exam = self._exam(matched)
        marks = self._marks(exam, school)
        seed = self.config.seed
        judges = {name: school.train(name, test.generators) for name in self.names}
        measured = measures(seen, unseen, judges, CONTROLS, seed=seed)
        measured["robustness"] = probe.robustness({name: judges[name] for name in self.config.detectors}, test)
        measured["reasons"] = probe.reasons(matched, self.tissue.mpp)
        measured["seeds"], more = self._seeds(test, school, seen, unseen)
        if self.config.beside:
            measured["beside"], tables = self._beside(matched.real["exam"], judges)
            more += tables
        results = assemble(
            exam=exam,
            marks=marks,
            generalization=auc_matrix(unseen, seed=seed),
            same_generator=auc_matrix(seen, seed=seed),
            in_domain=in_domain(seen, seed=seed),
            placebo=self._placebos(),
            raw_placebo=self._codec_gates(),
            run=run_card(self._public_config(), {"tissue": self.tissue_key}, started=self.started),
            generators={name: generator_facts(source, self._origin(name)) for name, source in generators.items()},
            splits=self.tissue.facts() | {"patches": _counts(matched)},
            codec={"policy": self.policy, "codec": self.tissue.facts()["codec"], "unmatched": self._raw(raw)},
            not_fair=not_fair,
            inspection=inspection,
            measured=measured,
            limits=[NOT_GENERATED] if self.config.stand_ins else [],
        )
        if self.scene is not None:
            results["tamper"] = self._tamper(self.scene, raw, school)
        write_results(self.out, results, [seen, unseen, exam_scores(exam, marks), *more])
        with self.narrate("Writing the report"):
            fakes = {name: roles["exam"].pixels() for name, roles in matched.fakes.items()}
            write_figures(self.out / FIGURES, results, exam, matched.real["exam"].pixels(), fakes)
            write_report(self.out)
        return results

    @cached_property
    def replicas(self) -> Replicas:
        """The stand-ins of this run."""
        return Replicas(self.tissue, self.config.stand_ins, self.config.seed)

    @property
    def policy(self) -> str:
        """How both classes got one codec history."""
        return LOSSLESS_POLICY if self.tissue.is_lossless else CODEC_POLICY

    def _probe(self) -> Probe:
        return Probe(self.work, self.config.seed, self.narrate, self.config.curves)

    @cached_property
    def names(self) -> list[str]:
        """Detectors first, then the controls that stand beside them."""
        return [*self.config.detectors, *CONTROLS]

    # -- generators and fakes -------------------------------------------------------------------------------------

    def _sample(self, name: str, source: PatchSet | LoadedGenerator, count: int = SAMPLES) -> PatchSet:
        if isinstance(source, PatchSet):
            return source

        def make(folder: Path) -> None:
            with self.narrate(f"Sampling {name}") as progress:
                sample_patchset(source, count, folder, seed=self.config.seed, overwrite=True, progress=progress)

        fields = {"checkpoint": source.sha256, "seed": self.config.seed, "count": count}
        return PatchSet.open(stage(self.work / "sampled" / name, fields, make))

    def _material(self, sources: Mapping[str, Fakes], *, matched: bool) -> Material:
        base = self.work / ("matched" if matched else "raw")
        kernels, tissue, seed = self.config.stand_ins, self.tissue, self.config.seed
        key = {"tissue": self.tissue_key, "seed": seed, "matched": matched, "kernels": kernels}
        sampled = {name: None if isinstance(one, StandIn) else self._sample(name, one) for name, one in sources.items()}
        fakes = {}
        with self.narrate("Cutting and matching patches" if matched else "Cutting unmatched patches") as progress:

            def write_reals(to: Path) -> None:
                if kernels:
                    self.replicas.write_real(to, matched=matched)
                else:
                    write_real(tissue, to, seed, matched=matched)

            real = stage(base / "real", key, write_reals)
            for number, (name, patches) in enumerate(sampled.items()):

                def make(to: Path, name: str = name, patches: PatchSet | None = patches) -> None:
                    if patches is None:
                        self.replicas.write_fakes(name, to, matched=matched)
                    else:
                        write_fakes(name, patches, tissue, to, seed, matched=matched)

                known = None if patches is None else digest(list(patches.table["sha256"]))
                fakes[name] = stage(base / "fakes" / name, key | {"fakes": known, "name": name}, make)
                progress(number + 1, len(sampled), name)
        return Material.open(real, fakes)

    def _origin(self, name: str) -> str:
        return CHECKPOINT if name in self.given else TRAINED if self.config.train_generators else SHIPPED

    # -- detectors and gates ----------------------------------------------------------------------------------------

    def _raw(self, material: Material) -> dict[str, Any]:
        """In-domain AUC where nothing was matched: what the codec alone is worth. Quick detectors and controls only.

        Empty where there is no codec to match.
        """
        if self.tissue.is_lossless:
            return {}
        homes = (self.work / "raw" / "detectors",) * 2
        school = School(self.config, self.tissue, material, homes, RAW_POLICY, self.narrate)
        quick = [name for name in self.names if not is_cnn(name)]
        scores = same_generator(quick, _held_out(material), school.train)
        return {name: cell.to_json() for name, cell in in_domain(scores, seed=self.config.seed).items()}

    def _placebos(self) -> dict[str, Placebo]:
        """Each detector retrained on real against other real that took the fakes' whole path: it must find nothing."""
        return {
            name: self._gate("placebo", name, self.tissue_key, partial(path_placebo, self.tissue))
            for name in self.config.detectors
        }

    def _codec_gates(self) -> dict[str, Placebo]:
        """The same on lossless tissue where only one class is compressed: the quick detectors must find that."""
        px = self.tissue.patch_px
        return {
            name: self._gate("codec-gate", name, px, partial(codec_gate, px))
            for name in self.config.detectors
            if not is_cnn(name)
        }

    def _gate(self, kind: str, name: str, key: object, measure: Callable[..., Placebo]) -> Placebo:
        budget, seed = self.config.cnn_seconds if is_cnn(name) else None, self.config.seed
        options = fit_options(self.config, name)

        def make(folder: Path) -> None:
            with self.narrate(f"{kind.capitalize()} of {name}") as progress:
                found = measure(name, seed=seed, budget_seconds=budget, progress=progress, options=options)
            write_gate(folder, found)

        fields = {"name": name, "key": key, "seed": seed, "budget": budget, "options": options}
        return read_gate(stage(self.work / kind / name, fields, make))

    # -- exam and results -------------------------------------------------------------------------------------------

    def _exam(self, material: Material) -> Exam:
        reals, fakes = material.real[EXAM_REALS], {name: roles["exam"] for name, roles in material.fakes.items()}
        n_real, each = exam_size(len(fakes), len(reals), target=self.config.exam_size)

        def make(folder: Path) -> None:
            with self.narrate("Matching the exam's patches"):
                build_exam(
                    reals, fakes, folder, n_real=n_real, n_per_generator=each, seed=self.config.seed, overwrite=True
                )

        patches = [list(one.table["sha256"]) for one in (reals, *fakes.values())]
        fields = {"patches": digest(patches), "seed": self.config.seed, "n": [n_real, each]}
        return Exam.open(stage(self.out / "exam", fields, make))

    def _marks(self, exam: Exam, school: School) -> dict[str, Marks]:
        kinds = {name: ReaderKind.CONTROL if name in CONTROLS else ReaderKind.DETECTOR for name in self.names}
        every = tuple(school.material.fakes)
        return {name: exam.mark(school.train(name, every), name, kind) for name, kind in kinds.items()}

    def _seeds(
        self, test: HeldOut, school: School, seen: pd.DataFrame, unseen: pd.DataFrame
    ) -> tuple[dict[str, Any], list[pd.DataFrame]]:
        """What networks come to with the other seeds of the study, and the scores behind it."""
        networks = [name for name in self.config.detectors if is_cnn(name)]
        first, *others = self.config.cnn_seeds or (self.config.seed,)
        if not networks or not others:
            return {}, []
        again = trained_again(networks, test, school.train, others)
        mine = (table[table["detector"].isin(networks)] for table in (seen, unseen))
        return seed_spread({first: (next(mine), next(mine)), **again}), named_scores(again)

    def _beside(self, reals: PatchSet, judges: Mapping[str, Detector]) -> tuple[dict[str, Any], list[pd.DataFrame]]:
        """Shipped generators judged by detectors that learned from none of them."""
        sampled = {name: self._sample(name, one, COUNTS["exam"]) for name, one in self.beside.items()}
        with self.narrate("Opening the shipped generators' tissue") as progress:
            own = SlideTissue([Slide.open(sample_slide())], self.tissue.patch_px, progress)
        beside = Beside(self.work / "beside", sampled, self.tissue, own, self.config.seed, self.narrate)
        told, tables = beside.judged(reals, judges)
        facts = {name: asdict(generator_facts(one, SHIPPED)) for name, one in self.beside.items()}
        return told | {"generators": facts}, tables

    def _tamper(self, scene: Scene, raw: Material, school: School) -> dict[str, Any]:
        """Fakes that no detector saw, as they were sampled, spliced into the exam's blocks; real tissue likewise."""
        judges = {name: school.train(name, tuple(raw.fakes)) for name in self.config.detectors}
        fakes = {name: roles["exam"] for name, roles in raw.fakes.items()}
        test = TamperTest(seed=self.config.seed)

        def make(folder: Path) -> None:
            with self.narrate("Splicing and looking for it") as progress:
                write_tampering(folder, tamper_benchmark(*scene, fakes, judges, test, progress=progress))

        weights = {name: judge.card.weights_sha256 for name, judge in judges.items()}
        patches = {name: digest(list(one.table["sha256"])) for name, one in fakes.items()}
        fields = {"tissue": self.tissue_key, "fakes": patches, "detectors": weights, "test": asdict(test)}
        return read_tampering(stage(self.work / "tamper", fields, make))

    def _public_config(self) -> dict[str, Any]:
        return asdict(self.config) | {"fake": {name: path.name for name, path in self.config.fake.items()}}


def _held_out(material: Material) -> HeldOut:
    return HeldOut.of(material.real["exam"], {name: roles["exam"] for name, roles in material.fakes.items()})


def _counts(material: Material) -> dict[str, Any]:
    return {
        "real": {role: len(patches) for role, patches in material.real.items()},
        "fake": {name: {role: len(p) for role, p in roles.items()} for name, roles in material.fakes.items()},
    }
