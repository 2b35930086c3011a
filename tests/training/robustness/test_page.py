"""`robustness.md`: tables and words from cells, and the picture of the matrices."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.training.robustness.conftest import MakeCell, rate
from training import Run, TrainConfig
from training.attacks.auto import AutoAttack
from training.evaluation.experiment import Experiment, experiments
from training.evaluation.figure import save
from training.evaluation.result import Evaluation
from training.evaluation.setting import Setting
from training.paper import TABLES, settings_of
from training.robustness.accuracies import accuracy_table
from training.robustness.cell import Cell
from training.robustness.cells import most_images
from training.robustness.findings import Findings
from training.robustness.page import page
from training.robustness.picture import picture
from training.robustness.plan import AIMS, LABEL, PAPER, TRANSFERRED, attack_of, aware, radii_of, rows_of
from training.robustness.strong import strong_table
from training.robustness.transfer import Matrix, matrices, transfer_table

BASELINE, ADP = Setting(0.0, 0.0), Setting(2.0, 0.5)
PROVENANCE = {"command": "ledgate evaluate", "time": "now", "machine": "here", "versions": {"python": "3"}}

MakeFindings = Callable[..., Findings]


@pytest.fixture
def make(experiment: Experiment) -> MakeFindings:
    """An experiment of runs that nobody trained, with cells that nobody computed."""

    def findings_of(config: TrainConfig, cells: Mapping[Setting, Sequence[Sequence[Cell]]]) -> Findings:
        known = experiment.evaluations[0]
        images = {"train": 45_000, "validation": 2_500, "calibration": 2_500, "test": 10_000}
        made: list[Evaluation] = []
        for setting, runs in cells.items():
            for seed in range(len(runs)):
                own = replace(config, alpha=setting.alpha, beta=setting.beta, seed=seed)
                result = known.result.model_copy(update={"config": own.__dict__, "images": images})
                name = Path("runs") / f"{setting.name}-seed{seed}"
                made.append(replace(known, run=Run(path=name, config=own), result=result))
        (found,) = experiments(made)
        return Findings(experiment=found, cells=dict(sorted(cells.items())))

    return findings_of


def rows(table: str) -> dict[str, dict[str, str]]:
    """The cells of a Markdown table, by the first column and the head."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:2] == "| "]
    return {line[0]: dict(zip(lines[0], line, strict=True)) for line in lines[1:]}


def every_cell(make_cell: MakeCell, config: TrainConfig, **changes: Any) -> list[Cell]:
    """All cells of a run in full."""
    table = rows_of(config)
    found = [make_cell(attack_of(row), aim, **changes) for row in table for aim in (PAPER, LABEL)]
    for eps in radii_of(table):
        found += [make_cell(AutoAttack(eps=eps), LABEL, **changes), make_cell(aware(eps), LABEL, **changes)]
    return found


# --- Tables 2 to 5 ---------------------------------------------------------------------------------------------------


def test_ours_stand_beside_the_papers_bold_where_worse(
    make: MakeFindings, make_cell: MakeCell, config: TrainConfig
) -> None:
    fgsm = attack_of(rows_of(config)[0])
    cells = [make_cell(fgsm, PAPER, 0.7), make_cell(fgsm, LABEL, 0.2)]
    found = rows(accuracy_table(make(config, {ADP: [cells]})))["FGSM, eps = 0.02"]
    assert found == {
        "accuracy in %": "FGSM, eps = 0.02",
        "images": "100",
        "Baseline, paper": "36.5",
        "ADP<sub>2,0</sub>, paper": "57.4",
        "ADP<sub>2,0.5</sub>, paper": "61.7",
        "ADP<sub>2,0.5</sub>, ours, paper's protocol, 1 seed": "70.0 (60.0 to 78.8); +8.3",
        "ADP<sub>2,0.5</sub>, ours, correct loss, 1 seed": "20.0 (12.7 to 29.2); **-41.7**",
    }


