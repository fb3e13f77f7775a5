import pytest

from histoforensics.benchmarks.stages import stage


def count_into(calls):
    def make(folder):
        calls.append(sorted(p.name for p in folder.iterdir()))
        (folder / "made.txt").write_text(str(len(calls)))

    return make


def test_a_stage_is_made_once_while_its_key_is_the_same(tmp_path):
    calls = []
    for _ in range(2):
        folder = stage(tmp_path / "a", {"seed": 1}, count_into(calls))
    assert calls == [[]]
    assert (folder / "made.txt").read_text() == "1"


def test_a_changed_key_makes_the_stage_again_and_replaces_it_whole(tmp_path):
    calls = []
    stage(tmp_path / "a", {"seed": 1}, count_into(calls))
    (tmp_path / "a" / "stale.txt").write_text("x")
    folder = stage(tmp_path / "a", {"seed": 2}, count_into(calls))
    assert len(calls) == 2
    assert not (folder / "stale.txt").exists()


def test_a_killed_stage_is_given_its_own_leftovers_and_others_are_removed(tmp_path):
    def killed(folder):
        (folder / "half.txt").write_text("half")
        raise KeyboardInterrupt

    for seed in (7, 1):
        with pytest.raises(KeyboardInterrupt):
            stage(tmp_path / "a", {"seed": seed}, killed)
    assert not (tmp_path / "a").exists()
    calls = []
    stage(tmp_path / "a", {"seed": 1}, count_into(calls))
    assert calls == [["half.txt"]]
    assert not list(tmp_path.glob("a.partial-*"))
