"""Others that do what ours does, for comparison: attacks, detectors, servers. Nothing that ships imports them."""
