"""What Prometheus reads: requests, latencies, batches, the queue, and how many images are flagged.

Labels are methods, gRPC codes, the names and digests of the models served now: never anything that
a caller can choose, so that no caller can fill the memory of who watches.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import version
from typing import Final

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Histogram, Info, ProcessCollector, disable_created_metrics
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from serving.audit import Audit
from serving.calls import Answered
from serving.detecting import Detecting
from serving.model import Model
from serving.scorehistogram import ScoreHistogram
from serving.watching import Run

# From a fast model alone on its machine to a queue that is a minute long.
SECONDS: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
IMAGES: Final = tuple(2.0**power for power in range(11))

# A time of making for every series would double what is sent, and nothing reads it.
disable_created_metrics()  # type: ignore[no-untyped-call]


class _Counts:
    """The counters of one model, looked up once."""

    def __init__(self, metrics: "Metrics", model: str) -> None:
        self.queue = metrics.queue_seconds.labels(model)
        self.compute = metrics.compute_seconds.labels(model)
        self.batch = metrics.batch_images.labels(model)
        self.images = metrics.images.labels(model)
        self.flagged = metrics.flagged.labels(model)


class Metrics(Collector):
    """All metrics of one server.

    Attributes:
        registry: What a scrape reads.
        requests: Answers by method and code.
        request_seconds: From a caller's message to the reply, by method; of streams, for each message.
        queue_seconds: From a request's arrival until its batch runs, decoding included, by model.
        compute_seconds: What a batch takes, by model.
        batch_images: Images in a batch, by model.
        images: Images classified, by model.
        flagged: Of these, those that look adversarial, by model.
        audit: The trail to tell about, if there is one.
    """

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "ledgate_requests", "Answers, those of a stream one by one.", ["method", "code"], registry=registry
        )
        self.request_seconds = Histogram(
            "ledgate_request_seconds", "From message to reply.", ["method"], registry=registry, buckets=SECONDS
        )
        self.queue_seconds = Histogram(
            "ledgate_queue_seconds", "From arrival until the batch runs.", ["model"], registry=registry, buckets=SECONDS
        )
        self.compute_seconds = Histogram(
            "ledgate_compute_seconds", "Run of a batch.", ["model"], registry=registry, buckets=SECONDS
        )
        self.batch_images = Histogram(
            "ledgate_batch_images", "Images in a batch.", ["model"], registry=registry, buckets=IMAGES
        )
        self.images = Counter("ledgate_images", "Images classified.", ["model"], registry=registry)
        self.flagged = Counter(
            "ledgate_flagged_images", "Images flagged: score < threshold.", ["model"], registry=registry
        )
        Info("ledgate_build", "What runs.", registry=registry).info({"version": version("ledgate")})
        ProcessCollector(registry=registry)
        registry.register(self)
        self._lock = threading.Lock()
        self._counts: dict[str, _Counts] = {}
        self._scores: dict[tuple[str, str], ScoreHistogram] = {}
        # Looked up once, since that costs as much as the counting.
        self._answers: dict[tuple[str, object], Counter] = {}
        self._latencies: dict[str, Histogram] = {}
        self._models: Callable[[], Sequence[Model]] = tuple
        self.audit: Audit | None = None

    def watch(self, models: Callable[[], Sequence[Model]]) -> None:
        """Says where to find the models that are served when somebody asks; what counts them begins at 0."""
        self._models = models
        for model in models():
            self._count(model.name)

    def answered(self, answer: Answered) -> None:
        """Counts a call: an observer of `serving.calls`."""
        key = (answer.method, answer.code)
        count = self._answers.get(key)
        if count is None:
            count = self._answers[key] = self.requests.labels(answer.method, answer.code.name)
        count.inc()
        if answer.seconds is not None:
            latency = self._latencies.get(answer.method)
            if latency is None:
                latency = self._latencies[answer.method] = self.request_seconds.labels(answer.method)
            latency.observe(answer.seconds)

    def ran(self, run: Run) -> None:
        """Counts a batch: a watcher of `serving.watching`."""
        counts = self._counts.get(run.model) or self._count(run.model)
        for ticket in run.tickets:
            if ticket.start == 0:  # of a request in parts, the first tells how long it waited
                counts.queue.observe(run.begun_s - ticket.since_s)
        counts.compute.observe(run.ended_s - run.begun_s)
        counts.batch.observe(len(run.verdicts))
        counts.images.inc(len(run.verdicts))
        if run.verdicts.adversarial is not None:
            counts.flagged.inc(int(np.count_nonzero(run.verdicts.adversarial)))
        scores = self._histogram(run.model, run.detector)
        if scores is not None and run.verdicts.score is not None:
            scores.add(run.verdicts.score)

    def collect(self) -> Iterator[Metric]:
        """What is asked of the models when somebody scrapes; their names vanish with them."""
        models = self._models()
        yield _gauge("ledgate_queue_images", "Images that wait.", ((m.name, m.batcher.waiting) for m in models))
        info = InfoMetricFamily(
            "ledgate_model",
            "What is served.",
            labels=["model", "bundle_digest", "calibration_digest", "score", "provider"],
        )
        for model in models:
            info.add_metric(_identity(model.name, model.detector), {})
        yield info
        yield _gauge("ledgate_threshold", "Images with a lower score are flagged.", _thresholds(models))
        if self.audit is not None:
            yield CounterMetricFamily("ledgate_audit_written", "Inputs kept.", self.audit.written)
            yield CounterMetricFamily("ledgate_audit_dropped", "Inputs to be kept that were not.", self.audit.dropped)
        yield from self._collect_scores(models)

    def _count(self, model: str) -> _Counts:
        """The counters of a model, from here on."""
        self._counts[model] = _Counts(self, model)
        return self._counts[model]

    def _collect_scores(self, models: Sequence[Model]) -> Iterator[Metric]:
        """The scores of what was served, and those of the calibration, in the same buckets."""
        served = HistogramMetricFamily("ledgate_score", "Scores of the images served.", labels=["model"])
        clean = HistogramMetricFamily("ledgate_clean_score", "Clean scores of the calibration.", labels=["model"])
        for model in models:
            scores = self._histogram(model.name, model.detector)
            if scores is not None:
                # No sum: minus infinity is a legal score.
                served.add_metric([model.name], scores.served(), None)
                clean.add_metric([model.name], scores.clean(), None)
        with self._lock:  # of calibrations that are gone
            kept = {_key(model.name, model.detector) for model in models}
            self._scores = {key: scores for key, scores in self._scores.items() if key in kept}
        yield served
        yield clean

    def _histogram(self, model: str, detector: Detecting) -> ScoreHistogram | None:
        """The histogram of a model; another calibration is another one. None without a calibration."""
        calibration = detector.bundle.calibration
        if calibration is None:
            return None
        key = _key(model, detector)
        with self._lock:
            if key not in self._scores:
                self._scores[key] = ScoreHistogram(calibration.clean_scores, calibration.threshold)
            return self._scores[key]


def _key(model: str, detector: Detecting) -> tuple[str, str]:
    """A model, and what its scores are compared with."""
    calibration = detector.bundle.calibration
    return model, "" if calibration is None else calibration.digest


def _identity(model: str, detector: Detecting) -> list[str]:
    """The labels of a model's information."""
    bundle = detector.bundle
    calibration = bundle.calibration
    digest, score = ("", "") if calibration is None else (calibration.digest, calibration.score)
    return [model, bundle.digest, digest, score, detector.execution_path.provider]


def _thresholds(models: Sequence[Model]) -> Iterator[tuple[str, float]]:
    """Of the models that have one, and not one for each class."""
    for model in models:
        calibration = model.detector.bundle.calibration
        if calibration is not None and calibration.threshold is not None:
            yield model.name, calibration.threshold


def _gauge(name: str, what: str, values: Iterable[tuple[str, float]]) -> GaugeMetricFamily:
    """A number for each model."""
    family = GaugeMetricFamily(name, what, labels=["model"])
    for model, value in values:
        family.add_metric([model], value)
    return family
