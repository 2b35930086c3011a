"""The page: what it tells is what the calibration holds, and nobody's name is more than text in it."""

import base64
import hashlib
import html
import os
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.bundle import Bundle
from detector.calibrate import calibrate
from detector.calibration import Calibration
from detector.folderimages import FolderImages
from detector.imageset import ImageSet
from detector.page.page import render
from detector.page.scored import Scored
from detector.shifts import MILD
from detector.source import Selection
from detector.targets import TargetFpr
from tests.conftest import make_images
from tests.detector.page.conftest import AWARE, HOSTILE, Made


class Reader(HTMLParser):
    """What a browser would see: elements, attributes and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self._text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self._text.append(data)

    def handle_endtag(self, tag: str) -> None:
        self._text.append(" " * (tag in ("dt", "td", "th")))

    @property
    def text(self) -> str:
        return " ".join("".join(self._text).split())


@pytest.fixture(params=["full", "bare"])
def made(request: pytest.FixtureRequest) -> Made:
    found: Made = request.getfixturevalue(request.param)
    return found


def test_no_name_becomes_markup(made: Made) -> None:
    reader = Reader(made.html)
    assert reader.tags["script"] == 0
    assert reader.tags["style"] == reader.tags["title"] == reader.tags["main"] == 1
    assert not [found for found in reader.attributes if found[1].startswith("on") or found[1] == "style"]
    assert reader.tags["img"] == len(re.findall(r'<img src="data:image/png;base64,[A-Za-z0-9+/=]+"', made.html))


def test_every_name_is_there_as_it_is(full: Made) -> None:
    text = Reader(full.html).text
    assert full.bundle.name in text
    assert f"{HOSTILE}.npz" in text
    assert full.calibration.provenance["command"] in text
    assert text.count(HOSTILE) > 10  # the attack, the images of another kind, the classes of images


def test_nothing_is_fetched(made: Made) -> None:
    places = [value for _, name, value in Reader(made.html).attributes if name in ("src", "href", "xlink:href")]
    assert places
    assert {re.split("[:,]", place)[0][:4] for place in places if not place.startswith("#")} <= {"data"}
    assert not re.search(r"url\(|@import|https?://", made.html)


def test_every_link_leads_somewhere(made: Made) -> None:
    attributes = Reader(made.html).attributes
    anchors = [value for _, name, value in attributes if name == "id"]
    assert len(set(anchors)) == len(anchors)
    assert {value[1:] for _, name, value in attributes if name == "href" and value.startswith("#")} <= set(anchors)


def test_the_policy_lets_in_this_very_sheet_and_no_script(made: Made) -> None:
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', made.html)
    (style,) = re.findall(r"<style>(.*?)</style>", made.html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.startswith(f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; ")
    assert "script" not in policy


def test_the_figures_are_those_of_the_calibration(full: Made) -> None:
    found, text = full.calibration, Reader(full.html).text
    for rate in (found.false_positives, found.accuracy, *(seen.flagged for seen in (*found.changed, *found.foreign))):
        assert rate is not None
        assert f"{100 * rate.rate:.1f} %" in text
        assert f"{100 * rate.low:.1f} % to {100 * rate.high:.1f} %" in text
    for view in (*found.attacks, *found.views):
        assert view.flagged_successful is not None
        assert view.tpr is not None
        assert view.tpr_successful is not None
        for rate in (view.flagged, view.flagged_successful):
            assert f"{100 * rate.rate:.1f} % {100 * rate.low:.1f} % to {100 * rate.high:.1f} % of {rate.n}" in text
        assert f"{view.auc.value:.3f} {view.auc.low:.3f} to {view.auc.high:.3f}" in text
        for every, wins in zip(view.tpr, view.tpr_successful, strict=True):
            assert f"{100 * every:.1f} % / {100 * wins:.1f} %" in text
    for evidence in found.comparison:
        for row in evidence.rows:
            assert row.successful is not None
            assert f"{row.every.auc.value:.3f} / {row.successful.auc.value:.3f}" in text
    assert found.confidence is not None
    for figure in (found.confidence.ece_before, found.confidence.ece_after, found.confidence.nll_before):
        assert f"{figure:.3f}" in text
    assert f"{found.threshold:.6g}" in text


def test_what_was_done_is_told(full: Made) -> None:
    found, text = full.calibration, Reader(full.html).text
    for told in (str(found.target), found.digest, found.members_digest, full.bundle.digest, str(found.execution_path)):
        assert told in text
    for name, version in found.provenance["versions"].items():
        assert f"{name} {version}" in text
    assert "seed 0, of the draws" in text


def test_what_passes_is_told_in_numbers(full: Made) -> None:
    section = re.sub(r"\s+", " ", full.html.split('id="missed"')[1].split("</section>")[0])
    worst = full.calibration.views[1].flagged_successful
    assert worst is not None
    assert f"{100 * (1 - worst.rate):.1f} %</span>" in section
    for attack in full.calibration.attacks:
        assert attack.flagged_successful is not None
        passed = attack.flagged_successful.n - attack.flagged_successful.count
        assert f"turns wrong pass unflagged: {passed} of the {attack.flagged.n} attacked" in section
    assert f"of the {worst.n} images that at least one attack turns wrong pass unflagged" in section
    foreign = full.calibration.foreign[0].flagged
    assert f"{100 * (1 - foreign.rate):.1f} % of {foreign.n}" in section
    assert f"<b>An attacker who knows the detector.</b> <bdi>{AWARE}</bdi> aimed at keeping the score high" in section


def test_where_success_is_not_known_all_images_count(full: Made) -> None:
    unknown = {"flagged_successful": None, "auc_successful": None, "tpr_successful": None}
    attacks, views = (
        tuple(attack.model_copy(update=unknown) for attack in group)
        for group in (full.calibration.attacks, full.calibration.views)
    )
    text = Reader(rendered(full, full.calibration.model_copy(update={"attacks": attacks, "views": views}))).text
    for attack in attacks:
        flagged = attack.flagged
        told = f"of the {flagged.n} images after {attack.name} pass unflagged: {flagged.n - flagged.count} images"
        assert told in text


def test_the_mild_change_with_the_most_false_alarms_comes_first(full: Made) -> None:
    most = max(full.calibration.changed, key=lambda seen: seen.flagged.rate)
    told = f"{100 * most.flagged.rate:.1f} % of {most.flagged.n} honest images flagged after {most.name}, the worst of"
    assert f"{told} {len(full.calibration.changed)} (" in Reader(full.html).text


def test_no_line_ends_between_a_number_and_its_per_cent(full: Made) -> None:
    first = full.html.split("</style>")[1].split('<section id="caught">')[0]
    assert first.count("\u00a0%") > 10
    assert re.findall(r"\d %", first) == []


def test_the_words_of_the_command_are_not_broken(full: Made) -> None:
    found = re.findall(r'<span class="word">(.*?)</span>', full.html)
    assert " ".join(map(html.unescape, found)) == full.calibration.provenance["command"]


def test_what_was_not_measured_is_said(bare: Made) -> None:
    text = Reader(bare.html).text
    assert "No attack was tried" in text
    assert "Nothing is known: no attacked images were given." in text
    assert "Images of other kinds: not measured. --ood measures them." in text
    assert "Clean images, mildly changed: not measured. --shifts measures them." in text


def test_each_class_has_its_threshold(bare: Made) -> None:
    text = Reader(bare.html).text
    assert bare.calibration.thresholds is not None
    counts = Counter(bare.calibration.clean_classes)
    for label, limit in enumerate(bare.calibration.thresholds):
        assert f"{bare.bundle.labels[label]} {counts[label]} {limit:.6g}" in text


def test_a_file_whose_name_is_no_text_does_no_harm(bundle: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for number, image in enumerate(make_images(20)):
        path = os.path.join(os.fsencode(folder), b"\xff<i>%d.png" % number)  # noqa: PTH118  bytes
        Image.fromarray((image[0] * 255).astype(np.uint8)).save(os.fsdecode(path))
    images = FolderImages.open(folder, bundle.input, bundle.labels)
    calibrate(bundle.path, clean=images, target=TargetFpr(0.5, 0.5), device="cpu", report=tmp_path / "report")
    text = Reader((tmp_path / "report" / "report.html").read_text("utf-8")).text
    assert "?<i>" in text


def rendered(made: Made, calibration: Calibration, count: int = 100) -> str:
    """The page of a calibration with so many scores drawn for each set."""
    generator = np.random.default_rng(0)
    images = Selection(source=ImageSet(images=make_images(1)), rows=np.zeros(count, dtype=np.int64))

    def scored(shift: float) -> Scored:
        scores = -np.exp(generator.normal(shift, 2, size=count))
        return Scored(images=images, scores=scores, classes=np.zeros(count, dtype=np.int64))

    return render(made.bundle, calibration, scored(-2), {attack.name: scored(0) for attack in calibration.attacks})


def test_many_images_make_no_larger_page(full: Made) -> None:
    small, large = (rendered(full, full.calibration, count) for count in (10_000, 200_000))
    assert len(large) < 1.2 * len(small)


def test_each_change_is_measured_by_its_own_promise(full: Made) -> None:
    def blamed(calibration: Calibration) -> set[str]:
        rows = rendered(full, calibration).split('id="nobody"')[1].split("</section>")[0].split("<tr>")[1:]
        return {re.findall("<bdi>(.*?)</bdi>", row)[0] for row in rows if 'class="bad"' in row}

    seen = {one.name: one.flagged.low for one in full.calibration.changed}
    plain, spared = (full.calibration.model_copy(update={"changed_fpr": rate}) for rate in (None, 0.99))
    assert blamed(plain) == {name for name, low in seen.items() if low > 0.2}
    assert blamed(spared) == {name for name, low in seen.items() if low > 0.2} - {shift.name for shift in MILD}
    assert blamed(spared) < blamed(plain)


def test_a_promise_about_mild_changes_is_told(full: Made) -> None:
    told = "at most 7&nbsp;% of honest images are flagged after each of noise 0.05, blur 1"
    assert told in rendered(full, full.calibration.model_copy(update={"changed_fpr": 0.07}))
    assert told not in rendered(full, full.calibration)
