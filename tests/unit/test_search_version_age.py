"""For how long a collection has been seen unchanged."""

from __future__ import annotations

from dataclasses import replace

from ingestion.catalogue.generations import Binding, Generation
from ingestion.ports import Searchable
from ingestion.search.version_age import VersionAge

NOW = Searchable(Binding("c", Generation(1, "model", 2)), "7")


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_version_counts_from_when_it_was_first_seen() -> None:
    clock = Clock()
    version_age = VersionAge(clock)
    seen = []
    for step_s in (0.0, 5.0, 20.0):
        clock.now_s += step_s
        seen.append(version_age.stable_for_s(NOW))
    assert seen == [0.0, 5.0, 25.0]


def test_another_version_or_other_vectors_begin_anew() -> None:
    clock = Clock()
    version_age = VersionAge(clock)
    switched = replace(NOW, binding=Binding("c", Generation(2, "other", 2)))
    for view in (NOW, replace(NOW, version="8"), switched):
        assert version_age.stable_for_s(view) == 0.0
        clock.now_s += 60.0
    assert version_age.stable_for_s(switched) == 60.0


def test_while_a_document_may_become_ready_nothing_stands() -> None:
    clock = Clock()
    version_age = VersionAge(clock)
    version_age.stable_for_s(NOW)
    clock.now_s += 60.0
    assert version_age.stable_for_s(replace(NOW, version=None)) == 0.0
    assert version_age.stable_for_s(NOW) == 0.0


def test_collections_do_not_count_for_each_other() -> None:
    clock = Clock()
    version_age = VersionAge(clock)
    version_age.stable_for_s(NOW)
    clock.now_s += 60.0
    assert version_age.stable_for_s(replace(NOW, binding=replace(NOW.binding, collection="d"))) == 0.0
    assert version_age.stable_for_s(NOW) == 60.0
