"""The bundle: the folder that is served.

    bundle.json        classes, input, members with their digests, provenance
    member_0.onnx ...  images in [0, 1] in, logits (N, L) out
    calibration.json   threshold and evidence (see `detector.calibration`)
    probes.npz         images that recognise another execution path

Opening a bundle checks every digest. That finds corruption and mix-ups. It does not stop somebody
who can write the folder: for that it would have to be signed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import Field, model_validator

from detector.calibration import FILE as CALIBRATION
from detector.calibration import Calibration
from detector.document import Document, Record, sha256
from detector.errors import BundleError, CalibrationError, InputError
from detector.files import name_of, new_folder, read_file, refuse_existing, write_bytes
from detector.inputspec import InputSpec
from detector.member import MAX_BYTES, Member, parse_member
from detector.prediction import check_member_count
from detector.probes import FILE as PROBES
from detector.probes import Probes
from detector.surgery import with_names
from detector.trial import check_names, check_same, run_member

MANIFEST: Final = "bundle.json"


class MemberFile(Record):
    """One member's file in the bundle.

    Attributes:
        file: Its name, in the bundle's folder.
        sha256: Of its content.
    """

    file: str = Field(pattern=r"^member_[0-9]{1,4}\.onnx$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(Document):
    """A bundle's `bundle.json`.

    Attributes:
        labels: L class names.
        input: What the members take.
        members: K files.
        member_count: K.
        class_count: L.
        provenance: What made the bundle: command, data, versions, commit.
        digest: Of this document, and so of the bundle.
    """

    format: Literal[1] = 1
    labels: tuple[str, ...]
    input: InputSpec
    members: tuple[MemberFile, ...]
    member_count: int
    class_count: int
    provenance: dict[str, Any]
    digest: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        """Counts are what they count, and K and L leave log diversity defined."""
        check_member_count(self.member_count, self.class_count)
        if len(self.members) != self.member_count or len(self.labels) != self.class_count:
            raise ValueError(
                f"expected {self.member_count} members and {self.class_count} labels, "
                f"found {len(self.members)} and {len(self.labels)}"
            )
        return self


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """An opened bundle; all of its files have been read and checked.

    Attributes:
        path: Its folder.
        manifest: `bundle.json`.
        members: The K members, as they were checked.
        calibration: `calibration.json`, or None.
        probes: `probes.npz`, there with a calibration.
        served_as: The name by which a server offers it; None for the folder's.
    """

    path: Path
    manifest: Manifest
    members: tuple[bytes, ...]
    calibration: Calibration | None
    probes: Probes | None
    served_as: str | None = None

    @classmethod
    def open(cls, path: Path | str, *, calibrated: bool = True, served_as: str | None = None) -> "Bundle":
        """Reads a bundle and checks every digest.

        Args:
            path: The bundle's folder.
            calibrated: Whether to read its calibration too; who makes a new one does not.
            served_as: The name by which a server offers it; None for the folder's.

        Raises:
            BundleError: Not a bundle, or a file that does not match its digest.
            MemberError: A member that `detector.member` refuses.
            CalibrationError: The calibration belongs to other members, or is damaged.
        """
        path = Path(path)
        if not path.is_dir():
            raise BundleError(f"{path}: expected a bundle's folder, found {'a file' if path.exists() else 'nothing'}")
        manifest = Manifest.load(path / MANIFEST)
        members = tuple(_read_member(path / member.file, member.sha256, manifest.input) for member in manifest.members)
        # Probes without a calibration are what is left of one: it is missed, not taken for none.
        found = calibrated and ((path / CALIBRATION).exists() or (path / PROBES).exists())
        calibration = Calibration.load(path / CALIBRATION) if found else None
        probes = None if calibration is None else _read_probes(path, manifest, calibration)
        return cls(
            path=path,
            manifest=manifest,
            members=members,
            calibration=calibration,
            probes=probes,
            served_as=served_as,
        )

    @property
    def name(self) -> str:
        """By which a server offers the bundle: what it was given, else the folder's, a link's own where it is one."""
        return self.served_as or name_of(self.path)

    @property
    def labels(self) -> tuple[str, ...]:
        """L class names."""
        return self.manifest.labels

    @property
    def input(self) -> InputSpec:
        """What the members take."""
        return self.manifest.input

    @property
    def member_count(self) -> int:
        """K."""
        return self.manifest.member_count

    @property
    def class_count(self) -> int:
        """L."""
        return self.manifest.class_count

    @property
    def digest(self) -> str:
        """The manifest's digest, which covers the members' digests."""
        return self.manifest.digest

    @property
    def members_digest(self) -> str:
        """What a calibration belongs to: the members and how images reach them."""
        return _members_digest(self.manifest)

    def save_calibration(self, calibration: Calibration, probes: Probes) -> Calibration:
        """Writes a calibration with its probes into the folder; returns it sealed.

        The probes go first. A process killed between the two leaves a bundle that is refused until
        it is calibrated again, never one with a threshold of other probes.
        """
        probes.save(self.path / PROBES)
        record = calibration.probes.model_copy(update={"sha256": sha256((self.path / PROBES).read_bytes())})
        return calibration.model_copy(update={"probes": record}).save(self.path / CALIBRATION)


def write_bundle(
    out: Path,
    *,
    members: Sequence[bytes | Member],
    labels: Sequence[str],
    provenance: Mapping[str, Any],
    resize: bool = False,
    grey_to_rgb: bool = False,
) -> Bundle:
    """Checks members and writes them as a bundle, whole or not at all.

    Args:
        out: The new folder.
        members: K serialized ONNX models, or parsed ones, in order.
        labels: L class names.
        provenance: What made the bundle, as JSON.
        resize: See `InputSpec`.
        grey_to_rgb: See `InputSpec`.

    Raises:
        MemberError: A member is refused, does not run, or does not fit the others.
        InputError: K and L without log diversity, labels that do not fit, or `out` exists.
    """
    refuse_existing(out)
    if not members:
        raise InputError("members: expected at least 2, found none")
    parsed = [
        with_names(member if isinstance(member, Member) else parse_member(member, f"member_{k}"))
        for k, member in enumerate(members)
    ]
    answers = [run_member(member) for member in parsed]
    classes = [answer.shape[1] for answer in answers]
    check_same(parsed, classes)
    check_names(labels, classes[0])
    contents = [member.content for member in parsed]
    manifest = Manifest(
        labels=tuple(labels),
        input=InputSpec(shape=parsed[0].shape, resize=resize, grey_to_rgb=grey_to_rgb),
        members=tuple(MemberFile(file=f"member_{k}.onnx", sha256=sha256(c)) for k, c in enumerate(contents)),
        member_count=len(parsed),
        class_count=classes[0],
        provenance=dict(provenance),
    )
    with new_folder(out) as folder:
        for member, content in zip(manifest.members, contents, strict=True):
            write_bytes(folder / member.file, content)
        manifest.save(folder / MANIFEST)
        bundle = Bundle.open(folder)  # what could not be opened never appears
    return replace(bundle, path=out)


def _members_digest(manifest: Manifest) -> str:
    """The members' digests and the input, as one digest."""
    parts = [member.sha256 for member in manifest.members]
    return sha256("\n".join([*parts, manifest.input.model_dump_json()]).encode())


