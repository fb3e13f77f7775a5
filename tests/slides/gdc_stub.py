"""A small server on the loopback that speaks GDC's protocol, and misbehaves on demand."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import defaultdict, deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def uuid(number: int) -> str:
    return f"{number:08x}-0000-4000-8000-{number:012x}"


@dataclass
class Stub:
    """What the server holds, how it misbehaves, and what it was asked.

    ``quirks`` holds, a file, what the next answers do wrong: "drop", "500", "429", "416", "200" (ignores the range),
    "short", "long", "other" (other bytes), "elsewhere" (a range that was not asked for), "redirect", "403".
    """

    content: dict[str, bytes] = field(default_factory=dict)
    hits: list[dict[str, Any]] = field(default_factory=list)
    quirks: dict[str, deque[str]] = field(default_factory=lambda: defaultdict(deque))
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    questions: list[dict[str, Any]] = field(default_factory=list)
    retry_after: str = "0"
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    endpoint: str = ""
    answer: bytes | None = None  # in place of a search's

    def add(self, name: str, content: bytes, *, strategy: str = "Diagnostic Slide", **other: Any) -> str:
        identifier = uuid(len(self.hits) + 1)
        self.content[identifier] = content
        md5 = hashlib.md5(content).hexdigest()
        record = {"file_id": identifier, "file_name": name, "md5sum": md5, "file_size": len(content)}
        self.hits.append(record | {"experimental_strategy": strategy} | other)
        return identifier

    def manifest(self) -> str:
        """As the portal writes it."""
        rows = ["id\tfilename\tmd5\tsize\tstate"]
        keys = ("file_id", "file_name", "md5sum", "file_size")
        rows += ["\t".join([*(str(hit[key]) for key in keys), "released"]) for hit in self.hits]
        return "\n".join(rows) + "\n"


def serve(stub: Stub) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            return

        def do_POST(self) -> None:
            question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            stub.questions.append(question)
            quirk = stub.quirks["files"].popleft() if stub.quirks["files"] else ""
            if quirk:
                self._plain(int(quirk), b"", {"Retry-After": stub.retry_after})
                return
            kinds = next(p for p in question["filters"]["content"] if p["content"]["field"] == "experimental_strategy")
            hits = [h for h in stub.hits if h["experimental_strategy"] in kinds["content"]["value"] or h.get("sly")]
            part = hits[question["from"] :][: question["size"]]
            answer = {"data": {"hits": part, "pagination": {"total": len(hits), "from": question["from"]}}}
            self._plain(200, json.dumps(answer).encode() if stub.answer is None else stub.answer)

        def do_GET(self) -> None:
            if self.path == "/status":
                self._plain(200, b'{"data_release": "Data Release 99.0 - November 01, 2026", "status": "OK"}')
                return
            with stub.lock:
                stub.at_once += 1
                stub.most_at_once = max(stub.most_at_once, stub.at_once)
            try:
                self._file(self.path.removeprefix("/data/"))
            finally:
                with stub.lock:
                    stub.at_once -= 1

        def _file(self, name: str) -> None:
            wanted = self.headers.get("Range")
            stub.asked.append((name, wanted))
            content = stub.content.get(name)
            quirk = stub.quirks[name].popleft() if stub.quirks[name] else ""
            if content is None:
                self._plain(404, b"")
            elif quirk.isdigit() and quirk != "200":
                self._plain(int(quirk), b"", {"Retry-After": stub.retry_after} if quirk in ("429", "503") else {})
            elif quirk == "redirect":
                self._plain(302, b"", {"Location": "http://elsewhere.example/x"})
            else:
                self._send(content, wanted, quirk)

        def _send(self, content: bytes, wanted: str | None, quirk: str) -> None:
            start, status, extra = 0, 200, {"Content-Disposition": 'attachment; filename="../../evil.svs"'}
            match = re.fullmatch(r"bytes=(\d+)-", wanted or "")
            if match and quirk != "200":
                start, status = int(match[1]), 206
                if start >= len(content):
                    self._plain(416, b"")
                    return
                told = start + 1 if quirk == "elsewhere" else start
                extra["Content-Range"] = f"bytes {told}-{len(content) - 1}/{len(content)}"
            body = content[start:]
            body = {"short": body[:-3], "long": body + b"xyz", "other": body[::-1]}.get(quirk, body)
            if quirk == "drop":
                self._headers(status, len(body), extra)
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                self.close_connection = True
                return
            self._plain(status, body, extra)

        def _plain(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self._headers(status, len(body), headers or {})
            self.wfile.write(body)

        def _headers(self, status: int, length: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in ({"Content-Length": str(length)} | headers).items():
                self.send_header(name, value)
            self.end_headers()

    class Quiet(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:  # a client that hangs up is meant
            return

    server = Quiet(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    stub.endpoint = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    return server
