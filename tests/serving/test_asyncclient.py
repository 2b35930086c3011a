"""What is of asyncio alone: cancelled tasks, event loops, and nothing left behind."""

import asyncio
import io
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from detector.detector import Detector
from detector.errors import InputError
from serving.asyncclient import AsyncClient
from tests.serving.callers import Caller
from tests.serving.conftest import PATIENCE_S, GatedDetector, Served, Submissions, picture
from tests.serving.counted import counted

Serve = Callable[..., Served]


def images(*numbers: int) -> np.ndarray:
    return np.stack([picture(number) for number in numbers])


def test_a_cancelled_task_gives_up_its_place(serve: Serve, gated: GatedDetector, submissions: Submissions) -> None:
    served = serve(gated, max_queue=1)
    with Caller(AsyncClient, served.address) as client:
        running = client.start("classify", picture(1))
        gated.wait_for_run()
        waiting = client.start("classify", picture(2))
        submissions.wait(2)
        waiting.cancel()
        submissions.wait_cancelled(1)
        instead = client.start("classify", picture(3))  # there is room for one, and so there is for this
        submissions.wait(1)
        gated.release()
        running.result(PATIENCE_S)
        assert len(instead.result(PATIENCE_S)) == 1
    assert 2 not in [number for run in gated.runs for number in run]


def test_a_cancelled_task_takes_back_all_parts(serve: Serve, gated: GatedDetector, submissions: Submissions) -> None:
    served = serve(gated, max_images=1, max_batch=1)
    with Caller(AsyncClient, served.address, in_flight=4) as client:
        call = client.start("classify", images(*range(10)))
        submissions.wait(4)
        call.cancel()
        submissions.wait_cancelled(4)
        gated.release()
    assert submissions.total == 4


def test_where_one_part_fails_the_others_are_taken_back(
    serve: Serve, gated: GatedDetector, submissions: Submissions
) -> None:
    served = serve(gated, max_images=1, max_batch=1, max_queue=2)
    files = [_png(number) for number in (1, 2)] + [b"junk", _png(3)]
    with Caller(AsyncClient, served.address, in_flight=3) as client:
        with pytest.raises(InputError, match=r"^images from 2 on: encoded.images\[0\]: expected a PNG or JPEG"):
            client.classify(files)
        submissions.wait_cancelled(2)
        gated.release()


def test_many_tasks_share_a_client(tiny: Detector) -> None:
    async def load(address: str) -> list[int]:
        async with AsyncClient(address) as client:
            async with asyncio.TaskGroup() as tasks:
                calls = [tasks.create_task(client.classify(picture(number))) for number in range(200)]
            return [int(call.result().labels[0]) for call in calls]

    with counted(tiny) as (server, _):
        found = asyncio.run(load(server.address))
    assert found == tiny.classify(images(*range(200))).labels.tolist()


def test_another_event_loop_is_refused(tiny: Detector) -> None:
    with counted(tiny) as (server, _), Caller(AsyncClient, server.address) as client:
        client.model()
        found = client.client
        assert isinstance(found, AsyncClient)
        with pytest.raises(InputError, match="client: expected the event loop of its first call, found another"):
            asyncio.run(found.model())


# Made outside of a loop, used by several tasks, one of them cancelled, one refused: and nothing is said at the end.
PROGRAM = """
import asyncio, sys
import numpy as np
import ledgate

client = ledgate.AsyncClient(sys.argv[1])

async def main():
    async with client:
        images = np.zeros((10, 1, 8, 8), np.float32)
        verdicts, task = await client.classify(images), asyncio.create_task(client.classify(images))
        await asyncio.sleep(0)
        task.cancel()
        try:
            await client.classify(images[:, :, 1:])
        except ledgate.InputError as error:
            print(len(verdicts), type(error).__name__)
    assert not [other for other in asyncio.all_tasks() if other not in (asyncio.current_task(), task)]
    await asyncio.gather(task, return_exceptions=True)

asyncio.run(main(), debug=True)
"""


def test_nothing_is_left_behind_and_nothing_is_said(tiny: Detector) -> None:
    with counted(tiny, max_images=3) as (server, _):
        command = [sys.executable, "-X", "dev", "-W", "error", "-c", PROGRAM, server.address]
        done = subprocess.run(command, capture_output=True, text=True, timeout=2 * PATIENCE_S, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "10 InputError\n", "")


def _png(number: int) -> bytes:
    """A picture as a file."""
    content = io.BytesIO()
    Image.fromarray((255 * picture(number)[0]).astype(np.uint8)).save(content, "PNG")
    return content.getvalue()
