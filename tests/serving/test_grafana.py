"""The dashboard asks for what the server tells, by its names and labels, and shows all of it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from detector.detector import Detector
from protos.ledgate.v1 import classifier_pb2_grpc
from serving.audit import AuditConfig
from tests.serving.conftest import request
from tests.serving.operating import Samples, operated, scrape

DASHBOARD = Path(__file__).resolve().parents[2] / "docs/grafana/ledgate.json"
# Words of PromQL, and what Grafana and Prometheus add.
NOT_METRICS = {"sum", "max", "by", "rate", "increase", "histogram_quantile", "ignoring", "group_left", "label_values"}
ADDED_LABELS = {"job", "instance"}


def dashboard() -> Any:
    return json.loads(DASHBOARD.read_text("utf-8"))


def queries() -> Iterator[str]:
    board = dashboard()
    for panel in board["panels"]:
        yield from (target["expr"] for target in panel["targets"])
    yield from (variable["query"] for variable in board["templating"]["list"] if variable["type"] == "query")


def metrics_of(query: str) -> set[str]:
    """The names in it that are neither words of PromQL nor labels."""
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]|(by|ignoring) \([^)]*\)|\$\w+", " ", query)
    bare = re.sub(r"label_values\((\w+), \w+\)", r"\1", bare)
    return set(re.findall(r"[a-z_]+[a-z]", bare)) - NOT_METRICS


def labels_of(query: str) -> set[str]:
    """The labels it selects and groups by."""
    selected = re.findall(r"(\w+)=~?\"", query)
    grouped = [name for names in re.findall(r"(?:by|ignoring) \(([^)]*)\)", query) for name in names.split(", ")]
    return {*selected, *grouped, *re.findall(r"label_values\(\w+, (\w+)\)", query)}


@pytest.fixture(scope="module")
def found(tiny: Detector, tmp_path_factory: pytest.TempPathFactory) -> Samples:
    audit = AuditConfig(folder=tmp_path_factory.mktemp("audit"))
    with operated(tiny, metrics_port=0, audit=audit) as (server, operations):
        with grpc.insecure_channel(server.address) as channel:
            classifier_pb2_grpc.ClassifierStub(channel).Classify(request(1))  # type: ignore[no-untyped-call]
        server.stop()
        return scrape(operations)


def test_every_metric_of_a_query_is_there_with_its_labels(found: Samples) -> None:
    known: dict[str, set[str]] = {}
    for name, labels in found:
        known.setdefault(name, set()).update(dict(labels))
    assert len(list(queries())) > 10
    for query in queries():
        assert metrics_of(query), query
        assert metrics_of(query) <= set(known), query
        assert labels_of(query) - ADDED_LABELS <= set().union(*(known[name] for name in metrics_of(query))), query


def test_every_metric_of_ours_is_shown(found: Samples) -> None:
    ours = {re.sub(r"_(bucket|count|sum)$", "", name) for name, _ in found if name.startswith("ledgate_")}
    shown = {re.sub(r"_(bucket|count|sum)$", "", name) for query in queries() for name in metrics_of(query)}
    assert ours <= shown


def test_the_test_sees_what_is_not_there() -> None:
    query = 'sum by (le, nope) (rate(ledgate_nope_total{job=~"$job"}[5m])) / up'
    assert metrics_of(query) == {"ledgate_nope_total", "up"}
    assert labels_of(query) == {"le", "nope", "job"}


def test_panels_have_a_place_and_a_number_of_their_own() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}) == len(panels)
