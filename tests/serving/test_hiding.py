"""Flag-only replies hide the score, or the bundle is refused."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from detector.bundle import Bundle
from detector.calibrate import calibrate
from detector.detector import Detector
from detector.errors import CalibrationError
from detector.imageset import ImageSet
from detector.scores import SCORES
from detector.targets import TargetFpr
from ledgate.cli import main
from serving.config import Reply, ServerConfig
from serving.hiding import check_hidden
from serving.server import Server
from tests.serving.conftest import PATIENCE_S, SHAPE, Served, picture

REASON = "expected a score that flag-only replies hide, found max_probability, which anybody can compute from a reply's"


@pytest.fixture(scope="session")
def scored(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The bundle `tiny`, calibrated with another score."""
    root = tmp_path_factory.mktemp("scored")
    images = ImageSet(images=np.random.default_rng(0).integers(0, 256, (400, *SHAPE)).astype(np.uint8))

    def made(score: str) -> Path:
        path = root / score / "tiny"
        if not path.exists():
            shutil.copytree(folder / "tiny", path)
            calibrate(path, clean=images, target=TargetFpr(0.2), score=score, device="cpu")
        return path

    return made


@pytest.mark.parametrize("score", SCORES)
def test_each_score_is_hidden_or_refused(scored: Callable[[str], Path], score: str) -> None:
    bundle = Bundle.open(scored(score))
    check_hidden(bundle, Reply.FULL)
    if SCORES[score].of_prediction:
        with pytest.raises(
            CalibrationError, match=f"tiny: expected a score that flag-only replies hide, found {score}"
        ):
            check_hidden(bundle, Reply.FLAG_ONLY)
    else:
        check_hidden(bundle, Reply.FLAG_ONLY)


def test_without_a_calibration_there_is_none_to_hide(twins: Detector) -> None:
    check_hidden(twins.bundle, Reply.FLAG_ONLY)


def test_what_it_is_about(scored: Callable[[str], Path], serve: Callable[..., Served]) -> None:
    """A full reply shows it: the probabilities that every reply has say the score, and so how near an image is."""
    detector = Detector.open(scored("max_probability"), device="cpu", threads=1)
    verdicts = serve(detector).client.classify(np.stack([picture(number) for number in range(50)]))
    top = verdicts.probabilities.max(axis=1)
    apart = top < 0.99  # where 1 - p loses no digits
    assert apart.any()
    assert verdicts.score is not None
    np.testing.assert_allclose(np.log(top / (1 - top))[apart], verdicts.score[apart], rtol=1e-9)


def test_a_server_refuses_to_open_it_and_to_take_it(scored: Callable[[str], Path], tiny: Detector) -> None:
    detector = Detector.open(scored("max_probability"), device="cpu", threads=1)
    with Server(ServerConfig(port=0, reply=Reply.FLAG_ONLY)) as server:
        server.start()
        with pytest.raises(CalibrationError, match=REASON):
            server.open([detector])
        server.open([tiny])
        with pytest.raises(CalibrationError, match=REASON):
            server.replace(detector)
        assert [model.detector for model in server.models] == [tiny]


def test_the_command_refuses_it_with_a_line(scored: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["serve", str(scored("max_probability")), "--reply=flag-only", "--port=0", "--device=cpu", "--threads=1"]
    ended = subprocess.run(
        [sys.executable, "-m", "ledgate", *words], check=False, capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert REASON in line
    assert line.endswith(
        "calibrate with one of log_diversity, mutual_information, energy, typicality, mahalanobis, "
        "or serve with --reply full"
    )
    assert main([*words, "--dry-run", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [check["name"] for check in found if not check["passed"]] == [f"bundle {scored('max_probability')}"]
    assert REASON in found[0]["found"]
