"""What `benchmarks.scores` found, as the tables of docs/scores.md."""

import textwrap
from pathlib import Path
from typing import Any, Final

import numpy as np

from detector.files import replacing
from detector.rates import Auc
from detector.shifts import MILD

BEGIN: Final = "<!-- begin of benchmarks.scores -->"
END: Final = "<!-- end of benchmarks.scores -->"
_WIDTH: Final = 118


def table(found: dict[str, Any]) -> str:
    """The figures of a run, for people; Markdown."""
    attacks = list(found["images"]["attacked"])
    kinds = [shift.name for shift in MILD]
    images, versions = found["images"], found["provenance"]["versions"]
    shown = [
        f"Images of the {found['split']} part: {images['clean']:,} clean, {images['changed']} after each change, "
        f"{', '.join(f'{n} under {name}' for name, n in images['attacked'].items())}, {images['aware']} under the "
        f"attacker who knows. Fitted on {images['fit']:,} others, thresholds chosen on {images['threshold']:,}. "
        f"Seed {found['seed']}.",
        f"{found['machine']}; {', '.join(f'{key} {value}' for key, value in versions.items())}; "
        f"{found['provenance']['time'][:10]}.",
        "Right: " + ", ".join(f"{name} {100 * share:.1f} %" for name, share in found["accuracy"].items()) + ".",
    ]
    lines = [f"### {found['run']}", *(f"\n{textwrap.fill(text, _WIDTH)}" for text in shown)]
    lines += [_areas(found, "auc"), _areas(found, "auc_successful")]
    lines.append("\nFlagged in %, at the threshold / lowered:\n\n| design | clean | "
                 f"{' | '.join(kinds)} | attacks, mean |\n|{'---|' * (3 + len(kinds))}")  # fmt: skip
    for name, row in found["designs"].items():
        shares = [row["clean_flagged"], *(row["changed_flagged"][kind] for kind in kinds),
                  np.mean([row["attacks"][each]["flagged"] for each in attacks], axis=0).tolist()]  # fmt: skip
        lines.append(f"| {name} | {' | '.join('{:.1f} / {:.1f}'.format(*(100 * x for x in s)) for s in shares)} |")
    if found["images"]["aware"]:
        lines.append(f"\nAn attacker who knows the design, eps {found['aware_eps']:.3g}:\n\n"
                     "| design | wrong % | wrong and not flagged % | AUC |\n|---|---|---|---|")  # fmt: skip
    for name, row in found["designs"].items():
        if "aware" in row:
            aware = row["aware"]
            lines.append(f"| {name} | {100 * aware['wrong']:.0f} | {100 * aware['wrong_and_not_flagged']:.0f} | "
                         f"{aware['auc']:.3f} |")  # fmt: skip
    return "\n".join(lines)


def _areas(found: dict[str, Any], which: str) -> str:
    """The areas of all designs, of all images or of the successful ones, each with its interval."""
    attacks = list(found["images"]["attacked"])
    counts = {key: row["successful"] for key, row in next(iter(found["designs"].values()))["attacks"].items()}
    heads = attacks if which == "auc" else [f"{each}, n = {counts[each]}" for each in attacks]
    title = "AUC" if which == "auc" else "AUC, successful attacks only"
    lines = [f"\n{title}:\n\n| design | runs | mean | {' | '.join(heads)} |\n|{'---|' * (3 + len(heads))}"]
    for name, row in found["designs"].items():
        areas = [None if (area := row["attacks"][each][which]) is None else Auc(**area) for each in attacks]
        mean = np.mean([area.value for area in areas if area is not None])
        lines.append(f"| {name} | {row['runs']} | {mean:.3f} | {' | '.join(map(str, areas)).replace('None', '-')} |")
    return "\n".join(lines)


def put(page: Path, tables: str) -> None:
    """Replaces what lies between the page's two comments."""
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    with replacing(page) as part:
        part.write_text(f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}", encoding="utf-8")
