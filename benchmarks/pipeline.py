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

from histoforensics.forensics import CONTROLS
from histoforensics.forensics.placebo import Placebo
from histoforensics.generators import LoadedGenerator, load_generator, sample_patchset
from histoforensics.slides import PatchSet, Progress, run_card

from .brief import PUBLISHED_KIMG, TITLES, train_generators
from .config import BenchmarkConfig
from .exam import Exam, Marks, exam_size
from .examiner import build_exam
from .gallery import write_figures
from .gates import codec_gate, path_placebo, read_gate, write_gate
from .generalization import HeldOut, auc_matrix, in_domain, leave_one_out, same_generator
from .learning import CODEC_POLICY, RAW_POLICY, Narrator, School, fit_options, is_cnn
from .material import EXAM_REALS, SAMPLES, Material, write_fakes, write_real
from .measures import measures
from .probes import Probe
from .readers import ReaderKind
from .report import FIGURES, write_report
from .results import GeneratorFacts, assemble, exam_scores, write_results
from .sources import Fakes, open_fakes, open_tissue
from .stages import digest, stage
from .tampering import Scene, TamperTest, read_tampering, tamper_benchmark, tampered_slide, write_tampering
from .threads import limited_threads


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
        self.scene = tampered_slide(self.tissue) if config.tamper else None

    def run(self) -> dict[str, Any]:
        self.out.mkdir(parents=True, exist_ok=True)
        generators: dict[str, Fakes] = self.given or {**self._made()}
        folders = {name: self._sample(name, source) for name, source in generators.items()}
        matched, raw = self._material(folders, matched=True), self._material(folders, matched=False)
        not_fair, probe = self._not_fair(generators), self._probe()
        inspection = probe.audit(matched, self.tissue, same_source=not_fair is None or None)
        homes = (self.out / "detectors", self.work / "detectors")
        school = School(self.config, self.tissue, matched, homes, CODEC_POLICY, self.narrate)
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
        results = assemble(
            exam=exam,
            marks=marks,
            generalization=auc_matrix(unseen, seed=seed),
            same_generator=auc_matrix(seen, seed=seed),
            in_domain=in_domain(seen, seed=seed),
            placebo=self._placebos(),
            raw_placebo=self._codec_gates(),
            run=run_card(self._public_config(), {"tissue": self.tissue_key}, started=self.started),
            generators={name: self._generator_facts(name, source) for name, source in generators.items()},
            splits=self.tissue.facts() | {"patches": _counts(matched)},
            codec={"policy": CODEC_POLICY, "codec": self.tissue.facts()["codec"], "unmatched": self._raw(raw)},
            not_fair=not_fair,
            inspection=inspection,
            measured=measured,
        )
        if self.scene is not None:
            results["tamper"] = self._tamper(self.scene, raw, school)
        write_results(self.out, results, [seen, unseen, exam_scores(exam, marks)])
        with self.narrate("Writing the report"):
            fakes = {name: roles["exam"].pixels() for name, roles in matched.fakes.items()}
            write_figures(self.out / FIGURES, results, exam, matched.real["exam"].pixels(), fakes)
            write_report(self.out)
        return results

    def _probe(self) -> Probe:
        return Probe(self.work, self.config.seed, self.narrate, self.config.curves)

    @cached_property
    def names(self) -> list[str]:
        """Detectors first, then the controls that stand beside them."""
        return [*self.config.detectors, *CONTROLS]

    # -- generators and fakes -------------------------------------------------------------------------------------

    def _made(self) -> dict[str, LoadedGenerator]:
        config = self.config
        if config.train_generators:
            return train_generators(config, self.tissue, self.work / "generators", self.narrate)
        return {TITLES[family]: load_generator(family, config.device) for family in config.families}

    def _sample(self, name: str, source: Fakes) -> PatchSet:
        if isinstance(source, PatchSet):
            return source

        def make(folder: Path) -> None:
            with self.narrate(f"Sampling {name}") as progress:
                sample_patchset(source, SAMPLES, folder, seed=self.config.seed, overwrite=True, progress=progress)

        fields = {"checkpoint": source.sha256, "seed": self.config.seed, "count": SAMPLES}
        return PatchSet.open(stage(self.work / "sampled" / name, fields, make))

    def _material(self, sampled: Mapping[str, PatchSet], *, matched: bool) -> Material:
        base = self.work / ("matched" if matched else "raw")
        key = {"tissue": self.tissue_key, "seed": self.config.seed, "matched": matched}
        fakes = {}
        with self.narrate("Cutting and matching patches" if matched else "Cutting unmatched patches") as progress:
            real = stage(base / "real", key, lambda to: write_real(self.tissue, to, self.config.seed, matched=matched))
            for number, (name, patches) in enumerate(sampled.items()):
                fields = key | {"fakes": digest(list(patches.table["sha256"])), "name": name}

                def make(to: Path, name: str = name, patches: PatchSet = patches) -> None:
                    write_fakes(name, patches, self.tissue, to, self.config.seed, matched=matched)

                fakes[name] = stage(base / "fakes" / name, fields, make)
                progress(number + 1, len(sampled), name)
        return Material.open(real, fakes)

    # -- detectors and gates ----------------------------------------------------------------------------------------

    def _raw(self, material: Material) -> dict[str, Any]:
        """In-domain AUC where nothing was matched: what the codec alone is worth. Quick detectors and controls only."""
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

    def _generator_facts(self, name: str, source: Fakes) -> GeneratorFacts:
        if isinstance(source, PatchSet):
            return GeneratorFacts(source="given as a folder of patches")
        made = "trained in this run" if self.config.train_generators else "shipped with the tool"
        return GeneratorFacts(
            source="given as a checkpoint" if name in self.given else made,
            resolution_px=source.config.resolution,
            seconds=source.card.get("seconds"),
            kimg=_kimg(source.card.get("images")),
            published_kimg=PUBLISHED_KIMG.get(source.config.family),
            parameters_g=sum(p.numel() for p in source.module.parameters()),
            checkpoint_sha256=source.sha256,
            psi=1.0,
            noise="random",
        )

    def _not_fair(self, generators: Mapping[str, Fakes]) -> str | None:
        """Rule 9: fakes of other tissue make every detector a tissue detector."""
        if self.config.same_source:
            return None
        foreign = [name for name, source in generators.items() if not self._same_tissue(source)]
        if not foreign:
            return None
        return (
            f"nothing shows that the fakes of {', '.join(foreign)} were generated from the real tissue given "
            f"({self.tissue.name}); a detector may tell the tissues apart instead of real from fake. If they were, say "
            "so with --same-source."
        )

    def _same_tissue(self, source: Fakes) -> bool:
        if isinstance(source, PatchSet):
            return False
        learned = self.tissue.crop_source(source.config.resolution).digest
        return bool(source.card.get("data", {}).get("digest") == learned)

    def _public_config(self) -> dict[str, Any]:
        return asdict(self.config) | {"fake": {name: path.name for name, path in self.config.fake.items()}}


def _held_out(material: Material) -> HeldOut:
    return HeldOut.of(material.real["exam"], {name: roles["exam"] for name, roles in material.fakes.items()})


def _counts(material: Material) -> dict[str, Any]:
    return {
        "real": {role: len(patches) for role, patches in material.real.items()},
        "fake": {name: {role: len(p) for role, p in roles.items()} for name, roles in material.fakes.items()},
    }


def _kimg(images: object) -> float | None:
    return images / 1000 if isinstance(images, int) else None
