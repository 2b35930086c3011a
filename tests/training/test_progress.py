"""What a terminal shows while a run trains: drawn in a real one, of a stated width."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Sequence
from pathlib import Path

import pytest

SCRIPT = """
import sys
from training.progress import Progress

members, epochs, means = int(sys.argv[1]), 180, [float(word) for word in sys.argv[2:]]
done = {"accuracy": 0.9, "median_log_diversity": -1.5, "member_accuracy": [0.8] * members, "loss": 2.0, "seconds": 1.0}
with Progress(epochs=epochs, images=64 * 200, batch_size=64, metrics=[{**done, "epoch": 177}],
              shown=True, logged=True) as progress:
    for epoch in (178, 179, 180):
        for step in range(200):
            progress.step(means if step % 2 else None)
        progress.epoch({**done, "epoch": epoch, "accuracy": epoch / 1000})
"""


BAR = r"^epoch 1[78]\d/180 .*\d images/s, "
ADP = (1.25, 4.5, 1.5, -0.5)


def drawn(columns: int, members: int, means: Sequence[float] = ADP) -> list[str]:
    """The lines a terminal of this width was given, each drawing of a line by itself."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 0, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(members), *map(str, means)],
        stdout=follower,
        stderr=follower,
        stdin=subprocess.DEVNULL,
        cwd=Path(__file__).parents[2],
    )
    os.close(follower)
    content = b""
    try:
        while chunk := os.read(leader, 65536):
            content += chunk
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(leader)
    assert process.wait() == 0, content
    return [line for line in re.split(r"[\r\n]+|\x1b\[A", content.decode()) if line.strip()]


@pytest.mark.parametrize(("columns", "members"), [(80, 3), (80, 9), (140, 9)])
def test_nothing_is_wider_than_the_terminal(columns: int, members: int) -> None:
    lines = drawn(columns, members)
    assert max(map(len, lines)) <= columns
    bars = [line for line in lines if "images/s" in line]
    measured = [line for line in lines if "median log diversity" in line]
    assert all(re.search(rf"{BAR}loss 1\.250(: ECE .*)?, [\d:]+ left", line) for line in bars[1:])
    assert measured[0].startswith("epoch 177: val 0.900, median log diversity -1.500, members 0.800 0.800")
    assert measured[-1].startswith("epoch 180: val 0.180, median log diversity -1.500, members 0.800 0.800")
    whole = len(f"epoch 177: val 0.900, median log diversity -1.500, members{' 0.800' * members}")
    assert measured[-1].rstrip().endswith("0.800" if whole < columns else "\u2026")


@pytest.mark.parametrize(
    ("columns", "means", "shown"),
    [
        (100, ADP, "loss 1.250: ECE 4.500, H 1.500, log ED -0.500"),
        (99, ADP, "loss 1.250"),
        (100, (12.5, 14.5, 1.0, 0.0), "loss 12.500: ECE 14.500, H 1.000"),
        (100, (1.25, 1.25, 0.0, 0.0), "loss 1.250"),
    ],
    ids=["adp", "narrow", "no-beta", "baseline"],
)
def test_the_parts_of_the_loss_stand_beside_it_where_there_is_room(
    columns: int, means: Sequence[float], shown: str
) -> None:
    """With a bar that is more than a few columns wide, as late in a long run as can be."""
    bars = [line for line in drawn(columns, 3, means) if "images/s" in line]
    for bar in bars[1:]:
        assert re.search(rf"{BAR}{re.escape(shown)}, [\d:]+ left", bar)
        assert len(bar.split("|")[1]) >= 5


def test_nothing_is_shown_without_a_terminal() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, "3"], capture_output=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert (done.stdout, done.stderr) == (b"", b"")
