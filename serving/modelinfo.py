"""What a client knows of a model on a server."""

from dataclasses import dataclass

from protos.ledgate.v1 import classifier_pb2


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """A model on a server, as it describes itself.

    Attributes:
        name: By which it is asked for.
        bundle_digest: SHA-256 of the bundle.
        calibration_digest: Of its calibration; None without one, and then nothing is flagged.
        members: K.
        labels: L class names.
        shape: (C, H, W) of its images.
        resizes: Whether encoded images of another size are taken.
        greys_to_rgb: Whether encoded grey images are taken by a model of colour images.
        score_name: What the threshold is compared with; None without a calibration.
        threshold: An image is flagged when its score is below it; None without a calibration, where
            the server hides it, or where each predicted class has its own.
        thresholds: Those of the predicted classes, L; None where there are none, or hidden.
        target: What the threshold was to achieve; None without a calibration.
        clean_count: Clean images behind the threshold.
        provider: ONNX Runtime's name of what the members run on.
        dtype: Of the members' arithmetic.
        tf32: TensorFloat-32 allowed.
        max_images: Most images of one call; `Client` cuts larger arrays.
        max_message_bytes: Largest request; likewise.
        max_pixels: Largest encoded image.
        available: Names of all models of this server.
    """

    name: str
    bundle_digest: str
    calibration_digest: str | None
    members: int
    labels: tuple[str, ...]
    shape: tuple[int, ...]
    resizes: bool
    greys_to_rgb: bool
    score_name: str | None
    threshold: float | None
    thresholds: tuple[float, ...] | None
    target: str | None
    clean_count: int
    provider: str
    dtype: str
    tf32: bool
    max_images: int
    max_message_bytes: int
    max_pixels: int
    available: tuple[str, ...]

    @classmethod
    def read(cls, message: classifier_pb2.Model) -> "ModelInfo":
        """Reads the message."""
        calibration = message.calibration if message.HasField("calibration") else None
        told = calibration is not None and calibration.HasField("threshold")
        return cls(
            name=message.name,
            bundle_digest=message.bundle_digest,
            calibration_digest=message.calibration_digest or None,
            members=message.members,
            labels=tuple(message.labels),
            shape=tuple(message.input.shape),
            resizes=message.input.resizes,
            greys_to_rgb=message.input.greys_to_rgb,
            score_name=None if calibration is None else calibration.score_name,
            threshold=calibration.threshold if calibration is not None and told else None,
            thresholds=None if calibration is None else tuple(calibration.thresholds) or None,
            target=None if calibration is None else calibration.target,
            clean_count=0 if calibration is None else calibration.clean_count,
            provider=message.execution_path.provider,
            dtype=message.execution_path.dtype,
            tf32=message.execution_path.tf32,
            max_images=message.limits.max_images,
            max_message_bytes=message.limits.max_message_bytes,
            max_pixels=message.limits.max_pixels,
            available=tuple(message.available),
        )
