"""A large array as several calls: its parts are handed out one by one, and their answers joined in order.

All of an answer is of one version of the model. Where it is replaced in between, the parts that another version has
answered are asked again, of the server that has the version which answered last.
"""

import threading
from collections.abc import Callable, Iterator
from typing import Final

from detector.errors import Unavailable
from detector.verdicts import Verdicts
from serving.answer import ServedVerdicts, Version
from serving.parcels import Parcel

# Versions that follow each other within one call: one replacement is usual, and three say that something is wrong.
_MOST_ROUNDS: Final = 3


class Parts:
    """The parts of one call; used by several threads or tasks at once.

    Args:
        cut: Cuts the images anew, each time in the same way.

    Attributes:
        several: Whether there is more than one.
        first: The number of the server to be asked before others; None for whichever is free.

    Raises:
        InputError: Images that cannot be cut.
    """

    def __init__(self, cut: Callable[[], Iterator[Parcel]]) -> None:
        self._cut = cut
        self._lock = threading.Lock()
        self._answers: dict[int, ServedVerdicts] = {}
        self._under_way = 0
        self._rounds = 0
        self._latest: Version | None = None
        self._latest_server: int | None = None
        self._stopped = False
        self.first: int | None = None
        # Cut already, so that images of a wrong form are refused here.
        self._source = cut()
        self._ahead = [parcel for parcel in (next(self._source, None), next(self._source, None)) if parcel is not None]
        self.several = len(self._ahead) > 1

    def begin(self) -> bool:
        """Begins a round in which all that is lacking is asked; False where nothing is.

        Raises:
            Unavailable: Versions have changed too often, or the servers have different ones.
        """
        versions = {answer.version for answer in self._answers.values()}
        if len(versions) == 1:
            return False
        if self._rounds == _MOST_ROUNDS:
            found = " and ".join(sorted(map(str, versions)))
            raise Unavailable(f"model: expected one version for all images of a call, found {found}")
        self._rounds += 1
        self._stopped = False
        if versions:
            self._answers = {start: one for start, one in self._answers.items() if one.version == self._latest}
            self.first = self._latest_server
            self._source = self._cut()
        return True

    def take(self) -> Parcel | None:
        """A part to begin with; None where there is none, or one has failed."""
        with self._lock:
            return self._next()

    def put(self, parcel: Parcel, answer: ServedVerdicts, server: int) -> Parcel | None:
        """Takes the answer to a part, and the number of the server that gave it.

        Returns:
            The next part, as `take`, at once: nobody is to see this sender without one, and take himself for the last.
        """
        with self._lock:
            self._under_way -= 1
            self._answers[parcel.start] = answer
            self._latest, self._latest_server = answer.version, server
            return self._next()

    def give_back(self, parcel: Parcel) -> bool:
        """Takes a part back that a full queue has refused, so that whoever sends the others sends it later.

        So a call finds out how many parts at a time a queue has room for: whoever gives one back is to take no more.

        Returns:
            Whether it was taken back: not where no other part is under way.
        """
        with self._lock:
            if self._under_way == 1:
                return False
            self._under_way -= 1
            self._ahead.insert(0, parcel)
            return True

    def stop(self) -> None:
        """Hands out no more."""
        with self._lock:
            self._stopped = True

    def _next(self) -> Parcel | None:
        """The next part, under the lock."""
        while not self._stopped:
            parcel = self._ahead.pop(0) if self._ahead else next(self._source, None)
            if parcel is None:
                return None
            if parcel.start not in self._answers:
                self._under_way += 1
                return parcel
        return None

    def joined(self) -> ServedVerdicts:
        """The answer to the whole."""
        answers = [self._answers[start] for start in sorted(self._answers)]
        if len(answers) == 1:
            return answers[0]
        return ServedVerdicts(**vars(Verdicts.concatenate(answers)), version=answers[0].version)
