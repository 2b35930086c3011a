"""Other servers around the same members; `scripts/peers-serving` installs them.

Each answers with the members' logits and no more: no score, no flag, no look at the values. They run in batches as
ours does, in as many processes as there are cores with one thread each, which is the best that was found for them.
"""
