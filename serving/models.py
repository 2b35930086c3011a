"""The models that are served, by name, each in the version that answers now.

A version is a `Model`: a detector with a queue and threads of its own, so that no batch mixes two. To
replace one, the new version takes its place first. From then on nobody new finds the old one, which
answers what is in its queue and lets go of its detector.
"""

import threading
import weakref
from collections.abc import Sequence
from typing import Final

from detector.errors import InputError, NotFound
from protos.ledgate.v1 import classifier_pb2
from serving.batcher import Batcher, Replaced
from serving.config import ServerConfig
from serving.detecting import Detecting
from serving.model import Model
from serving.origin import Origin
from serving.stream import Accepted
from serving.watching import Watcher

_MAX_NAME: Final = 100


class Models:
    """What is served; nothing before `open`.

    Args:
        config: The server's.
        watchers: Told of every batch that any version of any model has answered.
    """

    def __init__(self, config: ServerConfig, watchers: Sequence[Watcher] = ()) -> None:
        self._config = config
        self._watchers = watchers
        # Never changed, only exchanged as a whole, so that it is read without a lock.
        self._current: dict[str, Model] = {}
        # Those that still answer what they have accepted; such a batcher is kept alive by its threads alone.
        self._replaced: weakref.WeakSet[Batcher] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._ending = False

    @property
    def current(self) -> tuple[Model, ...]:
        """What is served now, the default first."""
        return tuple(self._current.values())

    @property
    def names(self) -> list[str]:
        """By which models are asked for, the default first."""
        return list(self._current)

    def open(self, detectors: Sequence[Detecting]) -> None:
        """Serves detectors, the first of them to whoever names none.

        Raises:
            InputError: No detector, or two of one name.
        """
        names = [detector.bundle.name for detector in detectors]
        check_names(names)
        self._current = {name: self._model(detector) for name, detector in zip(names, detectors, strict=True)}

    def find(self, name: str) -> Model:
        """The model of that name in its current version; without a name the first.

        Raises:
            NotFound: There is none of that name.
        """
        current = self._current
        if not name and current:
            return next(iter(current.values()))
        if name not in current:
            found = name if len(name) <= _MAX_NAME else f"{name[:_MAX_NAME]}..."
            raise NotFound(f"model: expected {' or '.join(current)}, found {found!r}")
        return current[name]

    def submit(self, request: classifier_pb2.ClassifyRequest, origin: Origin) -> Accepted:
        """Checks a request and puts it into its model's queue; raises what `find` and `Model.submit` raise."""
        while True:
            model = self.find(request.model)
            try:
                return Accepted(model=model, ticket=model.submit(request, origin))
            except Replaced:  # after it was found: its successor is there already
                continue

    def replace(self, detector: Detecting) -> None:
        """Serves a new version of the model of the detector's name; returns at once.

        Raises:
            NotFound: There is no model of that name.
        """
        name = detector.bundle.name
        old = self.find(name)
        new = self._model(detector)
        with self._lock:
            if self._ending:
                old = new
            else:
                self._current = {**self._current, name: new}
                self._replaced.add(old.batcher)
        old.batcher.finish()

    def hurry(self) -> None:
        """From here on no batch waits for company, and no version is replaced."""
        with self._lock:
            self._ending = True
        for model in self.current:
            model.batcher.hurry()

    def close(self) -> None:
        """Ends all versions; whoever still waits is told so."""
        for batcher in [*(model.batcher for model in self.current), *self._replaced]:
            batcher.close()

    def _model(self, detector: Detecting) -> Model:
        """A detector as a model."""
        return Model(detector, self._config, self._watchers)


def check_names(names: Sequence[str]) -> None:
    """Raises InputError where there is no model, or where two have one name."""
    if not names:
        raise InputError("models: expected at least one, found none")
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"models: expected a name for each, found '{name}' {names.count(name)} times")
