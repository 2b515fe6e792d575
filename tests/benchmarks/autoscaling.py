"""The scaling rule of deploy/k8s on a generated load, without a cluster.

    python -m tests.benchmarks.autoscaling [--plot docs/autoscaling.png] [--pages-per-s 4] [--start-s 120] [--seed 1]

The rule is read from deploy/k8s/base/scaling.yaml. The autoscaler is modelled as Kubernetes documents it. Every 15 s
it takes the largest of ceil(metric / threshold) over the triggers; while a metric is within 10% of its threshold it
keeps the number. It looks back over the stabilisation windows, and changes the number by at most what the policies
permit.

The load: eight hours with single uploads, a bulk upload of 400 documents after one hour, two hours in which two
workers are just enough, and at last five books of 2,000 pages. Pages of a document are log-normal. A document waits
on the partition of its id; partitions belong to workers in ranges. A worker ingests its oldest four documents side by
side. What a worker that is stopped has not finished goes on at the worker that gets its partitions.

Assumptions: a worker ingests `pages-per-s`, whatever the others do; it is ready `start-s` after it was asked for;
metrics are 30 s old.
"""

from __future__ import annotations

import argparse
import math
import random
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

RULE: Final = Path(__file__).parents[2] / "deploy/k8s/base/scaling.yaml"
_STEP_S: Final = 5
_DECIDE_S: Final = 15
_METRIC_DELAY_S: Final = 30
_HOUR_S: Final = 3600
HOURS: Final = 8
_TOLERANCE: Final = 0.1
_PARTITIONS: Final = 10
_IN_FLIGHT: Final = 4
_MEAN_PAGES: Final = 30.0
_SIGMA: Final = 1.2
_BOOKS, _BOOK_PAGES = 5, 2000
_BULK: Final = 400


@dataclass
class Document:
    arrived_s: float
    pages: float
    partition: int
    begun_s: float | None = None
    left: float = field(init=False)

    def __post_init__(self) -> None:
        self.left = self.pages


@dataclass(frozen=True)
class Rule:
    """What the ScaledObject says."""

    fewest: int
    most: int
    lag_threshold: float
    age_threshold_s: float
    behavior: dict[str, Any]

    @classmethod
    def read(cls) -> Rule:
        spec = next(yaml.safe_load_all(RULE.read_text()))["spec"]
        by_type = {trigger["type"]: trigger["metadata"] for trigger in spec["triggers"]}
        return cls(
            fewest=spec["minReplicaCount"],
            most=spec["maxReplicaCount"],
            lag_threshold=float(by_type["kafka"]["lagThreshold"]),
            age_threshold_s=float(by_type["prometheus"]["threshold"]),
            behavior=spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"],
        )