def test_every_column_says_its_protocol(make: MakeFindings, make_cell: MakeCell, config: TrainConfig) -> None:
    cells = every_cell(make_cell, config)
    found = make(config, {BASELINE: [cells], ADP: [cells]})
    heads = list(rows(accuracy_table(found))["no attack"])[2:]
    assert all(head.endswith((", paper", ", paper's protocol, 1 seed", ", correct loss, 1 seed")) for head in heads)
    assert [head.split(",")[0] for head in heads][:3] == ["Baseline"] * 3
    assert all("AutoAttack" in head or "detector" in head for head in list(rows(strong_table(found))["0.01"])[2:])


def test_cw_shows_in_the_labels_column_what_held_in_the_papers(
    make: MakeFindings, make_cell: MakeCell, config: TrainConfig
) -> None:
    row = next(row for row in rows_of(config) if row.method == "cw")
    cell = make_cell(attack_of(row), PAPER, 0.6, held=rate(0.55))
    found = rows(accuracy_table(make(config, {ADP: [[cell]]})))["C&W, c = 0.001"]
    assert found["ADP<sub>2,0.5</sub>, ours, paper's protocol, 1 seed"].startswith("60.0 ")
    assert found["ADP<sub>2,0.5</sub>, ours, correct loss, 1 seed"].startswith("55.0 ")


def test_what_did_not_run_says_so(make: MakeFindings, make_cell: MakeCell, config: TrainConfig) -> None:
    only = make_cell(attack_of(rows_of(config)[0]), PAPER)
    found = rows(accuracy_table(make(config, {ADP: [[only]]})))
    assert found["BIM, eps = 0.01"]["ADP<sub>2,0.5</sub>, ours, correct loss, 1 seed"] == "not run"
    assert found["BIM, eps = 0.01"]["images"] == "-"


def test_seeds_are_averaged_with_their_interval(make: MakeFindings, make_cell: MakeCell, config: TrainConfig) -> None:
    fgsm = attack_of(rows_of(config)[0])
    runs = [[make_cell(fgsm, PAPER, share)] for share in (0.5, 0.6, 0.7)]
    found = rows(accuracy_table(make(config, {ADP: runs})))["FGSM, eps = 0.02"]
    assert found["ADP<sub>2,0.5</sub>, ours, paper's protocol, 3 seeds"] == "60.0 (35.2 to 84.8); **-1.7**"


def test_table_5_has_the_papers_accuracy_without_an_attack(make: MakeFindings, make_cell: MakeCell) -> None:
    config = settings_of("cifar10", members=5)
    found = rows(accuracy_table(make(config, {ADP: [every_cell(make_cell, config)]})))["no attack"]
    assert found["Baseline, paper"] == "93.6"
    assert found["ADP<sub>2,0.5</sub>, ours, correct loss, 1 seed"].endswith("; **-3.8**")


def test_the_cell_on_most_images_is_shown(make_cell: MakeCell, config: TrainConfig) -> None:
    attack = attack_of(rows_of(config)[0])
    cells = [make_cell(attack, PAPER, images=count) for count in (10, 500, 30)]
    on_member = make_cell(attack, PAPER, images=9_000, member=1)
    found = most_images([*cells, on_member], attack.describe(), PAPER.describe())
    assert found == cells[1]
    assert most_images(cells, attack.describe(), LABEL.describe()) is None


def test_strong_attacks_are_bold_where_adp_does_worse(
    make: MakeFindings, make_cell: MakeCell, config: TrainConfig
) -> None:
    def cells(right: float, auto: float, knowing: float) -> list[Cell]:
        return [
            make_cell(AutoAttack(eps=0.01), LABEL, right, unnoticed=rate(auto)),
            make_cell(aware(0.01), LABEL, 0.0, unnoticed=rate(knowing)),
        ]

    found = rows(strong_table(make(config, {BASELINE: [cells(0.1, 0.8, 0.9)], ADP: [cells(0.05, 0.3, 0.95)]})))["0.01"]
    assert found["Baseline, AutoAttack: right"] == "10.0 (4.9 to 17.6)"
    assert found["ADP<sub>2,0.5</sub>, AutoAttack: right"] == "**5.0** (1.6 to 11.3)"
    assert found["ADP<sub>2,0.5</sub>, AutoAttack: wrong and not flagged"] == "30.0 (21.2 to 40.0)"
    assert found["ADP<sub>2,0.5</sub>, knows the detector: wrong and not flagged"].startswith("**95.0** ")


