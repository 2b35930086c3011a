"""`ledgate attack` refuses what does not belong together, in one line, and leaves nothing behind."""

from pathlib import Path

import pytest

import training
from detector.bundle import Bundle
from tests.ledgate.test_attack import refusal


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["BUNDLE", "--attack", "pgd", "--eps", "0.1"], 2, "--attack pgd: expected a training run, whose gradients it"),
        (["BUNDLE", "--attack", "square"], 2, "--eps: expected with square, which has no default for it, found none"),
        (["BUNDLE", "--attack", "square", "--eps", "2"], 2, "eps: expected a number above 0 and at most 1"),
        (["BUNDLE", "--attack", "square", "--eps", "0.1", "--steps", "3"], 2, "--steps: expected for bim, cw, ead,"),
        (["BUNDLE", "--attack", "square", "--eps", "0.1", "--aware-of", "c.json"], 2, "--aware-of: expected with an"),
        (["nowhere", "--attack", "fgsm", "--eps", "0.1"], 1, "nowhere: expected the folder of a run or a bundle, or"),
        (["RUN", "--attack", "fgsm", "--eps", "0.1", "--budget", "3"], 2, "--budget: expected with --attack square"),
        (["RUN", "--attack", "fgsm", "--eps", "0.1", "--timeout-s", "3"], 2, "--timeout-s: expected with a server"),
        (["RUN", "--attack", "bim", "--eps", "0.1", "--loss", "paper", "--target", "3"], 2, "--target: expected with"),
        (["RUN", "--attack", "autoattack", "--eps", "0.1", "--aware-of", "c.json"], 2, "--aware-of: expected an"),
        (["RUN", "--attack", "fgsm", "--eps", "0.1", "--aware-of", "nowhere.json"], 1, "nowhere.json: expected a file"),
        (["BUNDLE", "--attack", "square", "--eps", "0.1", "--budget", "0"], 2, "budget: expected at least 1 query,"),
        (["RUN", "--attack", "fgsm", "--eps", "0.1", "--budget", "0"], 2, "--budget: expected with --attack square"),
        (["BUNDLE", "--attack", "square", "--eps", "0.1", "--budget", "5"], 1, "budget: expected at least 6 queries,"),
        (["BUNDLE", "--attack", "square", "--eps", "0.1", "--member", "0"], 2, "--member: expected with an attack"),
        (["BUNDLE", "--attack", "square", "--eps", "0.1", "--loss", "paper"], 2, "--loss: expected with an attack"),
        (["BUNDLE", "--attack", "square", "--eps", "0.1", "--substitute", "RUN"], 2, "--substitute: expected with an"),
        (["BUNDLE", "--attack", "square", "--eps", "0.1", "--tls"], 2, "--tls: expected with a server only, found"),
        (["BUNDLE", "--attack", "square", "--eps", "0.1", "--model", "a"], 2, "--model: expected with a server only"),
        (["BUNDLE", "--attack", "square", "--eps", "0.1", "--target", "10"], 1, "target: expected 0 to 9, found 10"),
        (["BUNDLE", "--attack", "square", "--eps", "0.1", "--n", "7"], 1, "n: expected 1 to 6 images, found 7"),
        (["BUNDLE", "--attack", "square", "--eps", "0.1", "--data-root", "."], 2, "--data-root: expected with --split"),
        (["localhost:1", "--attack", "square", "--eps", "0.1", "--threads", "2"], 2, "--threads: expected with a"),
        (["localhost:1", "--attack", "pgd", "--eps", "0.1"], 2, "--attack pgd: expected a training run, whose"),
        (["BUNDLE", "--substitute", "nowhere", "--attack", "fgsm", "--eps", "0.1"], 1, "nowhere: expected a training"),
        (["RUN", "--attack", "pgd", "--eps", "0.1", "--member", "3"], 1, "member: expected 0 to 2, found 3"),
        (["RUN", "--attack", "cw"], 2, "--c: expected with cw, which has no default for it, found none"),
    ],
    ids=[
        "gradients of a bundle", "no eps", "eps", "steps", "aware without gradients", "nothing there", "budget",
        "timeout", "paper and target", "aware autoattack", "no calibration", "budget 0", "budget 0 elsewhere",
        "small budget",
        "member", "loss", "square on a substitute", "tls", "model", "target", "n", "data root", "threads of a server",
        "gradients of a server", "no substitute", "no such member", "no c",
    ],
)  # fmt: skip
def test_refusals_are_one_line(
    run: training.Run,
    bundle: Bundle,
    labelled: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    status: int,
    message: str,
) -> None:
    names = {"BUNDLE": str(bundle.path), "RUN": str(run.path)}
    given = [names.get(word, word) for word in words]
    line = refusal(capsys, *given, "--clean", labelled, "--out", tmp_path / "out.npz", status=status)
    assert line.startswith(f"ledgate attack: {message}")
    assert not list(tmp_path.glob("out.npz*"))
