"""`ledgate attack` refuses what does not belong together, in one line, and leaves nothing behind."""

from pathlib import Path

import pytest

import training
from detector.bundle import Bundle
from tests.ledgate.test_attack import refusal


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["BUNDLE", "--attack", "pgd", "--eps", "0.1"], "--attack pgd: expected a training run, whose gradients it"),
        (["BUNDLE", "--attack", "square"], "--eps: expected with square, which has no default for it, found none"),
        (["BUNDLE", "--attack", "square", "--eps", "2"], "eps: expected a number above 0 and at most 1"),
        (["BUNDLE", "--attack", "square", "--eps", "0.1", "--steps", "3"], "--steps: expected for bim, cw, ead, mim"),
        (["BUNDLE", "--attack", "square", "--eps", "0.1", "--aware-of", "c.json"], "--aware-of: expected with an att"),
        (["nowhere", "--attack", "fgsm", "--eps", "0.1"], "nowhere: expected the folder of a run or a bundle, or HOST"),
        (["RUN", "--attack", "fgsm", "--eps", "0.1", "--budget", "3"], "--budget: expected with --attack square only"),
        (["RUN", "--attack", "fgsm", "--eps", "0.1", "--timeout-s", "3"], "--timeout-s: expected with a server only"),
        (["RUN", "--attack", "bim", "--eps", "0.1", "--loss", "paper", "--target", "3"], "--target: expected with"),
        (["RUN", "--attack", "autoattack", "--eps", "0.1", "--aware-of", "c.json"], "--aware-of: expected an attack"),
        (["RUN", "--attack", "fgsm", "--eps", "0.1", "--aware-of", "nowhere.json"], "nowhere.json: expected a file"),
        (["BUNDLE", "--attack", "square", "--eps", "0.1", "--budget", "0"], "budget: expected at least 1 query, found"),
        (["RUN", "--attack", "fgsm", "--eps", "0.1", "--budget", "0"], "--budget: expected with --attack square only"),
        (["BUNDLE", "--attack", "square", "--eps", "0.1", "--budget", "5"], "budget: expected at least 6 queries, one"),
        (["BUNDLE", "--attack", "square", "--eps", "0.1", "--member", "0"], "--member: expected with an attack that"),
        (["BUNDLE", "--attack", "square", "--eps", "0.1", "--loss", "paper"], "--loss: expected with an attack that"),
        (["BUNDLE", "--attack", "square", "--eps", "0.1", "--substitute", "RUN"], "--substitute: expected with an att"),
        (["BUNDLE", "--attack", "square", "--eps", "0.1", "--tls"], "--tls: expected with a server only, found"),
        (["BUNDLE", "--attack", "square", "--eps", "0.1", "--model", "a"], "--model: expected with a server only"),
        (["BUNDLE", "--attack", "square", "--eps", "0.1", "--target", "10"], "target: expected 0 to 9, found 10"),
        (["BUNDLE", "--attack", "square", "--eps", "0.1", "--n", "7"], "n: expected 1 to 6 images, found 7"),
        (["BUNDLE", "--attack", "square", "--eps", "0.1", "--data-root", "."], "--data-root: expected with --split"),
        (["localhost:1", "--attack", "square", "--eps", "0.1", "--threads", "2"], "--threads: expected with a train"),
        (["localhost:1", "--attack", "pgd", "--eps", "0.1"], "--attack pgd: expected a training run, whose gradients"),
        (["BUNDLE", "--substitute", "nowhere", "--attack", "fgsm", "--eps", "0.1"], "nowhere: expected a training run"),
        (["RUN", "--attack", "pgd", "--eps", "0.1", "--member", "3"], "member: expected 0 to 2, found 3"),
        (["RUN", "--attack", "cw"], "--c: expected with cw, which has no default for it, found none"),
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
    message: str,
) -> None:
    names = {"BUNDLE": str(bundle.path), "RUN": str(run.path)}
    given = [names.get(word, word) for word in words]
    line = refusal(capsys, *given, "--clean", labelled, "--out", tmp_path / "out.npz")
    assert line.startswith(f"ledgate attack: {message}")
    assert not list(tmp_path.glob("out.npz*"))