def _read_member(path: Path, expected: str, spec: InputSpec) -> bytes:
    """A member, read once and returned as it was checked, so that nothing else runs."""
    content = read_file(path, lambda found: BundleError(f"{path}: {found}"), limit=MAX_BYTES)
    found = sha256(content)
    if found != expected:
        raise BundleError(f"{path}: expected SHA-256 {expected[:12]}..., found {found[:12]}...; the file was changed")
    member = parse_member(content, str(path))
    if member.shape != spec.shape:
        raise BundleError(f"{path}: expected input {spec.shape}, found {member.shape}")
    return member.content


def _read_probes(path: Path, manifest: Manifest, calibration: Calibration) -> Probes:
    """The probes, once the calibration is known to belong to these members and to these probes."""
    if calibration.members_digest != _members_digest(manifest):
        raise CalibrationError(
            f"{path / CALIBRATION}: belongs to other members ({calibration.members_digest[:12]}..., expected "
            f"{_members_digest(manifest)[:12]}...); calibrate this bundle: ledgate calibrate {path} ..."
        )
    calibration.check_classes(manifest.class_count)
    file = path / PROBES
    content = read_file(file, lambda found: CalibrationError(f"{file}: {found}"))
    if sha256(content) != calibration.probes.sha256:
        raise CalibrationError(f"{file}: does not match its digest; the file was changed, or a calibration interrupted")
    return Probes.parse(content, file)
