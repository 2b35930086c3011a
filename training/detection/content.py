"""`detection.json`: the figures of every run that was ever measured into a folder."""

from pathlib import Path
from typing import Any, ClassVar, Final

from detector.document import Document, Record
from detector.errors import InputError, LedgateError
from detector.rates import Rate
from training.detection.choose import Rung
from training.detection.figures import Figures
from training.evaluation.setting import Setting

FILE: Final = "detection.json"


class Attacked(Record):
    """An attack on a run.

    Attributes:
        method: Such as `fgsm`.
        settings: Its `describe()`.
        reached: Whether it leaves at most 1 % of the validation images of every run right.
        tried: Every strength that was tried on those, each with what it left of every run.
        validation: This run's validation images that are right after it.
        right: Test images that are right after it.
        success: Test images that are right before and wrong after it.
        norms: Means over the successes of how far images were changed, see `detector.norms`; nothing without any.
        file: Its test images, in the cache.
        chosen_on: Its validation images, in the cache; others may train on them, we do not.
    """

    method: str
    settings: dict[str, Any]
    reached: bool
    tried: tuple[Rung, ...]
    validation: Rate
    right: Rate
    success: Rate
    norms: dict[str, float]
    file: str
    chosen_on: str

    @property
    def name(self) -> str:
        """Of the attack with its strength."""
        return str(self.settings["name"])


class Aimed(Record):
    """An attacker who knows a score of ours, fitted and with its threshold.

    Attributes:
        score: Which one.
        settings: The attack's `describe()`.
        wrong: Test images that are wrong after it.
        unnoticed: Test images that are wrong after it, and not flagged by that score.
        file: Its test images, in the cache.
    """

    score: str
    settings: dict[str, Any]
    wrong: Rate
    unnoticed: Rate
    file: str


class Found(Record):
    """What was measured of a run.

    Attributes:
        run: The SHA-256 of its checkpoint.
        name: Of its folder.
        title: Of the experiment that it belongs to.
        slug: The same for file names; of a folder's runs those that share it were attacked alike, and no others.
        dataset: What it was trained on.
        alpha: Weight of the entropy of the ensemble's prediction.
        beta: Weight of the log diversity.
        seed: Its seed.
        images: How many images each part has: `fit`, `behind`, `clean`, `changed`, and each attack's.
        material: The digest of all images that detectors are asked about.
        right: Clean test images that are classified right.
        attacks: The paper's attacks.
        aimed: The attackers who know a score.
        figures: Of every score that we offer.
        machine: Where it was measured.
    """

    run: str
    name: str
    title: str
    slug: str
    dataset: str
    alpha: float
    beta: float
    seed: int
    images: dict[str, int]
    material: str
    right: Rate
    attacks: tuple[Attacked, ...]
    aimed: tuple[Aimed, ...]
    figures: tuple[Figures, ...]
    machine: str

    @property
    def setting(self) -> Setting:
        """Its weights of the regulariser."""
        return Setting(self.alpha, self.beta)


class Content(Document):
    """The file, with its digest, so that a figure that was damaged or edited is noticed.

    Attributes:
        provenance: Of the call that wrote it last.
        runs: Of the last call, and of earlier ones those of other experiments.
    """

    error: ClassVar[type[LedgateError]] = InputError

    provenance: dict[str, Any]
    runs: tuple[Found, ...]
    digest: str = ""

    @classmethod
    def beside(cls, folder: Path) -> tuple[Found, ...]:
        """The runs that a folder's file has; none where there is no file.

        Raises:
            InputError: A file of that name that is none of ours.
        """
        path = folder / FILE
        if not path.exists():
            return ()
        try:
            return cls.load(path).runs
        except InputError as error:
            raise InputError(f"{error}; remove the file to measure anew") from None