class Autoscaler:
    """The horizontal autoscaler with the behaviour of a rule."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._wanted: deque[tuple[float, int]] = deque()
        self.changes: list[tuple[float, int]] = []

    def decide(self, now_s: float, replicas: int, lag: float, age_s: float) -> int:
        """The number of replicas from now on."""
        rule = self._rule
        pairs = ((lag, rule.lag_threshold), (age_s, rule.age_threshold_s))
        wanted = max(self._one(metric, threshold, replicas) for metric, threshold in pairs)
        wanted = min(max(wanted, rule.fewest), rule.most)
        up, down = rule.behavior["scaleUp"], rule.behavior["scaleDown"]
        self._wanted.append((now_s, wanted))
        while self._wanted[0][0] < now_s - max(up["stabilizationWindowSeconds"], down["stabilizationWindowSeconds"]):
            self._wanted.popleft()
        lowest = min(self._since(now_s - up["stabilizationWindowSeconds"]))
        highest = max(self._since(now_s - down["stabilizationWindowSeconds"]))
        settled = min(max(replicas, lowest), highest)
        if settled > replicas:
            settled = min(settled, replicas + self._permitted(now_s, up["policies"], grows=True))
        elif settled < replicas:
            settled = max(settled, replicas - self._permitted(now_s, down["policies"], grows=False))
        if settled != replicas:
            self.changes.append((now_s, settled - replicas))
        return settled

    @staticmethod
    def _one(metric: float, threshold: float, replicas: int) -> int:
        if abs(metric / (threshold * replicas) - 1) <= _TOLERANCE:
            return replicas
        return math.ceil(metric / threshold)

    def _since(self, begin_s: float) -> list[int]:
        return [wanted for at_s, wanted in self._wanted if at_s >= begin_s]

    def _permitted(self, now_s: float, policies: list[dict[str, Any]], *, grows: bool) -> int:
        def one(policy: dict[str, Any]) -> int:
            begin_s = now_s - policy["periodSeconds"]
            done = sum(abs(by) for at_s, by in self.changes if at_s > begin_s and (by > 0) is grows)
            return max(policy["value"] - done, 0)

        return max(one(policy) for policy in policies)


def load(seed: int) -> list[Document]:
    """The documents of the eight hours, by arrival."""
    chance = random.Random(seed)
    arrivals: list[float] = []
    for hour in range(HOURS):
        per_hour = 900 if hour in (3, 4) else 60
        arrivals += [hour * _HOUR_S + chance.random() * _HOUR_S for _ in range(per_hour)]
    arrivals += [_HOUR_S + chance.random() * 60 for _ in range(_BULK)]
    mu = math.log(_MEAN_PAGES) - _SIGMA**2 / 2  # the mean of a log-normal is exp(mu + sigma^2 / 2)
    documents = [
        Document(at_s, math.ceil(chance.lognormvariate(mu, _SIGMA)), chance.randrange(_PARTITIONS))
        for at_s in arrivals
    ]
    documents += [Document(6 * _HOUR_S + 10 * n, _BOOK_PAGES, chance.randrange(_PARTITIONS)) for n in range(_BOOKS)]
    return sorted(documents, key=lambda document: document.arrived_s)


@dataclass
class Course:
    """What happened: one value for each step, and the waiting times of all documents."""

    times_s: list[float] = field(default_factory=list)
    replicas: list[int] = field(default_factory=list)
    lag: list[int] = field(default_factory=list)
    oldest_s: list[float] = field(default_factory=list)
    waited_s: list[float] = field(default_factory=list)
    changes: list[tuple[float, int]] = field(default_factory=list)

    def flaps(self, within_s: float = 900.0) -> int:
        """Changes that take back the one before within `within_s`."""
        pairs = zip(self.changes, self.changes[1:], strict=False)
        return sum(1 for (at_s, by), (then_s, then_by) in pairs if by * then_by < 0 and then_s - at_s < within_s)


def simulate(rule: Rule, pages_per_s: float, start_s: float, seed: int) -> Course:
    """Run the load until eight hours are over and nothing waits."""
    coming, open_documents = deque(load(seed)), list[Document]()
    scaler, course = Autoscaler(rule), Course()
    ready_s = [0.0] * rule.fewest  # of each worker: when it takes partitions
    now_s = 0.0
    while now_s < HOURS * _HOUR_S or open_documents:
        while coming and coming[0].arrived_s <= now_s:
            open_documents.append(coming.popleft())
        _work(open_documents, [at_s for at_s in ready_s if at_s <= now_s], now_s, pages_per_s, course)
        open_documents = [document for document in open_documents if document.left > 0]
        waiting = [document for document in open_documents if document.begun_s is None]
        course.times_s.append(now_s)
        course.replicas.append(len(ready_s))
        course.lag.append(len(open_documents))
        course.oldest_s.append(max((now_s - document.arrived_s for document in waiting), default=0.0))
        if now_s % _DECIDE_S == 0:
            seen = max(0, len(course.times_s) - 1 - _METRIC_DELAY_S // _STEP_S)
            wanted = scaler.decide(now_s, len(ready_s), course.lag[seen], course.oldest_s[seen])
            ready_s = ready_s[:wanted] + [now_s + start_s] * (wanted - len(ready_s))
        now_s += _STEP_S
    course.changes = scaler.changes
    return course


def _work(documents: list[Document], ready: list[float], now_s: float, pages_per_s: float, course: Course) -> None:
    """One step of all workers: each shares its rate among its oldest documents."""
    workers = max(len(ready), 1)
    for worker in range(workers):
        mine = [one for one in documents if one.partition * workers // _PARTITIONS == worker][:_IN_FLIGHT]
        budget = pages_per_s * _STEP_S
        for number, document in enumerate(mine):
            if document.begun_s is None:
                document.begun_s = now_s
                course.waited_s.append(now_s - document.arrived_s)
            done = min(document.left, budget / (len(mine) - number))
            document.left -= done
            budget -= done


def save_plot(course: Course, rule: Rule, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7), layout="constrained")
    hours = [at_s / _HOUR_S for at_s in course.times_s]
    lag, age, workers = figure.subplots(3, 1, sharex=True)
    lag.plot(hours, course.lag, color="C0")
    lag.set_ylabel("documents that are\nnot finished")
    age.plot(hours, [at_s / 60 for at_s in course.oldest_s], color="C3")
    age.set_ylabel("oldest waiting\ndocument (min)")
    workers.step(hours, course.replicas, color="C2", where="post")
    workers.set_ylabel("workers")
    workers.set_ylim(0, rule.most + 0.5)
    workers.set_xlabel("hours")
    for axes in (lag, age, workers):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def quantile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--pages-per-s", type=float, default=4.0, help="of one worker")
    parser.add_argument(
        "--start-s", type=float, default=120.0, help="from the decision until a worker takes partitions"
    )
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rule = Rule.read()
    course = simulate(rule, options.pages_per_s, options.start_s, options.seed)
    print(f"documents {len(course.waited_s)}, last one finished after {course.times_s[-1] / _HOUR_S:.1f} h")
    print(f"changes of the number of workers {len(course.changes)}, taken back within 15 min {course.flaps()}")
    waited = [f"{share:g}: {quantile(course.waited_s, share) / 60:.1f} min" for share in (0.5, 0.95, 1.0)]
    print(f"wait until an attempt begins, by quantile: {', '.join(waited)}")
    mean = sum(course.replicas) / len(course.replicas)
    print(f"workers on average {mean:.2f}, at most {max(course.replicas)}, at the end {course.replicas[-1]}")
    if options.plot:
        save_plot(course, rule, options.plot)


if __name__ == "__main__":
    main()
