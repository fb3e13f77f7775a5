"""The reader of pickled data: what Python's own reader would give for plain values, one refusal for all else."""

from __future__ import annotations

import builtins
import os
import pickle
import pickletools
import struct
import subprocess
import tracemalloc
from contextlib import contextmanager, suppress
from io import BytesIO

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from histoforensics.generators.unpickle import Budget, DataReader, Refused, shown

KEYS = st.text() | st.integers(-(2**31) + 1, 2**31 - 1) | st.none()
LEAVES = st.none() | st.booleans() | st.integers(-(2**100), 2**100) | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    LEAVES | st.binary() | st.sets(KEYS),
    lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner) | st.tuples(inner, inner, inner) | st.tuples(inner),
    max_leaves=30,
)


def read(data, known=None, **limits):
    return DataReader(BytesIO(data), known or {}, Budget(len(data), **limits)).read()


@contextmanager
def disarmed():
    """Whatever could run or import what a file names fails loudly meanwhile."""

    def alarm(*_, **__):
        raise AssertionError("something of the file was run")

    with pytest.MonkeyPatch.context() as patch:
        for owner, name in (
            (os, "system"), (subprocess, "Popen"), (pickle, "loads"), (pickle, "load"), (pickle, "Unpickler"),
            (torch, "load"), (builtins, "exec"), (builtins, "eval"),
        ):  # fmt: skip
            patch.setattr(owner, name, alarm)
        yield


# --- plain values ---


@given(VALUES, st.integers(3, 5))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_plain_values_are_read_as_python_reads_them(value, protocol):
    data = pickle.dumps(value, protocol)
    known = {"builtins.set": lambda arguments: set(*arguments)}  # how protocol 3 writes a set
    found = DataReader(BytesIO(data), known, Budget(len(data))).read()
    assert repr(found) == repr(pickle.loads(data))  # repr: 1 and True are equal


def test_a_value_that_holds_itself_and_one_held_twice_are_read():
    endless, twice = [], {"a": 1}
    endless.append(endless)
    found = read(pickle.dumps((endless, twice, twice)))
    assert found[0][0] is found[0]
    assert found[1] is found[2]


def test_a_name_may_be_mentioned_without_a_call():
    known = {"numpy.ndarray": None}
    assert read(b"cnumpy\nndarray\n.", known).dotted == "numpy.ndarray"
    with pytest.raises(Refused, match=r"wants numpy\.ndarray called"):
        read(b"cnumpy\nndarray\n)R.", known)
    with pytest.raises(Refused, match="the arguments of a call in it are no tuple"):
        read(b"cnumpy\ndtype\n]R.", {"numpy.dtype": list})


def test_the_stream_is_left_where_the_pickle_ends():
    stream = BytesIO(pickle.dumps(1) + pickle.dumps("two") + b"rest")
    assert [DataReader(stream, {}, Budget(99)).read() for _ in range(2)] == [1, "two"]
    assert stream.read() == b"rest"


def test_a_known_name_is_a_function_of_the_callers():
    data = pickle.dumps(np.dtype("f4"), 2)
    with pytest.raises(Refused, match=r"asks for numpy\.dtype"):
        read(data)

    class Made:
        def __init__(self, arguments):
            self.arguments = arguments

        def build(self, state):
            self.state = state

    found = read(data, {"numpy.dtype": Made})
    assert found.arguments[0] == "f4"
    assert found.state[1] == "<"


# --- hostile streams ---

NESTED = b")" + b"\x85" * 100_000  # a tuple in a tuple in a tuple ...


