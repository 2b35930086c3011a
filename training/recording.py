"""A step recorded once on a GPU and replayed since: hundreds of small kernels, started as one.

The kernels of small networks are shorter than the time a CPU takes to start them. A recording (a CUDA graph) holds
them all, with the addresses of what they read and write, so a step is then one start.
"""

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor

from detector.errors import RunError

# Calls that run as they are before one is recorded: kernels are compiled and chosen in them.
WARM_UP: Final = 3


class Recording:
    """A function of tensors, replayed from its fourth call with arguments of one kind on.

    What it does to tensors that outlive it, and to the random state, it does in a replay as well; what it does in
    Python it does only while it is recorded.

    Args:
        function: Takes tensors on one CUDA device, and settings by name; returns a tensor.
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self._function = function
        self._kind: Any = None
        self._calls = 0
        self._stream: torch.cuda.Stream | None = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._inputs: tuple[Tensor, ...] = ()
        self._output: Tensor | None = None

    def __call__(self, *inputs: Tensor, **settings: Any) -> Tensor:
        """The function's result; by a replay where shapes and settings are those of the calls before.

        Raises:
            RunError: The function does what cannot be recorded, such as to wait for the GPU.
        """
        kind = tuple((each.shape, each.dtype) for each in inputs), settings
        if kind != self._kind:
            self._kind, self._calls, self._graph, self._output = kind, 0, None, None
        self._calls += 1
        if self._calls <= WARM_UP:
            return self._beside(inputs, settings)
        if self._graph is None:
            self._record(inputs, settings)
        assert self._graph is not None
        assert self._output is not None
        for mine, given in zip(self._inputs, inputs, strict=True):
            mine.copy_(given)
        self._graph.replay()
        return self._output.clone()  # the next replay writes there

    def _beside(self, inputs: tuple[Tensor, ...], settings: dict[str, Any]) -> Tensor:
        """A call on a stream of its own, where a recording's libraries have to be warm."""
        self._stream = self._stream or torch.cuda.Stream(inputs[0].device)  # type: ignore[no-untyped-call]
        here = torch.cuda.current_stream(inputs[0].device)
        self._stream.wait_stream(here)
        with torch.cuda.stream(self._stream):
            output = self._function(*inputs, **settings)
        here.wait_stream(self._stream)
        return output

    def _record(self, inputs: tuple[Tensor, ...], settings: dict[str, Any]) -> None:
        """Takes the function down, without running it."""
        self._inputs = tuple(each.clone() for each in inputs)
        graph = torch.cuda.CUDAGraph()
        try:
            # Another thread may fetch images meanwhile.
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                self._output = self._function(*self._inputs, **settings)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise RunError(
                f"compile: expected networks whose steps a GPU can record, found one that it cannot "
                f"({' '.join(str(error).split())[:120]}); train into a new folder without --compile"
            ) from error
        self._graph = graph
