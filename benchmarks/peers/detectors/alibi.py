"""alibi-detect's adversarial autoencoder, in the environment of `scripts/peers-detection`.

Vacanti and Van Looveren, "Adversarial Detection and Correction by Matching Prediction Distributions", 2020: an
autoencoder learns to give images back so that the ensemble predicts the same, and the score is how far it does not.
The library is TensorFlow's, and trains through the classifier: ours is a step of it that asks torch for predictions
and for their gradients. Its licence (BSL 1.1) allows comparing; nothing of ours may depend on it.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any, Final

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # the library builds on Keras 2
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
import torch
from alibi_detect.ad import AdversarialAE
from numpy.typing import NDArray

from benchmarks.peers.detectors.detector import Case, Detector
from detector.imageset import ImageSet, as_floats
from detector.prediction import Floats
from training.execution import reproducible

_EPOCHS: Final = 10
_BATCH: Final = 64
_RATE: Final = 1e-3
# Sharpens the predictions that are matched, as the library's own examples do.
_TEMPERATURE: Final = 0.5
_CODE: Final = 40


class _Autoencoder(Detector):
    """The library's detector of one run."""

    def __init__(self, case: Case) -> None:
        train = _channels_last(case.train)
        self.fitted_on = f"{len(train):,} training images"
        tf.keras.utils.set_random_seed(case.seed)
        tf.config.threading.set_intra_op_parallelism_threads(case.subject.threads)
        tf.config.threading.set_inter_op_parallelism_threads(case.subject.threads)
        encoder, decoder = _networks(train.shape[1:])
        self._found = AdversarialAE(
            encoder_net=encoder, decoder_net=decoder, model=_classifier(case), threshold=0.0, temperature=_TEMPERATURE
        )
        optimizer = tf.keras.optimizers.Adam(learning_rate=_RATE)
        self._found.fit(train, epochs=_EPOCHS, batch_size=_BATCH, optimizer=optimizer, verbose=False)

    def score(self, images: ImageSet) -> Floats:
        """Minus its score, the divergence of the two predictions."""
        return -np.asarray(self._found.score(_channels_last(images), batch_size=_BATCH), dtype=np.float64)


def _channels_last(images: ImageSet) -> NDArray[np.float32]:
    """(N, H, W, C), as the library takes them."""
    return np.ascontiguousarray(as_floats(images.images).transpose(0, 2, 3, 1))


def _networks(shape: tuple[int, ...]) -> tuple[Any, Any]:
    """The autoencoder that the library's own examples have for CIFAR-10, for images of any size divisible by 4."""
    layers, (height, width, channels) = tf.keras.layers, shape
    low = height // 4, width // 4, 32
    encoder = tf.keras.Sequential([
        layers.InputLayer(input_shape=shape),
        layers.Conv2D(32, 4, strides=2, padding="same", activation="relu"),
        layers.Conv2D(32, 4, strides=2, padding="same", activation="relu"),
        layers.Flatten(),
        layers.Dense(_CODE),
    ])  # fmt: skip
    decoder = tf.keras.Sequential([
        layers.InputLayer(input_shape=(_CODE,)),
        layers.Dense(int(np.prod(low)), activation="relu"),
        layers.Reshape(low),
        layers.Conv2DTranspose(32, 4, strides=2, padding="same", activation="relu"),
        layers.Conv2DTranspose(channels, 4, strides=2, padding="same", activation="sigmoid"),
    ])  # fmt: skip
    return encoder, decoder


def _classifier(case: Case) -> Any:
    """The ensemble as a model of TensorFlow's: (N, H, W, C) to (N, L) probabilities."""
    victim, classes = case.subject.victim, len(case.subject.victim.checkpoint.class_names)

    def probabilities(images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = victim.ensemble(images.permute(0, 3, 1, 2))
        return logits.softmax(dim=2).mean(dim=1)

    def forward(images: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.no_grad(), reproducible(case.subject.threads, victim.device):
            return np.asarray(probabilities(torch.from_numpy(images).to(victim.device)).cpu())

    def backward(images: NDArray[np.float32], upstream: NDArray[np.float32]) -> NDArray[np.float32]:
        with reproducible(case.subject.threads, victim.device):
            at = torch.from_numpy(images).to(victim.device).requires_grad_()
            (slope,) = torch.autograd.grad(probabilities(at), at, torch.from_numpy(upstream).to(victim.device))
        return np.asarray(slope.cpu())

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def asked(images: Any) -> tuple[Any, Any]:
        found = tf.numpy_function(forward, [images], tf.float32)
        found.set_shape((None, classes))

        def gradient(upstream: Any) -> Any:
            slope = tf.numpy_function(backward, [images, upstream], tf.float32)
            slope.set_shape(images.shape)
            return slope

        return found, gradient

    class Classifier(tf.keras.Model):  # type: ignore[misc]
        def call(self, images: Any) -> Any:
            return asked(images)

    return Classifier()


def make(case: Case) -> Mapping[str, Callable[[], Detector]]:
    """The one."""
    return {"alibi-detect: adversarial autoencoder": lambda: _Autoencoder(case)}
