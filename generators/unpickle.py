"""Read pickled data without unpickling it: nothing that a file carries or names is ever imported, called or run.

`pickletools` splits the stream into operations, and the loop below carries them out on plain values. A name in the
stream (``os.system``, ``torch._utils._rebuild_parameter``) stays two words; it stands for something only if the caller
lists it, and then for a function of ours. There is no way from a name to an import.

Memory and time are bounded: a length is believed only as far as the stream reaches, positions of the memo are keys of a
dict and not sizes, only numbers and words are hashed, and operations, stack and marks are counted.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Protocol, runtime_checkable

MAX_OPERATIONS = 1_000_000  # a StyleGAN2 snapshot of 256 px with G, D and G_ema takes some 22,000
MAX_STACK = 50_000  # values that wait to be put into a container; Python's own writer leaves at most a few thousand
MAX_MARKS = 500  # containers open inside each other
MAX_INTEGER_BITS = 128
MAX_KEY_BITS = 32  # chosen larger integers could share one hash, and make a dict as slow as a list

INTEGERS = frozenset(["INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"])
NUMBERS = INTEGERS | {"FLOAT", "BINFLOAT"}
WORDS = frozenset(["UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"])
BYTES = frozenset(["BINBYTES", "SHORT_BINBYTES", "BINBYTES8"])
LITERALS = NUMBERS | WORDS | BYTES
CONSTANTS: Mapping[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False, "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set,
}  # fmt: skip
BROKEN = (ValueError, IndexError, KeyError, OverflowError, struct.error)  # what pickletools raises on a broken stream

Builder = Callable[[tuple[Any, ...]], Any]  # the arguments in the stream -> a value of ours


class Refused(Exception):
    """Why a file is not read: the end of a sentence that begins with the file's name."""


@runtime_checkable
class Buildable(Protocol):
    """A value of ours that takes what the stream calls its state."""

    def build(self, state: Any) -> None:
        """Take the state or raise `Refused`."""


@dataclass(frozen=True)
class Name:
    """A dotted name in the stream: two words, and never what they name."""

    dotted: str


@dataclass
class Budget:
    """What a file may still ask for; its nested parts draw on the same."""

    nbytes: int  # of nested parts: the same one may be named again and again, and be copied each time
    operations: int = MAX_OPERATIONS

    def spend(self) -> None:
        """Count one operation."""
        self.operations -= 1
        if self.operations < 0:
            raise Refused("asks for more operations than any checkpoint needs")

    def open(self, part: bytes) -> BytesIO:
        """Open a nested part; all of them together cannot be larger than the file."""
        self.nbytes -= len(part)
        if self.nbytes < 0:
            raise Refused("claims more numbers than it holds")
        return BytesIO(part)


