"""The capacity model, against the simulation of the benchmarks."""

from __future__ import annotations

import argparse
import json
import re
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from tests.benchmarks import simulate
from tests.support.reference_pages import ROOT
from workers.cli import app
from workers.planning import figures
from workers.planning.capacity import (
    Demand,
    code_bytes_per_page,
    index_bytes_per_page,
    partitions_for,
    plan,
    spread,
)
from workers.planning.figures import Figure, Gpu, assumed_gpu_pages_per_s

demands = pytest.mark.parametrize(
    "demand",
    [
        Demand(1_500_000, Gpu.L4),
        Demand(2_500_000, Gpu.L4, peak_factor=4),
        Demand(4_000_000, Gpu.A100),
        Demand(3_000_000, Gpu.RTX_4090, gpu_pages_per_s=20),
        Demand(600_000, Gpu.H100, gpu_pages_per_s=12, pages_per_document=8),
    ],
    ids=str,
)


def simulated_pages_per_s(demand: Demand, replicas: int) -> float:
    """What the simulation says that `replicas` do: its stations, and its spread of the documents of an hour."""
    options = argparse.Namespace(
        workers=replicas,
        gpu_ms=1000 / demand.device_pages_per_s,
        worker_ms=1000 * figures.WORKER_CPU_S.value,
        worker_cores=ceil(demand.device_pages_per_s * figures.WORKER_CPU_S.value) + 1,
        milvus_ms=1000 * figures.MILVUS_CPU_S.value,
        milvus_cores=10_000,
        milvus_nodes=100,
        s3_ms=1000 * figures.S3_CPU_S.value,
        s3_cores=10_000,
        s3_nodes=100,
        mongo_ms=1000 * figures.MONGO_CPU_S.value,
        mongo_cores=10_000,
        redis_ms=0.05,
        kafka_ms=0.2,
        kafka_cores=10_000,
        link_gbit=10.0,
    )
    capacity = min(station.most_pages_per_s for station in simulate.stations(options))
    documents = round(demand.peak_pages_per_s * 3600 / demand.pages_per_document)
    sigma = figures.PAGES_SIGMA.value
    return capacity * simulate.spread(replicas, partitions_for(replicas), documents, demand.pages_per_document, sigma)


@demands
def test_the_planned_replicas_keep_up_in_the_simulation_and_one_fewer_does_not(demand: Demand) -> None:
    replicas = plan(demand).replicas
    assert replicas > 2
    wanted = demand.peak_pages_per_s / demand.utilisation
    assert simulated_pages_per_s(demand, replicas) >= wanted
    assert simulated_pages_per_s(demand, replicas - 1) < wanted


@demands
def test_the_spread_is_close_to_the_simulated_one_and_not_above_it(demand: Demand) -> None:
    replicas = plan(demand).replicas
    documents = round(demand.peak_pages_per_s * 3600 / demand.pages_per_document)
    simulated = simulate.spread(
        replicas, partitions_for(replicas), documents, demand.pages_per_document, figures.PAGES_SIGMA.value
    )
    assert simulated - 0.06 < spread(demand, replicas) < simulated + 0.01


@given(st.floats(1, 1e8), st.sampled_from(Gpu), st.floats(1, 20))
def test_more_pages_never_need_fewer_replicas(pages: float, gpu: Gpu, factor: float) -> None:
    fewer, more = plan(Demand(pages, gpu, factor)), plan(Demand(2 * pages, gpu, factor))
    assert 1 <= fewer.replicas <= more.replicas
    assert fewer.partitions % fewer.replicas == 0
    assert fewer.partitions >= 10


def test_the_memory_of_milvus_is_the_measured_one_for_the_measured_collection() -> None:
    measured = Demand(9_216, Gpu.L4, kept_days=1, vectors_per_page=731, dim=384)
    assert plan(measured).milvus_memory_bytes == pytest.approx(2_027e6, rel=0.1)
    assert index_bytes_per_page(measured) > 0


def test_archived_pages_need_objects_and_nothing_else() -> None:
    short, long = (plan(Demand(1e5, Gpu.L4, searchable_days=days)) for days in (10, 100))
    assert short.object_bytes == long.object_bytes
    assert long.milvus_memory_bytes == pytest.approx(10 * short.milvus_memory_bytes)
    assert plan(Demand(1e5, Gpu.L4, searchable_days=100, kept_days=10)).mongo_bytes == short.mongo_bytes


def test_sign_codes_take_64_bytes_a_vector_of_384_dimensions() -> None:
    assert code_bytes_per_page(Demand(1, Gpu.L4, vectors_per_page=1, dim=384)) == 64


def test_a_measured_throughput_replaces_the_assumption() -> None:
    assumed, measured = plan(Demand(1e6, Gpu.A100)), plan(Demand(1e6, Gpu.A100, gpu_pages_per_s=5))
    assert assumed.demand.device_pages_per_s == assumed_gpu_pages_per_s(Gpu.A100)
    assert measured.replicas > assumed.replicas
    assert any("never measured" in note for note in assumed.notes)
    assert not any("never measured" in note for note in measured.notes)


def test_the_measured_figures_name_a_section_that_has_their_numbers() -> None:
    found = [figure for figure in vars(figures).values() if isinstance(figure, Figure) and not figure.is_assumed]
    assert len(found) > 8
    for figure in found:
        file, _, heading = figure.source.partition(":")[0].partition(", ")
        path = ROOT / file if file.startswith("tests/") else ROOT / "docs" / file
        text = path.read_text("utf-8")
        section = re.search(rf"^## {re.escape(heading)}.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
        assert section or not heading, figure.source
        for number in re.findall(r"\d[\d,]+\d", figure.source):
            assert number in (section.group() if section else text), f"{number}: {figure.source}"


def test_the_command_prints_the_plan_and_its_assumptions() -> None:
    result = CliRunner().invoke(app, ["plan", "--pages-a-day", "1000000", "--gpu", "l4", "--figures"])
    assert result.exit_code == 0, result.output
    assert "never measured" in result.stdout
    assert "(assumed)" in result.stdout


def test_the_plan_as_json_has_each_number() -> None:
    result = CliRunner().invoke(app, ["plan", "--pages-a-day", "1000000", "--gpu", "h100", "--json"])
    made = json.loads(result.stdout)
    assert made["replicas"] == plan(Demand(1e6, Gpu.H100)).replicas
    assert {
        "partitions",
        "milvus_memory_bytes",
        "mongo_bytes",
        "object_bytes",
        "api_code_bytes",
        "costs",
    } <= made.keys()
