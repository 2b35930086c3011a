"""What finished runs are worth on the test images: the paper's Table 1, Fig. 2 and Fig. 5, beside ours.

The test part chooses nothing: not a weight, not an epoch, not which runs are shown.
"""
