"""The members' arithmetic: float32, or half as wide, which is faster where the hardware has it and moves the scores.

A calibration measured in one precision is not taken over by another: its probes tell how far scores have moved (see
`detector.probes`).
"""

from enum import StrEnum

from detector.errors import SettingError


class Precision(StrEnum):
    """What the members compute in; images go in, and logits come out, as float32."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"

    @classmethod
    def parse(cls, text: str) -> "Precision":
        """Reads one of the names.

        Raises:
            SettingError: Another word.
        """
        try:
            return cls(text)
        except ValueError:
            raise SettingError(f"precision: expected {', '.join(cls)}, found '{text}'") from None
