"""The scores that `benchmarks.scores` compares: those of the library, and designs of several parts.

A part is a value of an image, from the answers to it and to views of it. A view is the image once more, changed in a
way that leaves it what it is; each costs a run of the members. Every part exists twice, in numpy, which decides, and in
torch with gradients, which an attacker who knows it descends by.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detector.outputs import Outputs, log_sum_exp
from detector.prediction import Floats, mean_prediction
from detector.scores import SCORES, score_named
from detector.scores.classgaussians import fit_classes
from detector.scores.mahalanobis import Mahalanobis, log_probabilities
from detector.scores.score import Score
from detector.scores.typicality import Typicality
from detector.shifts import Noise, Pixels, Shift
from training.adp import log_mean
from training.attacks.surrogates import surrogate

SIGMA: Final = 0.02
_KEY: Final = 20_261_125  # of the noise; a server's would be a secret
_TINY: Final = 1e-9

Logits = NDArray[np.floating[Any]]
"""(V, N, K, L), the image itself first."""


@dataclass(frozen=True)
class OneOf:
    """One of several changes, drawn for each image.

    Attributes:
        shifts: The changes.
    """

    shifts: Sequence[Shift]

    @property
    def name(self) -> str:
        """`one of noise 0.02, blur 1`."""
        return f"one of {', '.join(shift.name for shift in self.shifts)}"

    def apply(self, image: Pixels, number: int) -> Pixels:
        """Draws a change and applies it."""
        # Not the seed of the change itself, which may draw too.
        drawn = int(np.random.default_rng([_KEY, number]).integers(len(self.shifts)))
        return self.shifts[drawn].apply(image, number)


@dataclass(frozen=True)
class View:
    """A view.

    Attributes:
        change: Of one image.
        twin: The same of a batch in torch; where it draws, an attacker does not know the key.
    """

    change: Shift
    twin: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Mirrored:
    """Left and right exchanged."""

    name: str = "mirrored"

    def apply(self, image: Pixels, number: int) -> Pixels:
        """Of one image."""
        del number
        return np.ascontiguousarray(image[:, :, ::-1])


@dataclass(frozen=True)
class Moved:
    """One pixel to the right; the column that comes in repeats the first."""

    name: str = "moved"

    def apply(self, image: Pixels, number: int) -> Pixels:
        """Of one image."""
        del number
        return np.concatenate([image[:, :, :1], image[:, :, :-1]], axis=2)


def views(channels: int) -> tuple[View, View]:
    """A view that leaves images what they are, for digits and for photographs; and noise."""
    noise = View(Noise(sigma=SIGMA, seed=_KEY), lambda x: (x + SIGMA * torch.randn_like(x)).clamp(0, 1))
    if channels == 1:
        return View(Moved(), lambda x: torch.cat([x[..., :1], x[..., :-1]], dim=3)), noise
    return View(Mirrored(), lambda x: x.flip(3)), noise


class Part(ABC):
    """A value of an image, lower is more suspicious.

    Attributes:
        runs: Which views it looks at: 0 the image, 1 the first view, 2 noise.
    """

    runs: frozenset[int]

    @abstractmethod
    def of(self, logits: Logits) -> Floats:
        """(V, N, K, L) to (N,)."""

    @abstractmethod
    def twin(self, logits: Sequence[Tensor], labels: Tensor) -> Tensor:
        """V times (N, K, L), and the class that each image is on its way to, (N,), to (N,) float64."""


class Plain(Part):
    """A score of the image itself.

    Args:
        score: Fitted where it has to be.
    """

    runs = frozenset({0})

    def __init__(self, score: Score) -> None:
        self._score = score
        self._twin = surrogate(score)

    def of(self, logits: Logits) -> Floats:
        """The score."""
        return self._score.of(logits[0])

    def twin(self, logits: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Its twin."""
        return self._twin(logits[0], labels)


class Relative(Part):
    """Mahalanobis, less a share of the log density under one Gaussian for all classes.

    Ren et al., "A Simple Fix to Mahalanobis Distance for Improving Near-OOD Detection", 2021, take the whole of it,
    over the features of a network. Where clean images of any class lie far apart, far from one's class says little.

    Args:
        clean: (N, K, L) logits of clean images, which both are fitted on.
        share: 0 is mahalanobis itself.
    """

    runs = frozenset({0})

    def __init__(self, clean: NDArray[np.floating[Any]], share: float) -> None:
        outputs = Outputs(clean)
        # No class has so many images that it would get a mean of its own.
        every = fit_classes(log_probabilities(outputs), outputs.labels, clean.shape[2], least=len(clean) + 1)
        self._own, self._every = Plain(Mahalanobis().fit(clean)), Plain(Mahalanobis(every))
        self._share = share

    def of(self, logits: Logits) -> Floats:
        """The difference."""
        return self._own.of(logits) - self._share * self._every.of(logits)

    def twin(self, logits: Sequence[Tensor], labels: Tensor) -> Tensor:
        """The same."""
        return self._own.twin(logits, labels) - self._share * self._every.twin(logits, labels)


