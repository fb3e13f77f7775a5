"""The answers of a study: a SQLite file in which every answer is on disk before its reader hears of it.

Write-ahead logging with full synchronisation: a killed server or a power cut loses nothing that was acknowledged. Only
the log of pages shown is not waited for; a power cut, and nothing less, may cost its last entries.
Answers are only added: a changed mind is a new revision, and the old one stays. Withdrawal is the one thing that
deletes, and then the bytes are overwritten as well.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, Engine, bindparam, create_engine, delete, event, func, insert, select, update
from sqlalchemy.exc import DatabaseError, IntegrityError
from sqlalchemy.orm import Session, sessionmaker

from histoforensics.slides import ExamError

from .answer_tables import Answer, Event, Fact, Person, Table
from .confusion import VERDICTS

FOLDER, FILE = "room", "answers.sqlite3"
WAIT_SECONDS = 20.0  # for another writer
CODE_ALPHABET = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"  # nothing that reads like something else
CODE_LENGTH = 12  # 59 bits
CONFIDENCES = range(1, 7)
LONGEST_NOTE = 2000

Kind = Literal["reads", "writes", "logs"]

# What every page and answer asks: built once, since building a statement takes longer than running it.
_PERSON: Any = bindparam("person")
_SHOWING: Any = bindparam("showing")
_BY_SESSION = select(*Person.__table__.columns).where(Person.session_digest == bindparam("digest"))
_ANSWERED = select(Answer.showing).where(Answer.person_id == _PERSON).distinct()
_STATE = select(
    select(func.count()).where(Answer.person_id == _PERSON, Answer.showing == _SHOWING).scalar_subquery(),
    select(func.max(Event.at)).where(Event.person_id == _PERSON, Event.showing == _SHOWING).scalar_subquery(),
)
_LAST = (
    select(*Answer.__table__.columns)
    .where(Answer.person_id == _PERSON, Answer.showing == _SHOWING)
    .order_by(Answer.revision.desc())
    .limit(1)
)
_SAVE = insert(Answer.__table__)  # type: ignore[arg-type]  # declared as the wider FromClause
_LOG = insert(Event.__table__).from_select(  # type: ignore[arg-type]
    ["person_id", "kind", "showing", "at"],
    select(Person.id, bindparam("kind"), _SHOWING, bindparam("at")).where(Person.id == _PERSON),
)


@dataclass(frozen=True, kw_only=True)
class Given:
    """What a reader answers to one showing."""

    verdict: str
    confidence: int | None = None
    reasons: tuple[str, ...] = ()
    note: str = ""
    client_ms: float | None = None
    shown_as: Mapping[str, object] = field(default_factory=dict)

    def repeats(self, answer: Answer) -> bool:
        """Whether this says nothing that the answer does not say already."""
        mine = (self.verdict, self.confidence, list(self.reasons), self.note)
        return mine == (answer.verdict, answer.confidence, answer.reason_ids, answer.note)

    def check(self, reasons: Mapping[str, str]) -> None:
        """Refuse what the form cannot have sent.

        Raises:
            ExamError: If the verdict, the confidence or a reason is unknown, or the note too long.
        """
        if self.verdict not in VERDICTS:
            raise ExamError(f"An answer is one of {', '.join(VERDICTS)}, got {self.verdict!r}.")
        if self.confidence is not None and self.confidence not in CONFIDENCES:
            raise ExamError(f"Confidence is from 1 to 6, got {self.confidence}.")
        unknown = [name for name in self.reasons if name not in reasons]
        if unknown:
            raise ExamError(f"{unknown[0]!r} is not among the reasons of this study.")
        if len(self.note) > LONGEST_NOTE:
            raise ExamError(f"A note has at most {LONGEST_NOTE} characters, got {len(self.note)}.")


class Answers:
    """The answers file of one study; safe to use from many threads."""

    def __init__(self, root: Path | str, digest: str) -> None:
        """Open or make ``root/room/answers.sqlite3`` for the exam with this digest.

        Raises:
            ExamError: If the file is no database, or holds the answers to another exam.
        """
        self.path = Path(root) / FOLDER / FILE
        self.path.parent.mkdir(exist_ok=True)
        self._engine = _engine(self.path)
        self._engines = {kind: self._engine.execution_options(kind=kind) for kind in ("reads", "writes", "logs")}
        self._sessions = sessionmaker(self._engine, expire_on_commit=False)
        self._turn = threading.Lock()  # SQLite lets waiting writers sleep, and longer each time; a lock wakes the next
        try:
            with self._engines["writes"].begin() as connection:
                Table.metadata.create_all(connection)
        except DatabaseError as err:
            raise ExamError(f"{FOLDER}/{FILE}: not a database of answers ({err.orig}).") from err
        if self._fact("exam", digest) != digest:
            raise ExamError(f"{FOLDER}/{FILE} holds the answers to another exam; move it away or restore that exam.")
        self.secret = bytes.fromhex(self._fact("secret", secrets.token_hex(32)))  # forms outlive a restart by it

    def close(self) -> None:
        """Release the file."""
        self._engine.dispose()

    def join(
        self,
        *,
        role: str,
        years: int,
        consent_version: str,
        session: str | None,
        seed: int | None,
        given: Sequence[tuple[int, str, Given]] = (),
    ) -> Person:
        """The new reader of this session, under a new pseudonym; the same one again where the form was sent twice.

        ``given`` are answers that come with the reader, as (place, showing, answer): all are written, or nothing is.
        """
        with self._writing() as db:
            mine = db.scalar(select(Person).where(Person.session_digest == _digest(session)))
            if session is not None and mine is not None:
                return mine
            number = int(self._count(db, "joined")) + 1
            db.merge(Fact(name="joined", value=str(number)))  # pseudonyms of the withdrawn are not given again
            person = Person(
                name=f"R{number:02d}", role=role, years=years, consent_version=consent_version, joined_at=_now(),
                seed=seed, session_digest=_digest(session), code_digest=None, zoom=None, smooth=False, shortcuts=True,
            )  # fmt: skip
            db.add(person)
            db.flush()
            db.add_all(_row(person, showing, one, place, False, 0, None) for place, showing, one in given)
            return person

    def new_code(self, person: Person) -> str:
        """A return code for this reader, told once and kept as a digest; an older one ends."""
        code = "".join(secrets.choice(CODE_ALPHABET) for _ in range(CODE_LENGTH))
        with self._writing() as db:
            db.get_one(Person, person.id).code_digest = _digest(code)
        return f"{code[:4]}-{code[4:8]}-{code[8:]}"

    def by_session(self, session: str) -> Person | None:
        """Who holds this session."""
        with self._engine.connect() as connection:
            row = connection.execute(_BY_SESSION, {"digest": _digest(session)}).mappings().first()
            return None if row is None else Person(**row)

    def return_with(self, code: str, session: str) -> Person | None:
        """Hand this session to the reader with this return code; it ends for whoever held it."""
        plain = "".join(letter for letter in code.upper() if letter in CODE_ALPHABET)
        with self._writing() as db:
            person = db.scalar(select(Person).where(Person.code_digest == _digest(plain)))
            if person is not None:
                db.execute(update(Person).where(Person.session_digest == _digest(session)).values(session_digest=None))
                person.session_digest = _digest(session)
            return person

    def prefer(self, person: Person, *, zoom: int, smooth: bool, shortcuts: bool) -> None:
        """Keep how a reader likes to look."""
        with self._writing() as db:
            mine = db.get_one(Person, person.id)
            mine.zoom, mine.smooth, mine.shortcuts = zoom, smooth, shortcuts

    def save(self, person: Person, showing: str, given: Given, *, place: int, practice: bool, revision: int) -> bool:
        """Commit an answer; False where this revision is there already, as after a double click or a resent form.

        Raises:
            ExamError: If the revision is not the next one: the page it came from is out of date.
        """
        try:
            with self._changing("writes") as connection:
                known, shown = connection.execute(_STATE, {"person": person.id, "showing": showing}).one()
                if revision > known:
                    raise ExamError(f"Answer {revision} to this patch came before answer {known}; load the page again.")
                if revision < known:
                    return False
                connection.execute(_SAVE, _fields(person, showing, given, place, practice, revision, _since(shown)))
        except IntegrityError as err:
            raise ExamError("This reader has withdrawn; nothing was saved.") from err
        return True

    def log(self, person: Person, kind: str, showing: str) -> None:
        """Write down that something happened, without waiting for the disk."""
        with self._changing("logs") as connection:  # nothing is logged of who has withdrawn
            connection.execute(_LOG, {"person": person.id, "kind": kind, "showing": showing, "at": _now()})

    def answered(self, person: Person) -> frozenset[str]:
        """The showings that one reader has answered; every request asks, so nothing else is read."""
        with self._engine.connect() as connection:
            return frozenset(str(name) for (name,) in connection.execute(_ANSWERED, {"person": person.id}))

    def last(self, person: Person, showing: str) -> Answer | None:
        """The last revision of one answer."""
        with self._engine.connect() as connection:
            found = connection.execute(_LAST, {"person": person.id, "showing": showing}).mappings().first()
            return None if found is None else Answer(**found)

    def withdraw(self, person: Person) -> None:
        """Delete a reader and everything given; what stays is that somebody withdrew."""
        with self._writing() as db:
            db.merge(Fact(name="withdrawn", value=str(int(self._count(db, "withdrawn")) + 1)))
            db.execute(delete(Person).where(Person.id == person.id))  # answers and events go with it
        with self._engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")  # or the log would keep them a while

    def people(self) -> list[Person]:
        """All readers, in the order in which they joined."""
        with self._sessions() as db:
            return list(db.scalars(select(Person).order_by(Person.id)))

    def rows(self) -> list[tuple[Person, Answer]]:
        """Every revision of every answer with its reader, in the order of readers, places and revisions."""
        with self._sessions() as db:
            order = (Person.id, Answer.practice.desc(), Answer.place, Answer.revision)
            joined = select(Person, Answer).join(Answer, Answer.person_id == Person.id).order_by(*order)
            return [(person, answer) for person, answer in db.execute(joined)]

    def events(self, kind: str) -> dict[int, int]:
        """How often each reader, by id, did something of this kind."""
        with self._sessions() as db:
            rows = db.execute(select(Event.person_id, func.count()).where(Event.kind == kind).group_by(Event.person_id))
            return {int(person): int(count) for person, count in rows}

    @property
    def withdrawn(self) -> int:
        """How many readers have withdrawn."""
        with self._sessions() as db:
            return int(self._count(db, "withdrawn"))

    def _fact(self, name: str, value: str) -> str:
        """The stored value; the one given is stored where there is none."""
        with self._writing() as db:
            fact = db.get(Fact, name)
            if fact is None:
                fact = Fact(name=name, value=value)
                db.add(fact)
            return fact.value

    @staticmethod
    def _count(db: Session, name: str) -> str:
        fact = db.get(Fact, name)
        return "0" if fact is None else fact.value

    @contextmanager
    def _writing(self) -> Iterator[Session]:
        with self._turn, self._sessions(bind=self._engines["writes"]) as db, db.begin():
            yield db

    @contextmanager
    def _changing(self, kind: Kind) -> Iterator[Connection]:
        """As `_writing`, for what every answer does: without a session's bookkeeping."""
        with self._turn, self._engines[kind].begin() as connection:
            yield connection


