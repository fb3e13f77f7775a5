"""Serving a study from this machine."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import uvicorn

from histoforensics.slides import ExamError, require

from .answers import Answers
from .room import create_room
from .room_security import allowed_hosts, new_token
from .study import Study


def serve_room(
    root: Path | str,
    *,
    host: str = "127.0.0.1",
    port: int = 8765,
    allow_remote: bool = False,
    names: tuple[str, ...] = (),
    tell: Callable[[str], None] = print,
) -> None:
    """Serve a study until the process is stopped.

    Args:
        root: The folder that `build_study` made.
        host: Where to listen.
        port: Where to listen; 0 takes any free one.
        allow_remote: Whether ``host`` may be reachable from other machines; readers then need a token.
        names: By which further names readers reach this machine.
        tell: Gets one line a page: what it is and its address.

    Raises:
        ConfigError: If the host can be reached from outside and nobody asked for that.
        ExamError: If the study cannot be opened, or the port is taken.
    """
    require(0 <= port <= 65535, "port", "from 0 to 65535", port)
    allowed_hosts(host, port, names, allow_remote)  # refuse before anything is opened
    study = Study.open(root)
    with _listen(host, port) as listener:
        port = int(listener.getsockname()[1])
        lead_token, access_token = new_token(), new_token() if allow_remote else None
        answers = Answers(study.root, study.digest)
        app = create_room(
            study,
            answers,
            hosts=allowed_hosts(host, port, names, allow_remote),
            lead_token=lead_token,
            access_token=access_token,
        )
        reached = names[0] if names else f"[{host}]" if ":" in host else host
        base = f"http://{reached}:{port}"
        tell(f"Readers:    {base}/" + (f"enter?token={quote(access_token)}" if access_token else ""))
        tell(f"Study lead: {base}/lead/enter?token={quote(lead_token)}")
        # No access log: it would hold the tokens. Readers on one machine need no more than one worker.
        config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, lifespan="off")
        try:
            uvicorn.Server(config).run(sockets=[listener])
        finally:
            answers.close()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(128)  # at once: whoever reads the address may come before the server runs
    except OSError as err:
        listener.close()
        raise ExamError(f"Cannot listen on {host} port {port} ({err.strerror}); choose another --port.") from err
    return listener
