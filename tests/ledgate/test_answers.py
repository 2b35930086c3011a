"""What the demos say of the answers they got."""

from ledgate.answers import Answers


def test_what_is_not_detected_is_said() -> None:
    said = Answers(rows={}).undetected({"auc": {"fgsm-0.1": 0.51, "pgd10-0.1": 0.5, "pgd10-0.2": 0.3}})
    assert "NOT DETECTED: pgd10-0.1, pgd10-0.2. " in said


def test_nothing_is_said_where_all_are_detected() -> None:
    assert Answers(rows={}).undetected({"auc": {"fgsm-0.1": 0.9}}) == ""
