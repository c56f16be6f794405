"""The tour in the README runs as it stands, against a service started the way the README says.

But for the scans that the service makes by itself: the tour asks for one, which would pass over a
deal that another holds at that moment.
"""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.services import Service

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(sys.platform != "linux", reason="finds processes in /proc"),
]

README = Path(__file__).parents[2] / "README.md"


def test_the_tour_runs_and_shows_what_it_promises(start: Callable[..., Service]) -> None:
    service = start(SLUICE_JOBS="0")
    blocks = re.findall(r"```sh\n(.*?)```", README.read_text(), re.DOTALL)
    script = "\n".join(blocks).replace("BASE=http://127.0.0.1:8000", f"BASE={service.url}")
    script = script.replace("KEY='paste the key here'", f"KEY={service.key}")
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert '"kind":"advanced"' in ran.stdout
    assert '"opportunity.transitioned"' in ran.stdout

    answers = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]
    figures = {a["definition"]["id"]: a for a in answers if "definition" in a and "total" in a}
    assert [group["value"] for group in figures["funnel"]["groups"]] == ["mia"]
    assert figures["trend"]["total"]["points"][0]["value"] == 1  # the quiet one, in January
    assert figures["snapshot"]["total"]["deals"] == 1
    assert figures["win-rate"]["total"]["won"] == 0
    (behind,) = [answer for answer in answers if "cell" in answer]
    assert [item["external_id"] for item in behind["items"]] == ["CRM-1042"]
    (quiet,) = [
        item for answer in answers for item in answer.get("items", ()) if "severity" in item
    ]
    assert quiet["state"] == "open"
    (defined,) = [answer for answer in answers if "formula" in str(answer.get("figures"))]
    assert defined["title"]["zh"] == "漏斗"
