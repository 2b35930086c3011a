"""What `ledgate attack` does between its options and its file: check them, find the images, attack."""

import argparse
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

from detector.errors import InputError, SettingError
from ledgate.connection import CONNECTION, connect
from ledgate.oracles import Kind, opened
from ledgate.settings import OPTIONS, SQUARE, flag, settings

if TYPE_CHECKING:
    from pathlib import Path

    from detector.imageset import ImageSet
    from detector.oracle import Oracle

_TIMEOUT_S: Final = 30.0
_LIBRARIES: Final = ("torch", "torchvision")


def attacked(options: argparse.Namespace) -> "ImageSet":
    """The attacked images that the options ask for.

    Raises:
        LedgateError: Options that do not belong together, or whatever fails.
    """
    kind = Kind.of(options.source)
    _check(options, kind)
    given = {option: getattr(options, option) for option in OPTIONS if getattr(options, option) is not None}
    made_by = settings(options.attack, given, seed=options.seed)
    if options.aware_of is not None:
        made_by = _aware(made_by, options.aware_of)
    by_asking = options.attack == SQUARE
    with ExitStack() as stack:
        asked = by_asking or options.substitute is not None
        oracle = stack.enter_context(_opened(options)) if asked else None
        run = _run(options, kind)
        images = _clean(options, run, oracle)
        if by_asking:
            assert oracle is not None
            return _by_asking(options, oracle, images, made_by)
        if oracle is not None:
            oracle.labels_of(images)  # refused before the work, not after it
        made = _by_gradients(options, run, images, made_by)
        return made if oracle is None else _transferred(options, oracle, run, made)


def _check(options: argparse.Namespace, kind: Kind) -> None:
    """Refuses options that mean nothing here, rather than leave them aside."""
    by_asking, served = options.attack == SQUARE, kind is Kind.SERVER
    here = not served or options.substitute is not None
    for names, fits, expected, found in (
        (("model", "timeout_s", *CONNECTION), served, Kind.SERVER, kind),
        (("device", "threads"), here, f"{Kind.RUN} or {Kind.BUNDLE}", kind),
        (("budget",), by_asking, f"--attack {SQUARE}", options.attack),
        (("loss", "member", "substitute", "aware_of"), not by_asking, "an attack that follows gradients", SQUARE),
        (("dataset", "data_root"), options.clean is None, "--split", "--clean"),
    ):
        for name in names:
            if _given(options, name) and not fits:
                raise SettingError(f"{flag(name)}: expected with {expected} only, found with {found}")
    if options.loss == "paper" and options.target is not None:
        raise SettingError("--target: expected with --loss label only, found with paper, which has no target")
    if not by_asking and options.substitute is None and kind is not Kind.RUN:
        raise SettingError(
            f"--attack {options.attack}: expected {Kind.RUN}, whose gradients it follows, found {kind}; --attack "
            f"{SQUARE} needs none, and --substitute RUN attacks a run of yours and measures what that does to {kind}"
        )


def _given(options: argparse.Namespace, name: str) -> bool:
    """Whether an option stands on the command line; 0 does."""
    return getattr(options, name) is not None and getattr(options, name) is not False


def _run(options: argparse.Namespace, kind: Kind) -> Any:
    """The training run whose gradients are followed, or that is asked; None without one."""
    folder = options.substitute or (options.source if kind is Kind.RUN else None)
    if folder is None:
        return None
    from training.run import Run

    return Run.open(folder)


def _opened(options: argparse.Namespace) -> Any:
    """The source, to be asked."""
    return opened(
        options.source,
        device=options.device or "auto",
        threads=options.threads,
        budget=options.budget,
        connect=lambda address: connect(address, options),
        model=options.model or "",
        timeout_s=_TIMEOUT_S if options.timeout_s is None else options.timeout_s,
    )


def _clean(options: argparse.Namespace, run: Any, oracle: "Oracle | None") -> "ImageSet":
    """What to start from."""
    from detector.imageset import ImageSet
    from detector.sample import sample

    images = ImageSet.load(options.clean) if options.clean is not None else _split(options, run, oracle)
    return sample(images, options.n, seed=options.seed)


def _split(options: argparse.Namespace, run: Any, oracle: "Oracle | None") -> "ImageSet":
    """A part of a data set: the run's own, or another of the same shape."""
    name = options.dataset or (None if run is None else run.config.dataset)
    if name is None:
        raise SettingError(
            "--split: expected with --dataset, since only a training run has a data set of its own, found without; "
            "or --clean FILE.npz"
        )
    try:
        from training.datasets import load
        from training.splits import take
    except ImportError as error:
        if error.name not in _LIBRARIES:
            raise
        raise InputError(f"--split: expected {error.name}, which reads data sets, found it not installed; pip install "
                         "'ledgate[train]', or give --clean FILE.npz, which needs none") from None  # fmt: skip
    own = run is not None and name == run.config.dataset
    size = run.config.image_size if own else _size(name, oracle)
    dataset = load(name, root=options.data_root, image_size=size)
    checkpoint = run.checkpoint() if own else None
    if checkpoint is not None:
        checkpoint.check_listing(dataset.listing)
    return take(dataset, options.split)


def _size(name: str, oracle: "Oracle | None") -> int:
    """To what the images of a folder are stretched, where not a run says so."""
    if name != "folder" or oracle is None:
        return 0
    _, height, width = oracle.shape
    return height if height == width else 0


def _by_asking(options: argparse.Namespace, oracle: "Oracle", images: "ImageSet", made_by: Any) -> "ImageSet":
    """Attacked through queries alone."""
    from detector.attacked import BATCH_SIZE, attack
    from detector.goal import Towards
    from detector.unfinished import folder_of

    return attack(
        oracle,
        images,
        made_by,
        target=None if options.target is None else Towards(options.target, options.seed),
        batch_size=BATCH_SIZE if options.batch_size is None else options.batch_size,
        unfinished=folder_of(options.out),
    )


def _by_gradients(options: argparse.Namespace, run: Any, images: "ImageSet", made_by: Any) -> "ImageSet":
    """Attacked through the gradients of a run."""
    from detector.unfinished import folder_of
    from training.aim import Aim, AwayAsInPaper, AwayFromLabel, Towards
    from training.attacked import attack
    from training.execution import THREADS

    aim: Aim = AwayAsInPaper() if options.loss == "paper" else AwayFromLabel()
    if options.target is not None:
        aim = Towards(options.target, options.seed)
    return attack(
        run,
        images,
        made_by,
        aim=aim,
        member=options.member,
        batch_size=options.batch_size,
        device=options.device or "auto",
        threads=THREADS if options.threads is None else options.threads,
        unfinished=folder_of(options.out),
    )


def _transferred(options: argparse.Namespace, oracle: "Oracle", run: Any, made: "ImageSet") -> "ImageSet":
    """What images made on a substitute are to the source."""
    from detector.attacked import BATCH_SIZE
    from detector.transfer import transfer
    from training.oracle import known_as

    return transfer(oracle, made, made_on=known_as(run), batch_size=options.batch_size or BATCH_SIZE)


def _aware(made_by: Any, calibration: "Path") -> Any:
    """The attack, made to look harmless to the detector of a calibration as well."""
    from detector.calibration import Calibration
    from training.attacks import AutoAttack, DetectorAware

    if isinstance(made_by, AutoAttack):
        raise SettingError(
            "--aware-of: expected an attack that can be given an aim, found autoattack, whose is its own"
        )
    known = Calibration.load(calibration)
    return DetectorAware(attack=made_by, score=known.score_fitted, threshold=known.limit)
