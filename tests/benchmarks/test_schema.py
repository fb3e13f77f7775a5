"""The schema of results.json: valid itself, true of results, strict where it matters, and told in the docs."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs" / "results.md"

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed; it comes with the extra dev")


@pytest.fixture(scope="module")
def schema():
    return json.loads(files("histoforensics.benchmarks").joinpath("results.schema.json").read_text("utf-8"))


def test_the_schema_is_one_of_draft_2020_12(schema):
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(schema)


def test_results_are_what_the_schema_says(schema, run):
    jsonschema.Draft202012Validator(schema).validate(run.results())


def test_results_without_anything_optional_are_too(schema, run):
    told = run.results(inspection=None, measured=None, placebo={}, raw_placebo=None, generalization={})
    jsonschema.Draft202012Validator(schema).validate(told)


@pytest.mark.parametrize(
    ("key", "value"),
    [("format", 1), ("answer", {"verdict": "maybe", "headline": "", "lines": []}), ("surprise", {}), ("readers", [])],
)
def test_results_of_another_shape_are_refused(schema, run, key, value):
    validator = jsonschema.Draft202012Validator(schema)
    assert not validator.is_valid(run.results() | {key: value})


def test_a_missing_key_is_refused(schema, run):
    told = run.results()
    del told["audit"]
    assert not jsonschema.Draft202012Validator(schema).is_valid(told)


def test_every_key_stands_in_the_docs_with_its_description(schema):
    rows = [line.split(" | ", 1) for line in DOCS.read_text("utf-8").splitlines() if line.startswith("| `")]
    told = {key.strip("| `"): text.removesuffix(" |") for key, text in rows}
    assert told == {key: value["description"] for key, value in schema["properties"].items()}
