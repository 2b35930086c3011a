"""One model as it is served: what reads its requests, runs them, and writes its replies."""

import time
from collections.abc import Sequence
from contextvars import copy_context
from functools import partial

from detector.errors import PermissionDenied
from detector.verdicts import Verdicts
from protos.ledgate.v1 import classifier_pb2
from serving.batcher import Batcher
from serving.config import Reply, ServerConfig
from serving.detecting import Detecting
from serving.origin import Origin
from serving.replies import ReplyWriter, execution_path
from serving.requestid import check_request_id
from serving.requests import DTYPES, RequestReader
from serving.ticket import Ticket
from serving.watching import Watcher


class Model:
    """A detector behind a queue, from its making until `close`.

    Attributes:
        name: By which it is asked for.
        detector: What answers.
        batcher: Its queue and its threads.
    """

    def __init__(self, detector: Detecting, config: ServerConfig, watchers: Sequence[Watcher] = ()) -> None:
        self.name = detector.bundle.name
        self.detector = detector
        self.batcher = Batcher(detector, config, clock=time.monotonic, watchers=watchers)
        self._config = config
        self._reader = RequestReader(detector.bundle.input, config)
        self._writer = ReplyWriter(detector, config)
        self._description = _describe(detector, config)

    def submit(self, request: classifier_pb2.ClassifyRequest, origin: Origin) -> Ticket:
        """Checks a request and puts it into the queue.

        Args:
            request: The message.
            origin: Where it comes from.

        Raises:
            InputError: The request does not fit.
            PermissionDenied: It asks for the members' probabilities, which this server keeps.
            ResourceExhausted: The queue is full.
            Unavailable: The server has stopped.
        """
        since_s = time.monotonic()
        check_request_id(request.request_id)
        if request.return_member_probabilities and not self._config.allow_members:
            raise PermissionDenied(
                "return_member_probabilities: expected false, found true; this server was started without "
                "--allow-members"
            )
        ticket = Ticket(
            self._reader.images(request, partial(self.batcher.admit, patient=origin.patient), origin.check_wanted),
            caller=origin.caller,
            members=request.return_member_probabilities,
            request_id=request.request_id or origin.given_id,
            since_s=since_s,
            deadline_s=since_s + origin.remaining_s,
            context=copy_context(),
        )
        self.batcher.submit(ticket)
        return ticket

    def reply(self, verdicts: Verdicts, request_id: str) -> classifier_pb2.ClassifyResponse:
        """Verdicts as a message."""
        return self._writer.write(verdicts, request_id)

    def describe(self, available: list[str]) -> classifier_pb2.Model:
        """The model as a message, with the names of all that are served."""
        description = classifier_pb2.Model()
        description.CopyFrom(self._description)
        description.available.extend(available)
        return description


def _describe(detector: Detecting, config: ServerConfig) -> classifier_pb2.Model:
    """What a client may know of a model."""
    bundle = detector.bundle
    spec = bundle.input
    description = classifier_pb2.Model(
        name=bundle.name,
        bundle_digest=bundle.digest,
        members=bundle.member_count,
        labels=bundle.labels,
        input=classifier_pb2.Input(
            shape=spec.shape,
            dtypes=list(DTYPES),
            low=spec.low,
            high=spec.high,
            resizes=spec.resize,
            greys_to_rgb=spec.grey_to_rgb,
        ),
        execution_path=execution_path(detector),
        limits=classifier_pb2.Limits(
            max_images=config.max_images,
            max_message_bytes=config.max_message_bytes,
            max_pixels=config.max_pixels,
        ),
    )
    calibration = bundle.calibration
    if calibration is not None:
        description.calibration_digest = calibration.digest
        description.calibration.score_name = calibration.score
        description.calibration.target = str(calibration.target)
        description.calibration.clean_count = len(calibration.clean_scores)
        if config.reply is Reply.FULL:
            if calibration.threshold is not None:
                description.calibration.threshold = calibration.threshold
            description.calibration.thresholds.extend(calibration.thresholds or ())
    return description