def _engine(path: Path) -> Engine:
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": WAIT_SECONDS})

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # SQLAlchemy's events below say when a transaction begins
        for pragma in ("journal_mode=WAL", "foreign_keys=ON", "secure_delete=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Any) -> None:
        # A writer takes the lock at once: one that reads first and writes later could fail in the middle.
        kind, plain = connection.get_execution_options().get("kind", "reads"), connection.connection.dbapi_connection
        if kind != "reads":
            plain.execute(f"PRAGMA synchronous={'FULL' if kind == 'writes' else 'NORMAL'}")
        plain.execute("BEGIN" if kind == "reads" else "BEGIN IMMEDIATE")

    return engine


def _row(
    person: Person, showing: str, given: Given, place: int, practice: bool, revision: int, server_ms: float | None
) -> Answer:
    return Answer(**_fields(person, showing, given, place, practice, revision, server_ms))


def _fields(
    person: Person, showing: str, given: Given, place: int, practice: bool, revision: int, server_ms: float | None
) -> dict[str, Any]:
    return {
        "person_id": person.id, "showing": showing, "place": place, "practice": practice, "revision": revision,
        "verdict": given.verdict, "confidence": given.confidence, "reasons": json.dumps(list(given.reasons)),
        "note": given.note, "client_ms": given.client_ms, "server_ms": server_ms,
        "shown_as": json.dumps(dict(given.shown_as)), "answered_at": _now(),
    }  # fmt: skip


def _digest(token: str | None) -> str | None:
    return None if token is None else hashlib.sha256(token.encode()).hexdigest()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _since(moment: str | None) -> float | None:
    if moment is None:
        return None
    return round((datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds() * 1000, 1)
