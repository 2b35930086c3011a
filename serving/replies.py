"""Verdicts as a reply: what a caller is told, and what the server keeps to itself."""

from typing import Any

from detector.scores import DEFAULT_SCORE
from detector.verdicts import Verdicts
from protos.ledgate.v1 import classifier_pb2
from serving.config import Reply, ServerConfig
from serving.detecting import Detecting


class ReplyWriter:
    """Writes the replies of one model.

    Args:
        detector: The model.
        config: What is told: `reply`.
    """

    def __init__(self, detector: Detecting, config: ServerConfig) -> None:
        bundle = detector.bundle
        self._full = config.reply is Reply.FULL
        # What all replies have in common, made once.
        self._head = classifier_pb2.ClassifyResponse(
            model=bundle.name,
            bundle_digest=bundle.digest,
            score_name=DEFAULT_SCORE,
            execution_path=execution_path(detector),
        )
        if bundle.calibration is not None:
            self._head.calibration_digest = bundle.calibration.digest
            self._head.score_name = bundle.calibration.score
            if self._full:
                limit = bundle.calibration.limit
                if limit.overall is not None:
                    self._head.threshold = limit.overall
                self._head.thresholds.extend(limit.by_class or ())

    def write(self, verdicts: Verdicts, request_id: str) -> classifier_pb2.ClassifyResponse:
        """The reply: one result for each image, in order."""
        reply = classifier_pb2.ClassifyResponse()
        reply.CopyFrom(self._head)
        reply.request_id = request_id
        for index, (label, name) in enumerate(zip(verdicts.labels.tolist(), verdicts.class_names, strict=True)):
            result = reply.results.add(class_index=label, label=name)
            result.probabilities.extend(verdicts.probabilities[index].tolist())
            if verdicts.recalibrated_probabilities is not None:
                result.recalibrated_probabilities.extend(verdicts.recalibrated_probabilities[index].tolist())
            if verdicts.adversarial is not None:
                result.adversarial = bool(verdicts.adversarial[index])
            if verdicts.member_probabilities is not None:
                result.member_probabilities.extend(verdicts.member_probabilities[index].ravel().tolist())
            if self._full:
                _tell_scores(result, verdicts, index)
        return reply


def execution_path(detector: Detecting) -> classifier_pb2.ExecutionPath:
    """Where and how the members run, as a message."""
    path = detector.execution_path
    return classifier_pb2.ExecutionPath(provider=path.provider, dtype=path.dtype, tf32=path.tf32)


def _tell_scores(result: Any, verdicts: Verdicts, index: int) -> None:
    """What an attacker would like to know, too."""
    if verdicts.log_diversity is not None:
        result.log_diversity = verdicts.log_diversity[index]
    if verdicts.score is not None:
        result.score = verdicts.score[index]
    if verdicts.p_values is not None:
        result.p_value = verdicts.p_values[index]
