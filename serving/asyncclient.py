"""The client for asyncio: what `Client` does, with `await`."""

import asyncio
from types import TracebackType
from typing import Any, Self

import grpc

from detector.errors import DeadlineExceeded, InputError, LedgateError, Unavailable
from protos.ledgate.v1 import classifier_pb2
from serving.answer import ServedVerdicts
from serving.attempts import Attempts
from serving.baseclient import BaseClient, request_template
from serving.deadline import Deadline
from serving.modelinfo import ModelInfo
from serving.parts import Parts


class AsyncClient(BaseClient):
    """A connection to one server or several, to be closed; it may be shared between the tasks of one event loop.

    A task that is cancelled takes its calls back, and the servers do not do their work.

    Example:
        async with AsyncClient("localhost:50051") as client:
            verdicts = await client.classify(images, timeout_s=1.0)
    """

    # gRPC ties a channel to the event loop in which it is made, so they are made by the first call.
    _loop: asyncio.AbstractEventLoop | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection; calls under way end as cancelled."""
        self._is_closed = True
        for channel in self._channels:
            await channel.close()

    async def classify(
        self,
        images: Any,
        *,
        model: str = "",
        timeout_s: float | None = None,
        members: bool = False,
        request_id: str = "",
    ) -> ServedVerdicts:
        """Classifies images and says which look adversarial.

        Arguments, answer and errors are those of `Client.classify`. Images are checked and copied on the event loop,
        which takes less than half a millisecond for each megabyte.
        """
        deadline = self._deadline(timeout_s)
        if model not in self._models:
            self._models[model] = await self._describe(model, deadline)
        template = request_template(model=model, members=members, request_id=request_id)
        parts = self._parts(images, template, self._models[model])
        while parts.begin():
            if parts.several:
                await self._work_together(parts, deadline)
            else:
                await self._work(parts, deadline)
        return parts.joined()

    async def model(self, name: str = "", *, timeout_s: float | None = None) -> ModelInfo:
        """Asks what a model is; arguments and errors are those of `Client.model`."""
        return await self._describe(name, self._deadline(timeout_s))

    async def wait_ready(self, timeout_s: float) -> None:
        """Waits until the server answers calls; of several, until one of them does.

        Raises:
            DeadlineExceeded: It does not in that time; the message says what was found last.
        """
        deadline = Deadline(timeout_s)
        try:
            await self._call("GetModel", classifier_pb2.GetModelRequest(), deadline, self._patient_attempts(deadline))
        except (DeadlineExceeded, Unavailable) as error:
            raise self._never_ready(timeout_s, error) from None

    async def _describe(self, name: str, deadline: Deadline) -> ModelInfo:
        """Asks for a model's description."""
        request = classifier_pb2.GetModelRequest(model=name)
        return ModelInfo.read(await self._call("GetModel", request, deadline, self._attempts(deadline)))

    async def _work_together(self, parts: Parts, deadline: Deadline) -> None:
        """Sends what is left to be sent, a few parts at a time; where one fails, the others are taken back."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(self._in_flight):
                    tasks.create_task(self._work(parts, deadline))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _work(self, parts: Parts, deadline: Deadline) -> None:
        """Sends one part after another until none is left, or fewer at a time are enough for the server."""
        parcel = parts.take()
        while parcel is not None:
            sent, attempts = parcel, self._part_attempts(deadline, parts, parcel)
            try:
                reply = await self._call("Classify", sent.request, deadline, attempts)
                parcel = parts.put(sent, ServedVerdicts.read(reply, sent.count), attempts.server)
            except LedgateError as error:
                if attempts.handed_over:
                    return
                raise self._refused(error, sent) from None

    async def _call(self, method: str, request: Any, deadline: Deadline, attempts: Attempts) -> Any:
        """One call, tried as often as it is worth."""
        self._open_here()
        while True:
            with attempts:
                return await self._ask(self._stubs[attempts.server], method, request, deadline)
            await asyncio.sleep(attempts.pause_s)

    async def _ask(self, stub: Any, method: str, request: Any, deadline: Deadline) -> Any:
        """One try."""
        try:
            return await getattr(stub, method)(request, timeout=deadline.remaining_s(), metadata=self._metadata)
        except grpc.aio.UsageError:  # what gRPC raises on a closed channel
            raise self._closed() from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._is_closed and task is not None and not task.cancelling():
                raise self._ended() from None
            raise

    def _open_here(self) -> None:
        """Opens the channels in this event loop, unless they are open in it."""
        loop = asyncio.get_running_loop()
        if self._is_closed:
            raise self._closed()
        if self._loop is None:
            self._loop = loop
            self._open(grpc.aio)
        elif self._loop is not loop:
            raise InputError("client: expected the event loop of its first call, found another")
