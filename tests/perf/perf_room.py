"""The reading room under load: 50 readers at once take 60 patches each, against 200 ms for 19 answers in 20."""

from __future__ import annotations

import http.client
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import numpy as np
from ratio import Ratio

from histoforensics.benchmarks.answers import Answers
from histoforensics.benchmarks.study import Study
from histoforensics.benchmarks.study_build import build_study
from histoforensics.slides import PatchSet, PatchSetWriter

READERS, BUDGET_SECONDS, PX = 50, 0.2, 112
THINKS_SECONDS = (0.5, 2.5)  # quicker than anybody who looks


class SimulatedReader:
    """A browser that keeps a connection and a cookie, and times from sending an answer to its acknowledgement."""

    def __init__(self, address: str, number: int) -> None:
        self.host = urlsplit(address).netloc
        self.wire = http.client.HTTPConnection(self.host, timeout=60)
        self.cookies: dict[str, str] = {}
        self.number, self.taken = number, []
        self.rng = random.Random(number)

    def ask(self, method: str, path: str, **fields: str) -> tuple[str, str]:
        """The text of the reply and where it points."""
        headers = {"cookie": "; ".join(f"{name}={value}" for name, value in self.cookies.items())}
        body = None
        if method == "POST":
            headers |= {"origin": f"http://{self.host}", "content-type": "application/x-www-form-urlencoded"}
            body = urlencode(fields)
        self.wire.request(method, path, body, headers)
        reply = self.wire.getresponse()
        text = reply.read().decode("latin-1")
        for line in reply.headers.get_all("set-cookie") or []:
            name, _, value = line.split(";")[0].partition("=")
            self.cookies[name] = value
        assert reply.status in (200, 303), text
        return text, reply.headers.get("location", path)

    def take(self, count: int) -> list[float]:
        page, _ = self.ask("GET", "/")
        fields = {"csrf": _field(page, "csrf"), "agree": _field(page, "agree"), "role": "Student", "years": "1"}
        self.ask("POST", "/join", **fields)
        _, here = self.ask("GET", "/continue")
        for _ in range(count):
            page, _ = self.ask("GET", here)
            self.ask("GET", re.search(r'src="(/image/\w+)"', page)[1])
            time.sleep(self.rng.uniform(*THINKS_SECONDS))
            answer = {"verdict": "fake", "note": f"{self.number} {here}", "csrf": _field(page, "csrf"), "revision": "0"}
            began = time.perf_counter()
            _, there = self.ask("POST", here, **answer)
            self.taken.append(time.perf_counter() - began)
            here = there
        return self.taken


def _field(page: str, name: str) -> str:
    return re.search(rf'name="{name}" value="([^"]*)"', page)[1]


def build(folder: Path) -> Study:
    rng = np.random.default_rng(0)
    sets = {}
    for name, count in (("real", 30), ("A", 30)):
        with PatchSetWriter(folder / name) as writer:
            for patch in rng.integers(0, 256, (count, PX, PX, 3), dtype=np.uint8):
                writer.add(
                    patch, label="real" if name == "real" else "fake", generator=None if name == "real" else name
                )
        sets[name] = PatchSet.open(folder / name)
    real = sets.pop("real")
    return build_study(real, sets, folder / "exam", n_per_generator=30, repeats=0.0, practice=0)


def measurements() -> Iterator[Ratio]:
    with tempfile.TemporaryDirectory() as folder:
        study = build(Path(folder))
        program = "from histoforensics.cli import app; app()"
        command = [sys.executable, "-uc", program, "exam", "serve", str(study.root), "--port", "0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            try:
                address = server.stdout.readline().split()[-1]
                with ThreadPoolExecutor(READERS) as pool:
                    readers = [SimulatedReader(address, number) for number in range(READERS)]
                    taken = [
                        one for part in pool.map(lambda reader: reader.take(study.showings), readers) for one in part
                    ]
            finally:
                server.send_signal(signal.SIGKILL)
        answers = Answers(study.root, study.digest)
        notes = [answer.note for _, answer in answers.rows()]
        answers.close()
    wanted = [f"{number} /patch/{place}" for number in range(READERS) for place in range(1, study.showings + 1)]
    assert sorted(notes) == sorted(wanted), "answers were lost or doubled"
    late = float(np.quantile(taken, 0.95))
    yield Ratio(f"{READERS} readers x {study.showings}: 200 ms against the 95th percentile", BUDGET_SECONDS, late, 1.0)
