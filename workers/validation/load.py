"""Ten documents of 50 pages at once: throughput, lag and memory against limits."""

from __future__ import annotations

from workers.bench.load import LoadPlan, LoadRun, file_name
from workers.bench.load_page import figure_rows
from workers.bench.load_report import LoadReport, load_report
from workers.bench.sample_pdf import sample_pdf
from workers.bench.sampling import Sampler, beside
from workers.bench.scrape import metrics_urls
from workers.validation.context import Context, Limits
from workers.validation.finding import Finding, judged

_MIB = 1024**2


async def documents_at_once(context: Context) -> Finding:
    report = await _run(context)
    evidence = {name: figure for name, figure in figure_rows(report) if name != "plan"}
    good = f"{context.limits.files} documents of {context.limits.pages} pages became ready within the limits"
    return judged(problems_of(report, context.limits), good, **evidence)


async def _run(context: Context) -> LoadReport:
    limits = context.limits
    plan = LoadPlan(limits.files, limits.pages, concurrency=limits.files, limit_s=limits.load_s)
    load = LoadRun(context.api, context.collection, plan, context.folder)
    sampler = Sampler(load, context.read_stack, lambda stack: [*context.metrics, *metrics_urls(stack)])
    async with beside(sampler.watch()):
        await load.run()
    for file in load.files:
        if file.state == "ready":
            number = next(number for number in range(plan.files) if file_name(number) == file.name)
            context.subjects[file.document_id] = sample_pdf(f"{context.collection}/{number}", plan.pages).subjects
    return load_report(
        plan,
        load.files,
        sampler.samples,
        target=context.target.api_url,
        started_at="",
        duration_s=load.elapsed_s,
        is_interrupted=False,
        error_answers={},
    )


def problems_of(report: LoadReport, limits: Limits) -> list[str]:
    problems = []
    if not report.is_good:
        problems.append(f"not all files became ready: {dict(report.states)}, {dict(report.failures)}")
    if report.pages_per_s < limits.pages_per_s:
        problems.append(f"{report.pages_per_s:.2f} pages a second are fewer than {limits.pages_per_s:g}")
    if report.most_lag is not None and report.most_lag > limits.lag:
        problems.append(f"a lag of {report.most_lag:g} records is above {limits.lag:g}")
    for name, rss_bytes in report.most_rss_bytes.items():
        if rss_bytes > limits.memory_bytes:
            problems.append(f"{name} held {rss_bytes / _MIB:.0f} MiB, more than {limits.memory_bytes / _MIB:.0f}")
    return problems
