"""New versions of the bundles that are served, without a restart and without losing a call.

A new version is opened, checked and run on a thread of its own, while the old one goes on answering.
Only then it takes the old one's place. A version that is refused leaves a line in the log and the old one
where it was.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Final, Self, TypeAlias

from detector.bundle import Bundle
from detector.errors import BundleError, LedgateError
from serving.detecting import Detecting
from serving.model import Model
from serving.opening import Opener

log = logging.getLogger(__name__)

# A bundle that is being opened cannot be stopped; so long is waited for it.
_JOIN_S: Final = 1.0

_Stamp: TypeAlias = frozenset[tuple[str, int, int, int]]


class Reloader:
    """A thread that looks at the bundles' folders when it is asked to, and every so many seconds.

    It is made before the bundles are opened, so that no change is missed, and entered when they are served.

    Args:
        folders: Of the models, in their order; links are followed anew each time.
        opener: How bundles are opened.
        served: The models that answer now, in the same order.
        serve: Puts a detector in the place of the model of its name.
        watch_s: Seconds between two looks; 0 looks only when asked.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        opener: Opener,
        *,
        served: Callable[[], Sequence[Model]],
        serve: Callable[[Detecting], None],
        watch_s: float = 0.0,
    ) -> None:
        self._folders = folders
        self._opener = opener
        self._served = served
        self._serve = serve
        self._watch_s = watch_s
        self._asked: SimpleQueue[bool] = SimpleQueue()
        self._seen = [_stamp(folder) for folder in folders]
        self._thread = threading.Thread(target=self._work, name="reloader", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._asked.put(False)
        self._thread.join(_JOIN_S)

    def ask(self) -> None:
        """Has all folders looked at soon; may be called by a signal handler."""
        self._asked.put(True)

    def _work(self) -> None:
        """The thread."""
        while True:
            try:
                asked = self._asked.get(timeout=self._watch_s or None)
                if not asked:
                    return
            except Empty:
                asked = False
            for number, folder in enumerate(self._folders):
                stamp = _stamp(folder)
                if asked or stamp != self._seen[number]:
                    # Taken before the files are read: what changes meanwhile is another change.
                    self._seen[number] = stamp
                    self._look(number, asked=asked)

    def _look(self, number: int, *, asked: bool) -> None:
        """Serves what is in a model's folder, if that is new and good."""
        model = self._served()[number]
        old = model.detector.bundle
        try:
            found = self._opener.read(self._folders[number], model.name)
            if _digests(found) == _digests(old):
                log.log(logging.INFO if asked else logging.DEBUG, "model %s: %s is unchanged", model.name, _shown(old))
                return
            _check(found, old)
            self._serve(self._opener.ready(found))
        except LedgateError as error:
            log.error("model %s: %s; %s goes on", model.name, error, _shown(old))  # noqa: TRY400  the operator's files
        except Exception:  # whatever a bundle may do, the old one goes on
            log.exception("model %s: the new version failed; %s goes on", model.name, _shown(old))
        else:
            log.info("model %s: %s in the place of %s", model.name, _shown(found), _shown(old))


def _check(found: Bundle, old: Bundle) -> None:
    """Raises where callers of the old version would be refused by the new one, misread it, or no longer be warned."""
    if found.input.shape != old.input.shape:
        raise BundleError(f"{found.path}: expected input {old.input.shape} as before, found {found.input.shape}")
    if len(found.labels) != len(old.labels):
        raise BundleError(f"{found.path}: expected {len(old.labels)} classes as before, found {len(found.labels)}")
    for index, (label, before) in enumerate(zip(found.labels, old.labels, strict=True)):
        if label != before:
            raise BundleError(
                f"{found.path}: class {index}: expected {before!r} as before, found {label!r}, which callers who read "
                "the index would take for the other; a restart serves it"
            )
    if found.calibration is None and old.calibration is not None:
        raise BundleError(f"{found.path}: expected a calibration as before, found none")


def _digests(bundle: Bundle) -> tuple[str, str]:
    """What tells one version from another."""
    return bundle.digest, "" if bundle.calibration is None else bundle.calibration.digest


def _shown(bundle: Bundle) -> str:
    """A version, for the log."""
    digest, calibration = _digests(bundle)
    return f"{digest[:12]}, {f'calibration {calibration[:12]}' if calibration else 'not calibrated'}"


def _stamp(folder: Path) -> _Stamp:
    """What tells one state of a folder from another, without reading its files."""
    try:
        files = [(file.name, file.stat()) for file in folder.iterdir()]
    except OSError:  # it is being exchanged
        return frozenset()
    return frozenset((name, found.st_ino, found.st_size, found.st_mtime_ns) for name, found in files)
