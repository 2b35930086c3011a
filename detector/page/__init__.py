"""A calibration as one HTML page that fetches nothing, for who decides and for who checks.

    calibration ─ findings  what is promised, caught and missed, in words ┐
    scores ────── roc, histogram  geometry of the plots                   ├─ page ─ templates ─ report.html
    images ────── nearest   those closest to the threshold                ┘

Every figure comes from the calibration, and so stands in `calibration.json`; only the plots and the
few images are drawn from what was scored. Names of classes, files and attacks are other people's
text: the templates escape all of it, and a content security policy forbids scripts and fetching.
"""
