"""Ways to run the members of a bundle on one batch, side by side: what a server on a GPU should do.

    python -m benchmarks.ways --device cuda --batches 1 64 256 1024 --out ways.json

Everything is in one process, images and logits lie in the computer's memory before and after. On a CPU, pinned
memory, CUDA graphs, layout and search are left out.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import compose

from benchmarks.ending import run
from benchmarks.timing import side_by_side
from detector.bundle import Bundle
from detector.device import CPU, CUDA, Device
from detector.pinned import Pinned
from detector.provenance import provenance
from detector.session import load_cuda_libraries
from detector.shipped import shipped_bundle

Run = Callable[[], Sequence[NDArray[np.float32]]]
Hold = Callable[[NDArray[np.float32]], AbstractContextManager[NDArray[np.float32]]]

SEED: Final = 0


class Members:
    """A bundle's members on a device.

    Args:
        bundle: Theirs.
        device: `cpu`, `cuda` or `cuda:1`.
    """

    def __init__(self, bundle: Bundle, device: str) -> None:
        self._models, self._input = [bytes(member) for member in bundle.members], bundle.input.name
        self._device, self.classes = Device.parse(device), bundle.class_count
        self.on_gpu = self._device.provider == CUDA
        if self.on_gpu:
            load_cuda_libraries()
        self._plain = self._opened(self._models)
        self._merged = self._opened([merged(self._models, self._input)])

    def ways(self, images: NDArray[np.float32], pool: ThreadPoolExecutor) -> Iterator[tuple[str, Run]]:
        """Each way by name."""
        yield "one after another", self._one_after_another(self._plain, images)
        yield "a thread for each", self._at_once(self._plain, images, pool)
        yield "IO binding", self._bound(self._plain, images)
        yield "one merged graph", self._one_after_another(self._merged, images)
        yield "merged, IO binding", self._bound(self._merged, images)
        if self.on_gpu:
            yield (
                "a thread for each, pinned memory",
                self._at_once(self._plain, images, pool, self._pinned(len(images))),
            )
            yield "CUDA graphs, IO binding", self._bound(self._opened(self._models, enable_cuda_graph="1"), images)
            options = {"channels last": {"prefer_nhwc": "1"}, "search": {"cudnn_conv_algo_search": "EXHAUSTIVE"}}
            for name, more in options.items():
                yield name, self._one_after_another(self._opened(self._models, **more), images)

    def _opened(self, models: Sequence[bytes], **more: str) -> list[Any]:
        """Sessions of one thread, on the device that was asked for."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        providers: list[Any] = [CPU]
        if self.on_gpu:
            (name, own), *rest = self._device.providers()
            providers = [(name, {**own, **more}), *rest]
        sessions = [onnxruntime.InferenceSession(model, options, providers=providers) for model in models]
        for session in sessions:
            if session.get_providers()[0] != self._device.provider:
                raise RuntimeError(f"ways: expected {self._device.provider}, found {session.get_providers()[0]}")
        return sessions

    def _run(self, session: Any, images: NDArray[np.float32]) -> Any:
        """All outputs of a plain run."""
        return session.run(None, {self._input: images})

    def _one_after_another(self, sessions: Sequence[Any], images: NDArray[np.float32]) -> Run:
        """Plain runs."""
        return lambda: [output for session in sessions for output in self._run(session, images)]

    def _at_once(
        self, sessions: Sequence[Any], images: NDArray[np.float32], pool: ThreadPoolExecutor, hold: Hold = nullcontext
    ) -> Run:
        """Plain runs, each on a thread of its own."""

        def run() -> list[NDArray[np.float32]]:
            with hold(images) as held:
                return list(chain.from_iterable(pool.map(lambda each: self._run(each, held), sessions)))

        return run

    def _pinned(self, count: int) -> Hold:
        """What copies so many images to page-locked memory, as a server does with `--pinned-memory`."""
        return Pinned(self._device, count).hold

    def _bound(self, sessions: Sequence[Any], images: NDArray[np.float32]) -> Run:
        """Runs whose images and logits lie at the same places each time."""
        kind, index = ("cuda", self._device.index) if self.on_gpu else ("cpu", 0)
        given = onnxruntime.OrtValue.ortvalue_from_numpy(images, kind, index)
        bindings, answers = [], []
        for session in sessions:
            binding = session.io_binding()
            binding.bind_ortvalue_input(self._input, given)
            for output in session.get_outputs():
                shape = [len(images), self.classes]
                answer = onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, np.float32, kind, index)
                binding.bind_ortvalue_output(output.name, answer)
                answers.append(answer)
            bindings.append(binding)

        def run() -> list[NDArray[np.float32]]:
            given.update_inplace(images)
            for session, binding in zip(sessions, bindings, strict=True):
                session.run_with_iobinding(binding)
            return [np.array(answer.numpy()) for answer in answers]

        return run


def merged(models: Sequence[bytes], name: str) -> bytes:
    """One graph with all members, which share their input, and an output for each."""
    parts = [compose.add_prefix(onnx.load_from_string(model), f"member{k}_") for k, model in enumerate(models)]
    whole = parts[0]
    for part in parts[1:]:
        for field in ("node", "initializer", "output", "value_info"):
            getattr(whole.graph, field).extend(getattr(part.graph, field))
    inputs = {part.graph.input[0].name for part in parts}
    for node in whole.graph.node:
        node.input[:] = [name if each in inputs else each for each in node.input]
    del whole.graph.input[1:]
    whole.graph.input[0].name = name
    return bytes(whole.SerializeToString())


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All ways for each batch; refuses one that answers otherwise than plain runs."""
    bundle = Bundle.open(options.bundle)
    members = Members(bundle, options.device)
    rng, rows = np.random.default_rng(SEED), {}
    with ThreadPoolExecutor(len(bundle.members)) as pool:
        for count in options.batches:
            images = rng.random((count, *bundle.input.shape), dtype=np.float32)
            ways = dict(members.ways(images, pool))
            answers = {name: np.concatenate([each.reshape(-1) for each in run()]) for name, run in ways.items()}
            expected = next(iter(answers.values()))
            for name, logits in answers.items():
                if not np.allclose(logits, expected, rtol=1e-3, atol=1e-3):
                    raise RuntimeError(f"ways: {name} answers otherwise than plain runs")
            # ONNX Runtime waits for the GPU itself.
            times = side_by_side(ways, repeats=options.repeats, calls=options.calls, device=torch.device("cpu"))
            rows[count] = {name: 1e3 * median(each.wall) for name, each in times.items()}
    return {"device": options.device, "seed": SEED, "median_ms": rows, "provenance": provenance("onnxruntime-gpu")}


def table(found: dict[str, Any]) -> str:
    """Milliseconds of a batch, Markdown."""
    rows = found["median_ms"]
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    lines = [f"| ms, {found['device']} | " + " | ".join(map(str, rows)) + " |", "|---" * (len(rows) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(f"{row[name]:.3g}" for row in rows.values()) + " |" for name in names]
    return "\n".join(lines)


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ways", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--bundle", type=Path, default=shipped_bundle(), help="(default: the one that comes with ledgate)")
    add("--device", default="cpu", help="cpu (default), cuda or cuda:N")
    add("--batches", type=int, nargs="+", default=[1, 64, 256, 1024], metavar="IMAGES", help="(default: 1 64 256 1024)")
    add("--repeats", type=int, default=9, metavar="N", help="rounds (default: 9)")
    add("--calls", type=int, default=5, metavar="N", help="of a way in a round (default: 5)")
    add("--out", type=Path, metavar="FILE", help="write everything as JSON")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(run(parse(), measure, table))
