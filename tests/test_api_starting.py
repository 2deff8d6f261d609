"""What the API does when it starts, so that the first who asks does not wait for it."""

import subprocess
import sys
from pathlib import Path

import httpx
from made_port import SITE, MadePort, device

from engines.demo import running_demo

ASK = """
import asyncio, sys, httpx
from api.app import create_app
from api.config import ApiConfig

async def main(url):
    app = create_app(ApiConfig(windows_url=url, records_url=url, broker_host="127.0.0.1", broker_port=1))
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://port") as client:
        async with app.router.lifespan_context(app):
            before = set(sys.modules)
            answer = await client.get("/v1/devices")
            assert answer.status_code == 200, answer.text
            print(*sorted(set(sys.modules) - before))

asyncio.run(main(sys.argv[1]))
"""


def test_the_first_question_loads_nothing(tmp_path: Path) -> None:
    port = MadePort(tmp_path)
    port.commit(devices=[device(f"{SITE}/quay-crane/QC01")])
    config = port.config()
    # In a process of its own: in this one the tests before have loaded everything.
    said = subprocess.run(
        [sys.executable, "-c", ASK, config.records_url], capture_output=True, text=True, timeout=60, check=True
    )
    # Meanwhile the broker is looked up, for which Python loads the rules of names.
    assert {name.partition(".")[0] for name in said.stdout.split()} <= {"encodings", "stringprep"}


SERVE = """
import asyncio, gc, sys, uvicorn
from quayflow.parts import run_api
from quayflow.settings import Settings

async def serve(server, sockets):
    print(len(gc.get_objects()), gc.get_freeze_count())

uvicorn.Server.serve = serve
asyncio.run(run_api(Settings(data=sys.argv[1], port=0)))
"""


def test_the_collector_does_not_go_through_what_stays_while_live_values_wait(tmp_path: Path) -> None:
    MadePort(tmp_path).commit(devices=[device(f"{SITE}/quay-crane/QC01")])
    # In a process of its own: what is set aside stays so until its end.
    said = subprocess.run(
        [sys.executable, "-c", SERVE, str(tmp_path)], capture_output=True, text=True, timeout=60, check=True
    )
    gone_through, set_aside = map(int, said.stdout.split())
    assert set_aside > 50_000
    assert gone_through < set_aside / 50


def test_up_says_that_it_is_up_once_the_api_is_ready_and_not_before(tmp_path: Path) -> None:
    with running_demo(tmp_path, verb="up") as installation:
        assert httpx.get(f"{installation.url}/readyz").status_code == 200