class Runs:
    def __init__(self, function, *arguments):
        self.reduced = (function, arguments)

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    ("function", "argument", "name"),
    [
        (os.system, "touch ran", r"(posix|nt)\.system"),
        (eval, "1", r"(builtins|__builtin__)\.eval"),
        (pickle.loads, "N.", r"_?pickle\.loads"),
        (getattr, "x", r"(builtins|__builtin__)\.getattr"),
    ],
)
def test_a_call_of_anything_unknown_is_refused_by_its_name(function, argument, name, protocol):
    data = pickle.dumps([1, Runs(function, argument)], protocol)
    with (
        disarmed(),
        pytest.raises(Refused, match=f"asks for {name}, which no checkpoint of these projects needs; nothing was run"),
    ):
        read(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "damaged, cut short or not a pickle"),
        (b"\x80\x04", "damaged, cut short"),
        (b"not a pickle at all", "damaged, cut short"),
        (b"N", "damaged, cut short"),
        (b".", "takes a value from an empty stack"),
        (b"a.", "takes a value from an empty stack"),
        (b"NNa.", "puts items into something that is not a list"),
        (b"NNNs.", "puts items into something that is not a dict"),
        (b"t.", "closes a container that it never opened"),
        (b"h\x07.", "refers to a value that it does not hold"),
        (b"}(Nu.", "a key in it has no value"),
        (b"}]Ns.", "a key in it is neither text nor a small number"),
        (b"NNb.", "gives a state to a value that takes none"),
        (b"N)R.", "wants something that is not a function called"),
        (b"K\x01K\x02\x93.", "a name in it is not text"),
        (b"(ios\nsystem\n.", "uses the pickle operation INST"),
        (b"(cos\nsystem\no.", r"asks for os\.system"),
        (b"\x82\x01.", "uses the pickle operation EXT1"),
        (b"Px\n.", "uses the pickle operation PERSID"),
        (b"NQ.", "uses the pickle operation BINPERSID"),
        (b"\x97.", "uses the pickle operation NEXT_BUFFER"),
        (b"I" + b"9" * 5000 + b"\n.", "damaged, cut short"),
        (b"\x8b" + struct.pack("<i", 200) + b"\x7f" * 200 + b".", "an integer beyond all use"),
        (b"}" + NESTED + b"Ns.", "a key in it is neither text nor a small number"),
        (b"\x8f(" + NESTED + b"\x90.", "a key in it is neither text nor a small number"),
        (b"(" * 1000 + b".", "nested too deeply"),
        (b"N" * 60_000 + b".", "nested too deeply"),
    ],
)
def test_broken_and_hostile_streams_are_refused(data, message):
    with disarmed(), pytest.raises(Refused, match=message):
        read(data)


@pytest.mark.parametrize(
    "data",
    [
        b"\x8e" + struct.pack("<Q", 2**60) + b"abc.",  # so many bytes
        b"\x8d" + struct.pack("<Q", 2**62) + b"abc.",  # so much text
        b"B" + struct.pack("<I", 2**32 - 1) + b"abc.",
        b"X" + struct.pack("<I", 2**32 - 1) + b"abc.",
        b"\x8b" + struct.pack("<i", 2**31 - 1) + b"abc.",
        b"\x96" + struct.pack("<Q", 2**60) + b"abc.",
        b"\x95" + struct.pack("<Q", 2**63 - 1) + b"N",  # a frame
        b"Nr" + struct.pack("<I", 2**32 - 1) + b"0",  # this position of the memo
    ],
)
def test_a_huge_claim_takes_no_memory(data):
    tracemalloc.start()
    try:
        with pytest.raises(Refused):
            read(data)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_operations_are_counted_over_all_parts():
    budget = Budget(99, operations=10)
    assert DataReader(BytesIO(b"N0N0N0N."), {}, budget).read() is None
    with pytest.raises(Refused, match="more operations than any checkpoint needs"):
        DataReader(BytesIO(b"N0N0N0N."), {}, budget).read()


def test_parts_that_are_named_again_and_again_are_counted():
    budget = Budget(10)
    assert budget.open(b"123456").read() == b"123456"
    with pytest.raises(Refused, match="claims more numbers than it holds"):
        budget.open(b"123456")


def test_deep_nesting_alone_neither_recurses_nor_fails():
    value = read(NESTED + b".")
    for _ in range(100_000):
        (value,) = value
    assert value == ()


@given(st.lists(st.sampled_from(pickletools.opcodes) | st.binary(max_size=9), max_size=40))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_any_sequence_of_operations_gives_a_value_or_a_refusal(pieces):
    data = b"".join(piece if isinstance(piece, bytes) else piece.code.encode("latin1") for piece in pieces) + b"."
    with disarmed(), suppress(Refused):
        read(data, {"": lambda arguments: arguments}, operations=10_000)


def test_words_of_a_file_are_shown_short_and_printable():
    assert shown("a\x1b[31m\nb") == "a?[31m?b"
    assert len(shown("x" * 500)) == 80
