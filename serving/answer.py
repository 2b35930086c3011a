"""Verdicts from a server, with the version of the model that gave them."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

from detector.verdicts import Verdicts
from protos.ledgate.v1 import classifier_pb2
from serving.reading import read_reply


@dataclass(frozen=True, kw_only=True)
class Version:
    """What tells one version of a model from another.

    Attributes:
        model: Its name.
        bundle_digest: SHA-256 of the bundle.
        calibration_digest: Of its calibration; None without one.
    """

    model: str
    bundle_digest: str
    calibration_digest: str | None

    def __str__(self) -> str:
        calibration = "not calibrated" if self.calibration_digest is None else self.calibration_digest[:12]
        return f"{self.model} {self.bundle_digest[:12]} ({calibration})"


@dataclass(frozen=True, kw_only=True)
class ServedVerdicts(Verdicts):
    """Verdicts, all of one version of the model.

    Attributes:
        version: Which.
    """

    version: Version

    @classmethod
    def read(cls, reply: classifier_pb2.ClassifyResponse, count: int) -> Self:
        """Reads a reply to a request of so many images.

        Raises:
            Internal: The reply does not fit the request, contradicts itself, or has a score that is not a number.
        """
        version = Version(
            model=reply.model,
            bundle_digest=reply.bundle_digest,
            calibration_digest=reply.calibration_digest or None,
        )
        return cls(**vars(read_reply(reply, count)), version=version)

    def only(self, rows: slice) -> "ServedVerdicts":
        """Some rows; a field that is lacking stays so."""
        own = Verdicts(**{field.name: getattr(self, field.name) for field in fields(Verdicts)})
        return ServedVerdicts(**vars(own.only(rows)), version=self.version)

    @classmethod
    def concatenate(cls, parts: Sequence[Verdicts]) -> Verdicts:
        """Joins verdicts in order, of whatever versions: the whole names none."""
        return Verdicts.concatenate(parts)
