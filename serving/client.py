"""A client: the same verdicts as from an embedded detector, and the same errors.

The stubs of health and reflection are not imported here, so that this client lives beside others in
one process.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import grpc

from detector.errors import DeadlineExceeded, LedgateError, Unavailable
from protos.ledgate.v1 import classifier_pb2
from serving.answer import ServedVerdicts
from serving.attempts import Attempts
from serving.baseclient import BaseClient, request_template
from serving.closing import Closing
from serving.deadline import Deadline
from serving.modelinfo import ModelInfo
from serving.parts import Parts


class Client(BaseClient, Closing):
    """A connection to one server or several, to be closed; it may be shared between threads.

    Example:
        with Client("localhost:50051") as client:
            verdicts = client.classify(images, timeout_s=1.0)
    """

    def close(self) -> None:
        """Closes the connection; calls under way end as cancelled."""
        self._is_closed = True
        for channel in self._channels:
            channel.close()

    def classify(
        self,
        images: Any,
        *,
        model: str = "",
        timeout_s: float | None = None,
        members: bool = False,
        request_id: str = "",
    ) -> ServedVerdicts:
        """Classifies images and says which look adversarial.

        What is too large for one call is sent in several, a few at a time. All of them are answered by one version of
        the model: where it is replaced meanwhile, some are asked again.

        Args:
            images: (N, C, H, W), or (C, H, W) for one, uint8 or float32 in [0, 1]; or a list of PNG
                or JPEG files as bytes.
            model: Name of a model; by default the server's default.
            timeout_s: For all images together, whatever is tried again; by default the client's.
            members: Whether to return each member's probabilities too.
            request_id: A name for the server's log.

        Returns:
            N verdicts. What the server hides is None.

        Raises:
            InputError: Images that do not fit the model.
            ServiceError: One of its classes, with the server's reason.
        """
        deadline = self._deadline(timeout_s)
        if model not in self._models:
            self._models[model] = self._describe(model, deadline)
        template = request_template(model=model, members=members, request_id=request_id)
        parts = self._parts(images, template, self._models[model])
        while parts.begin():
            if parts.several:
                self._work_together(parts, deadline)
            else:
                self._work(parts, deadline)
        return parts.joined()

    def model(self, name: str = "", *, timeout_s: float | None = None) -> ModelInfo:
        """Asks what a model is.

        Args:
            name: Of the model; by default the server's default.
            timeout_s: By default the client's.

        Raises:
            NotFound: There is no such model.
            ServiceError: One of its classes, with the server's reason.
        """
        return self._describe(name, self._deadline(timeout_s))

    def wait_ready(self, timeout_s: float) -> None:
        """Waits until the server answers calls; of several, until one of them does.

        Raises:
            DeadlineExceeded: It does not in that time; the message says what was found last.
        """
        deadline = Deadline(timeout_s)
        try:
            self._call("GetModel", classifier_pb2.GetModelRequest(), deadline, self._patient_attempts(deadline))
        except (DeadlineExceeded, Unavailable) as error:
            raise self._never_ready(timeout_s, error) from None

    def _begin(self) -> None:
        """Opens the channels."""
        self._open(grpc)

    def _describe(self, name: str, deadline: Deadline) -> ModelInfo:
        """Asks for a model's description."""
        request = classifier_pb2.GetModelRequest(model=name)
        return ModelInfo.read(self._call("GetModel", request, deadline, self._attempts(deadline)))

    def _work_together(self, parts: Parts, deadline: Deadline) -> None:
        """Sends what is left to be sent, a few parts at a time."""
        with ThreadPoolExecutor(self._in_flight, thread_name_prefix="classify") as threads:
            try:
                # In the caller's context, by which its traces know whose calls these are.
                work = [threads.submit(copy_context().run, self._work, parts, deadline) for _ in range(self._in_flight)]
                for done in work:
                    done.result()
            finally:
                parts.stop()

    def _work(self, parts: Parts, deadline: Deadline) -> None:
        """Sends one part after another until none is left, or fewer at a time are enough for the server."""
        parcel = parts.take()
        while parcel is not None:
            sent, attempts = parcel, self._part_attempts(deadline, parts, parcel)
            try:
                reply = self._call("Classify", sent.request, deadline, attempts)
                parcel = parts.put(sent, ServedVerdicts.read(reply, sent.count), attempts.server)
            except LedgateError as error:
                if attempts.handed_over:
                    return
                parts.stop()
                raise self._refused(error, sent) from None

    def _call(self, method: str, request: Any, deadline: Deadline, attempts: Attempts) -> Any:
        """One call, tried as often as it is worth."""
        while True:
            with attempts:
                return self._ask(self._stubs[attempts.server], method, request, deadline)
            time.sleep(attempts.pause_s)

    def _ask(self, stub: Any, method: str, request: Any, deadline: Deadline) -> Any:
        """One try."""
        try:
            return getattr(stub, method)(request, timeout=deadline.remaining_s(), metadata=self._metadata)
        except ValueError:  # what gRPC raises on a closed channel
            raise self._closed() from None
        except grpc.RpcError:
            if self._is_closed:
                raise self._ended() from None
            raise