class DataReader:
    """Reads one pickle from ``stream``; it ends where the pickle ends.

    Args:
        stream: In memory, so that no length can reach beyond it.
        known: What names stand for, by dotted name: a function of ours, or None for a name that may only be mentioned.
        budget: Shared with the file's other parts.
        persistent: Turns a persistent id into a value; None refuses them.
    """

    def __init__(
        self,
        stream: BytesIO,
        known: Mapping[str, Builder | None],
        budget: Budget,
        persistent: Callable[[Any], Any] | None = None,
    ) -> None:
        self.stream, self.known, self.budget, self.persistent = stream, known, budget, persistent
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # the stacks that wait under each mark
        self.memo: dict[int, Any] = {}

    def read(self) -> Any:
        """Return the pickle's value: None, numbers, words, bytes, lists, tuples, dicts, sets, `Name`, values of ours.

        Raises:
            Refused: The stream is broken, too demanding, or names what is not ``known``.
        """
        for operation, argument in self._operations():
            self.budget.spend()
            if len(self.stack) > MAX_STACK or len(self.below) > MAX_MARKS:
                raise Refused("is nested too deeply")
            if operation == "STOP":
                break
            self._carry_out(operation, argument)
        return self._pop()

    def _operations(self) -> Iterator[tuple[str, Any]]:
        operations = pickletools.genops(self.stream)
        while True:
            try:
                opcode, argument, _ = next(operations)
            except StopIteration:
                return
            except BROKEN as err:
                raise Refused("is damaged, cut short or not a pickle") from err
            yield opcode.name, argument

    def _carry_out(self, operation: str, argument: Any) -> None:
        if operation in LITERALS:
            if operation in INTEGERS and argument.bit_length() > MAX_INTEGER_BITS:
                raise Refused("holds an integer beyond all use")
            self.stack.append(argument)
        elif operation in CONSTANTS:
            self.stack.append(CONSTANTS[operation]())
        elif operation in ("PUT", "BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self._top()
        elif operation == "MEMOIZE":
            self.memo[len(self.memo)] = self._top()
        elif operation in ("GET", "BINGET", "LONG_BINGET"):
            if argument not in self.memo:
                raise Refused("is damaged: it refers to a value that it does not hold")
            self.stack.append(self.memo[argument])
        elif not self._fill_container(operation) and not self._make(operation, argument):
            raise Refused(f"uses the pickle operation {operation}, which no checkpoint of these projects needs")

    def _fill_container(self, operation: str) -> bool:
        match operation:
            case "APPEND":
                value = self._pop()
                self._top_as(list).append(value)
            case "APPENDS":
                values = self._to_mark()
                self._top_as(list).extend(values)
            case "ADDITEMS":
                keys = [_key(value) for value in self._to_mark()]
                self._top_as(set).update(keys)
            case "SETITEM":
                value, key = self._pop(), self._pop()
                self._top_as(dict)[_key(key)] = value
            case "SETITEMS":
                items = _pairs(self._to_mark())
                self._top_as(dict).update(items)
            case "BUILD":
                self._build(self._pop(), self._top())
            case _:
                return False
        return True

    def _make(self, operation: str, argument: Any) -> bool:
        match operation:
            case "PROTO" | "FRAME":  # a hint for fast readers, of no use here
                pass
            case "MARK":
                self.below.append(self.stack)
                self.stack = []
            case "POP":
                self._pop()
            case "POP_MARK":
                self._to_mark()
            case "TUPLE":
                items = tuple(self._to_mark())  # first: it brings back the stack below the mark
                self.stack.append(items)
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                values = [self._pop() for _ in range(int(operation[-1]))]
                self.stack.append(tuple(reversed(values)))
            case "LIST":
                values = self._to_mark()
                self.stack.append(values)
            case "DICT":
                pairs = _pairs(self._to_mark())
                self.stack.append(pairs)
            case "GLOBAL":
                self._name(argument.replace(" ", "."))
            case "STACK_GLOBAL":
                name, module = self._pop(), self._pop()
                if not (isinstance(name, str) and isinstance(module, str)):
                    raise Refused("is damaged: a name in it is not text")
                self._name(f"{module}.{name}")
            case "REDUCE" | "NEWOBJ":
                arguments, name = self._pop(), self._pop()
                self.stack.append(self._call(name, arguments))
            case "BINPERSID" if self.persistent is not None:
                self.stack.append(self.persistent(self._pop()))
            case _:
                return False
        return True

    def _name(self, dotted: str) -> None:
        if dotted not in self.known:
            raise Refused(f"asks for {shown(dotted)}, which no checkpoint of these projects needs; nothing was run")
        self.stack.append(Name(dotted))

    def _call(self, name: Any, arguments: Any) -> Any:
        builder = self.known.get(name.dotted) if isinstance(name, Name) else None
        if builder is None:
            what = shown(name.dotted) if isinstance(name, Name) else "something that is not a function"
            raise Refused(f"wants {what} called, which no checkpoint of these projects needs; nothing was run")
        if not isinstance(arguments, tuple):
            raise Refused("is damaged: the arguments of a call in it are no tuple")
        return builder(arguments)

    def _build(self, state: Any, target: Any) -> None:
        if isinstance(target, Buildable) and not isinstance(target, type):
            target.build(state)
        elif not (isinstance(target, dict) and isinstance(state, dict)):  # attributes of a state dict: not needed
            raise Refused("is damaged: it gives a state to a value that takes none")

    def _top(self) -> Any:
        if not self.stack:
            raise Refused("is damaged: it takes a value from an empty stack")
        return self.stack[-1]

    def _top_as(self, kind: type) -> Any:
        if not isinstance(self._top(), kind):
            raise Refused(f"is damaged: it puts items into something that is not a {kind.__name__}")
        return self.stack[-1]

    def _pop(self) -> Any:
        value = self._top()
        self.stack.pop()
        return value

    def _to_mark(self) -> list[Any]:
        if not self.below:
            raise Refused("is damaged: it closes a container that it never opened")
        values, self.stack = self.stack, self.below.pop()
        return values


def shown(word: str) -> str:
    """A word of a foreign file as an error message may show it: printable and short."""
    clean = "".join(c if c.isprintable() else "?" for c in word)
    return clean if len(clean) <= 80 else clean[:77] + "..."


def _key(value: Any) -> str | int | None:
    """Only what hashes in one step: a hash of nested tuples would recurse, in C and unchecked."""
    if value is None or isinstance(value, str) or (isinstance(value, int) and value.bit_length() <= MAX_KEY_BITS):
        return value
    raise Refused("is damaged: a key in it is neither text nor a small number")


def _pairs(values: list[Any]) -> dict[Any, Any]:
    if len(values) % 2:
        raise Refused("is damaged: a key in it has no value")
    return {_key(key): value for key, value in zip(values[::2], values[1::2], strict=True)}
