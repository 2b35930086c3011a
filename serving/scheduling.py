"""How the system shares its cores among the server's threads.

While members run, small threads wake all the time: gRPC's, for each message that comes and goes. As Linux has it, each
interrupts a run on the spot. With SCHED_BATCH (sched(7)) it waits until that run has had its slice, of a few
milliseconds, and then finds several messages; where a core is idle it runs at once as ever.
"""

import logging
import os

log = logging.getLogger(__name__)


def interrupt_less() -> None:
    """Has this thread, and those that it and they begin from now on, wait for a core rather than interrupt what runs.

    Nothing is changed where the system has no such choice, forbids it, or somebody has chosen for us (`chrt`).
    """
    if not hasattr(os, "SCHED_BATCH") or os.sched_getscheduler(0) != os.SCHED_OTHER:
        return
    try:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    except OSError as error:
        log.info("threads interrupt each other: SCHED_BATCH: %s", error)
