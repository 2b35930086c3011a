"""Where the calls of all services come in: through the gate, and into a model's queue."""

from collections.abc import Sequence
from functools import partial

import grpc

from protos.ledgate.v1 import classifier_pb2
from serving.calls import caller_of, given_id
from serving.config import ServerConfig
from serving.detecting import Detecting
from serving.gate import Gate, OnDrain
from serving.models import Models
from serving.origin import Origin
from serving.rpc import check_wanted, on_end, remaining_s
from serving.stream import Accepted
from serving.watching import Watcher


class Reception:
    """The gate and the models behind it. Nobody is let in before `open`.

    Args:
        config: The server's.
        watchers: Told of every batch that any model has answered.

    Attributes:
        gate: Who is inside.
        models: What is served.
    """

    def __init__(self, config: ServerConfig, watchers: Sequence[Watcher] = ()) -> None:
        self.gate = Gate()
        self.models = Models(config, watchers)

    def open(self, detectors: Sequence[Detecting]) -> None:
        """Serves detectors, the first of them to whoever names none.

        Raises:
            InputError: No detector, or two of one name.
        """
        self.models.open(detectors)
        self.gate.open()

    def enter(self, context: grpc.ServicerContext, on_drain: OnDrain | None = None) -> None:
        """Lets a call in until gRPC has done with it, its reply sent."""
        self.gate.enter(on_drain)
        on_end(context, partial(self.gate.leave, on_drain))

    def accept(
        self, context: grpc.ServicerContext, request: classifier_pb2.ClassifyRequest, *, patient: bool = False
    ) -> Accepted:
        """Checks a request and puts it into its model's queue, for as long as its caller will wait.

        Args:
            context: Of its call.
            request: The message.
            patient: See `Origin`.
        """
        origin = Origin(caller_of(context), given_id(), remaining_s(context), partial(check_wanted, context), patient)
        return self.models.submit(request, origin)

    def drain(self, timeout_s: float) -> int:
        """Lets nobody in any more and waits for the calls inside; returns how many are left."""
        self.models.hurry()
        return self.gate.drain(timeout_s)

    def close(self) -> None:
        """Ends the models; whoever still waits is told so."""
        self.models.close()
