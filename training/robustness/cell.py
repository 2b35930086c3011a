"""What one attack did to one run: a cell of `robustness.json`, and what makes it what it is."""

import json
from collections.abc import Mapping
from typing import Any

from detector.document import Record, sha256
from detector.rates import Rate


class Task(Record):
    """What is attacked, how, and on which images: two of the same give the same figures.

    Attributes:
        run: The SHA-256 of the run's checkpoint.
        attack: The attack's settings, its `describe()`.
        aim: What is wanted of each image, its `describe()`.
        member: The member that the images are crafted on, from 0; None for the ensemble.
        images: How many.
        seed: Of the sample of the test part.
    """

    run: str
    attack: dict[str, Any]
    aim: dict[str, Any]
    member: int | None
    images: int
    seed: int

    @property
    def key(self) -> str:
        """A digest of all that, which a round trip through JSON does not change."""
        return sha256(json.dumps(json.loads(self.model_dump_json()), sort_keys=True).encode())

    def is_of(self, attack: Mapping[str, Any], aim: Mapping[str, Any], member: int | None = None) -> bool:
        """Whether it is that attack: all of its settings, or those that are given."""
        return (
            self.member == member
            and self.aim == dict(aim)
            and all(self.attack.get(name) == value for name, value in attack.items())
        )


class Cell(Record):
    """What an attack did.

    Attributes:
        name: Of the run's folder.
        task: What was done.
        clean: The ensemble is right before the attack.
        right: The ensemble is right after it: the accuracy that the paper prints.
        held: It is right before and after.
        unnoticed: It is wrong after, and the log diversity is not below the threshold.
        threshold: Of log diversity, chosen on the run's clean calibration images.
        clean_flagged: Clean images whose log diversity is below the threshold.
        members_right: Each member is right after the attack.
        members_at_target: Each member says what the attacker wants; none where that is no certain class.
        seconds: What attacking took, in the call that finished it.
        machine: Where.
    """

    name: str
    task: Task
    clean: Rate
    right: Rate
    held: Rate
    unnoticed: Rate
    threshold: float
    clean_flagged: Rate
    members_right: tuple[Rate, ...]
    members_at_target: tuple[Rate, ...]
    seconds: float
    machine: str