# --- Fig. 3 ----------------------------------------------------------------------------------------------------------


def transferred(make_cell: MakeCell, shares: np.ndarray) -> list[Cell]:
    """The cells of all matrices; of targeted ones, a tenth of the others'."""
    return [
        make_cell(
            attack, aim, member=k,
            members_right=tuple(rate(share) for share in shares[k]),
            members_at_target=tuple(rate(share / 10) for share in shares[k]) if aim != LABEL else (),
        )
        for attack in TRANSFERRED for aim in AIMS for k in range(len(shares))
    ]  # fmt: skip


SHARES = np.array([[0.1, 0.4, 0.5], [0.6, 0.2, 0.7], [0.8, 0.9, 0.3]])


def test_row_i_was_crafted_on_member_i(make: MakeFindings, make_cell: MakeCell, config: TrainConfig) -> None:
    of_settings = matrices(make(config, {ADP: [transferred(make_cell, SHARES)]}))
    assert [matrix.title for matrix in of_settings[ADP]] == [
        "PGD, untargeted", "PGD, targeted", "MIM, untargeted", "MIM, targeted",
    ]  # fmt: skip
    assert np.array_equal(of_settings[ADP][0].shares, SHARES)
    assert np.allclose(of_settings[ADP][1].shares, SHARES / 10)
    assert of_settings[ADP][0].own == pytest.approx(0.2)
    assert of_settings[ADP][0].others == pytest.approx(0.65)


def test_a_setting_with_a_gap_has_no_matrices(make: MakeFindings, make_cell: MakeCell, config: TrainConfig) -> None:
    whole = transferred(make_cell, SHARES)
    assert list(matrices(make(config, {BASELINE: [whole], ADP: [whole[:-1]]}))) == [BASELINE]


def test_the_transfer_table_is_bold_where_more_transfers(
    make: MakeFindings, make_cell: MakeCell, config: TrainConfig
) -> None:
    of_settings = matrices(
        make(config, {BASELINE: [transferred(make_cell, SHARES)], ADP: [transferred(make_cell, SHARES - 0.1)]})
    )
    found = rows(transfer_table(of_settings, {BASELINE: 0.9, ADP: 0.8}))
    assert found["no attack: right"]["ADP<sub>2,0.5</sub>, other nets"] == "80.0"
    assert found["PGD, untargeted: stay right"]["Baseline, other nets"] == "65.0"
    assert found["PGD, untargeted: stay right"]["ADP<sub>2,0.5</sub>, other nets"] == "**55.0**"
    assert found["PGD, targeted: reach the target"]["ADP<sub>2,0.5</sub>, other nets"] == "5.5"


@pytest.mark.parametrize("members", [3, 5])
def test_the_picture_has_every_number_and_a_legible_size(members: int, tmp_path: Path) -> None:
    def matrix(targeted: bool, start: int) -> Matrix:
        shares = (start + np.arange(members**2).reshape(members, members)) / 1000
        return Matrix(title="PGD", targeted=targeted, shares=shares, images=100)

    of_settings = {
        setting: [matrix(targeted=i % 2 == 1, start=100 * i + 400 * place) for i in range(4)]
        for place, setting in enumerate((BASELINE, ADP))
    }
    figure = picture(of_settings, "title")
    for axes, expected in zip(figure.axes, [each for row in of_settings.values() for each in row], strict=True):
        texts = {text.get_position(): text.get_text() for text in axes.texts}
        assert texts == {(j, i): f"{100 * expected.shares[i, j]:.1f}" for i in range(members) for j in range(members)}
    save(figure, tmp_path / "fig3.png")
    with Image.open(tmp_path / "fig3.png") as drawn:
        assert drawn.width > 4 * members * 45
        assert drawn.height > 2 * members * 45
    assert (tmp_path / "fig3.png").stat().st_size < 200_000


# --- the page --------------------------------------------------------------------------------------------------------


