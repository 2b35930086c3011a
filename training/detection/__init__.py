"""How well finished runs' detectors tell attacked images from clean ones: the paper's Fig. 4 and Section 4.5.

Every attack of the paper, at a strength that was chosen on validation images by what it leaves right and never by
how well it is detected; every score that we offer, and other detectors beside them, on the very same images. The test
part chooses nothing: not a strength, not a fit, not a threshold.
"""
