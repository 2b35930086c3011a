"""What attacks leave of finished runs: the paper's Tables 2 to 5 and Fig. 3, beside ours.

Two protocols stand side by side, the paper's and one whose loss says what is wanted, and beside them attacks that
the paper does not have. The test part chooses nothing: not an attack, not a parameter, not the threshold.
"""