class Kept(Part):
    """Log odds, in the first view, of the class that the image itself is given."""

    runs = frozenset({0, 1})

    def of(self, logits: Logits) -> Floats:
        """log(p / (1 - p)), in log space."""
        classes = mean_prediction(logits[0]).argmax(axis=1)
        exact = logits[1].astype(np.float64)
        log_mean_prediction = log_sum_exp((exact - log_sum_exp(exact)[..., None]).transpose(0, 2, 1))
        rows = np.arange(len(classes))
        own = log_mean_prediction[rows, classes]
        log_mean_prediction[rows, classes] = -np.inf
        return np.asarray(own - log_sum_exp(log_mean_prediction))

    def twin(self, logits: Sequence[Tensor], labels: Tensor) -> Tensor:
        """The same."""
        log_prediction = log_mean(logits[1])
        others = log_prediction.scatter(1, labels[:, None], -torch.inf)
        return log_prediction.gather(1, labels[:, None]).squeeze(1) - torch.logsumexp(others, dim=1)


class Steady(Part):
    """How near the answer's change under noise is to what it is for clean images; less is as suspicious as more.

    The change is the log of the length of the mean logits' difference, their mean over classes left out.

    Args:
        clean: (V, N, K, L) logits of clean images.
    """

    runs = frozenset({0, 2})

    def __init__(self, clean: Logits) -> None:
        self._usual = float(np.median(self._change(clean)))

    def of(self, logits: Logits) -> Floats:
        """Minus the distance to the median."""
        return -np.abs(self._change(logits) - self._usual)

    def twin(self, logits: Sequence[Tensor], labels: Tensor) -> Tensor:
        """The same."""
        del labels
        gap = (logits[2] - logits[0]).double().mean(dim=1)
        gap = gap - gap.mean(dim=1, keepdim=True)
        return -(0.5 * gap.square().sum(dim=1).clamp(min=_TINY**2).log() - self._usual).abs()

    @staticmethod
    def _change(logits: Logits) -> Floats:
        gap = (logits[2].astype(np.float64) - logits[0]).mean(axis=1)
        gap -= gap.mean(axis=1, keepdims=True)
        return np.asarray(0.5 * np.log(np.maximum((gap * gap).sum(axis=1), _TINY**2)))


@dataclass(frozen=True)
class Learnt:
    """What a design may learn from: no attack.

    Attributes:
        clean: (V, N, K, L), of clean calibration images.
        changed: (V, N, K, L), of the same after one mild change each.
    """

    clean: Logits
    changed: Logits

    @property
    def both(self) -> NDArray[np.floating[Any]]:
        """(2N, K, L), of clean and changed images themselves."""
        return np.concatenate([self.clean[0], self.changed[0]])


@dataclass(frozen=True)
class Design:
    """A score.

    Attributes:
        name: For the table.
        parts: Lower is more suspicious in each.
        clean: (V, N, K, L) of clean images, among which parts are ranked where there are several.
    """

    name: str
    parts: Sequence[Part]
    clean: Logits

    @property
    def runs(self) -> int:
        """How often the members run for one image."""
        return len(frozenset[int]().union(*(part.runs for part in self.parts)))

    def of(self, logits: Logits) -> Floats:
        """The part; of several the lowest rank among those of clean images, so that all have to pass."""
        if len(self.parts) == 1:
            return self.parts[0].of(logits)
        return np.asarray(np.minimum.reduce([_rank(part.of(self.clean), part.of(logits)) for part in self.parts]))


def _rank(usual: Floats, values: Floats) -> Floats:
    """Share of usual values that are at most as high; less than a step more or less, so that values differ in all."""
    low, middle, high = np.quantile(usual, (0.25, 0.5, 0.75))
    place = np.clip((values - middle) / max(high - low, 1e-12), -1e9, 1e9)  # log diversity may be infinite
    below = np.searchsorted(np.sort(usual), values, side="right")
    return np.asarray((below + place / (1 + np.abs(place))) / (len(usual) + 1))


_OWN: Final[dict[str, Callable[[Learnt], Sequence[Part]]]] = {
    "typicality, changed images in the fit": lambda learnt: [Plain(Typicality().fit(learnt.both))],
    "mahalanobis, changed images in the fit": lambda learnt: [Plain(Mahalanobis().fit(learnt.both))],
    "mahalanobis less half of that to all classes": lambda learnt: [Relative(learnt.clean[0], 0.5)],
    "lower rank of mahalanobis and relative mahalanobis": lambda learnt: [
        Plain(Mahalanobis().fit(learnt.clean[0])), Relative(learnt.clean[0], 1.0)
    ],
    "lower rank of mahalanobis and log diversity": lambda learnt: [
        Plain(Mahalanobis().fit(learnt.clean[0])), Plain(score_named("log_diversity"))
    ],
    "lowest rank of mahalanobis, a view's odds, steadiness": lambda learnt: [
        Plain(Mahalanobis().fit(learnt.clean[0])), Kept(), Steady(learnt.clean)
    ],
}  # fmt: skip

AIMED_AT: Final = (
    "log_diversity",
    "typicality",
    "mahalanobis",
    "mahalanobis less half of that to all classes",
    "lower rank of mahalanobis and log diversity",
    "lowest rank of mahalanobis, a view's odds, steadiness",
)
"""Those that an attacker aims at."""


def designs(learnt: Learnt) -> list[Design]:
    """All of them, ready to measure."""
    return [design(name, learnt) for name in (*SCORES, *_OWN)]


def design(name: str, learnt: Learnt) -> Design:
    """The one of that name: a score of the library, or a design."""
    parts = _OWN[name](learnt) if name in _OWN else [Plain(score_named(name).fit(learnt.clean[0]))]
    return Design(name, parts, learnt.clean)