def section(text: str, title: str) -> str:
    """What stands below a heading that starts so."""
    return next(part for part in text.split("\n## ") if part.startswith(title))


def test_the_page_says_where_adp_falls(make: MakeFindings, make_cell: MakeCell, config: TrainConfig) -> None:
    pgd = next(attack_of(row) for row in rows_of(config) if row.method == "pgd")
    cells = [
        make_cell(pgd, PAPER, 0.45), make_cell(pgd, LABEL, 0.12), make_cell(AutoAttack(eps=0.01), LABEL, 0.01),
    ]  # fmt: skip
    text = page([make(config, {ADP: [cells]})], {}, PROVENANCE)
    assert "leaves 0.87 %" in text
    assert (
        "PGD at eps 0.01: ADP<sub>2,0.5</sub> is still right on 45.0 % in the paper's protocol, 12.0 % with the "
        "correct loss, and 1.0 % under AutoAttack."
    ) in section(text, "CIFAR-10")


def test_short_runs_and_samples_are_labelled(make: MakeFindings, make_cell: MakeCell) -> None:
    full = settings_of("cifar10")
    cells = every_cell(make_cell, full)
    short = section(page([make(replace(full, epochs=9), {ADP: [cells]})], {}, PROVENANCE), "CIFAR-10")
    assert "Table 2 of the paper. **A short run; not comparable with the paper's figures.**" in short
    assert "FGSM, BIM, PGD and MIM on 100 of 10,000 images; JSMA on 100" not in short
    assert "FGSM, BIM, PGD and MIM on 100 of 10,000 images; C&W and EAD on 100 of 1,000 images" in short
    assert "Fig. 3 not run" in short
    assert (
        "ledgate evaluate runs/adp-2-0.5-seed0 --data-root DATA --parts errors robustness transfer --device cuda"
        in short
    )
    assert "Not run: Baseline, ADP<sub>2,0</sub>." in short
    assert "--epochs 9 --settings baseline adp-2-0 --seeds 0 --parts errors robustness transfer " in short


def test_runs_in_full_are_not_said_to_lack_anything(make: MakeFindings, make_cell: MakeCell) -> None:
    full = settings_of("cifar100")
    cells = every_cell(make_cell, full, images=10_000)
    cells += [cell.model_copy(update={"task": cell.task.model_copy(update={"images": 10_000})})
              for cell in transferred(make_cell, SHARES)]  # fmt: skip
    whole = section(page([make(full, {BASELINE: [cells], ADP: [cells]})], {}, PROVENANCE), "CIFAR-100")
    assert "The paper's recipe in full" in whole
    assert "Not in full" not in whole
    assert "Not run" not in whole


def test_adversarially_trained_runs_are_held_against_table_4(make: MakeFindings, make_cell: MakeCell) -> None:
    config = settings_of("cifar10", adversarial="pgd")
    text = page([make(config, {ADP: [every_cell(make_cell, config)]})], {}, PROVENANCE)
    found = section(text, "CIFAR-10: 3 x resnet20, 180 epochs, trained against PGD")
    assert "Table 4 of the paper. The paper's recipe in full" in found
    assert "38.8" in found
    assert "trained against PGD: not run" not in text
    assert "trained against FGSM: not run" in text


def test_every_table_that_was_not_run_is_there_with_its_figures_and_command(
    make: MakeFindings, make_cell: MakeCell
) -> None:
    config = settings_of("mnist")
    text = page([make(config, {ADP: [every_cell(make_cell, config)]})], {}, PROVENANCE)
    assert text.count(": not run\n") == len(TABLES) - 1
    five = section(text, "Table 5: CIFAR-10, 5 x resnet20: not run")
    assert "--datasets cifar10 --arch resnet20 --members 5 --recipe paper --settings baseline adp-2-0.5 " in five
    assert rows(five)["EAD, c = 1, beta = 0.01"]["ADP<sub>2,0.5</sub>, paper"] == "65.3"
    assert "--adversarial fgsm" in section(text, "Table 4: CIFAR-10, 3 x resnet20, trained against FGSM: not run")
    assert "scripts/table1 --data-root DATA --tables 1 2 3 4 5" in text
