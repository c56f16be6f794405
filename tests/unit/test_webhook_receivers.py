"""The code that docs/webhooks.md gives receivers takes what we sign, and nothing else."""

import json
import shutil
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import pytest

from app.domain.webhook_signature import signature, written
from tests.guide import fence

ID = "019a8f0e-7d4c-7b31-8e22-5c6d7e8f9a0b"
SECRET, OLD_SECRET, FOREIGN = (bytes([n]) * 32 for n in (1, 250, 7))
BODY = '{"type":"opportunity.won","data":{"name":"Zehn Plätze für 销售"}}'.encode()

Case = tuple[str, str, str, str, bytes]
"""A delivery as it comes in: the receiver's secret, id, timestamp, signatures, body."""


def delivery(*secrets: bytes, age: int = 0, body: bytes = BODY) -> Case:
    """As the service sends it, signed `age` seconds ago."""
    moment = int(time.time()) - age
    return (written(SECRET), ID, str(moment), signature(secrets, ID, moment, BODY), body)


def cases() -> dict[str, tuple[bool, Case]]:
    """By name: whether the delivery is to be taken, and what comes in."""
    good = delivery(SECRET)
    secret, id_, timestamp, signatures, body = good
    return {
        "as it was sent": (True, good),
        "four minutes ago": (True, delivery(SECRET, age=240)),
        "two secrets, ours first": (True, delivery(SECRET, OLD_SECRET)),
        "two secrets, ours last": (True, delivery(OLD_SECRET, SECRET)),
        "a body that was changed": (False, delivery(SECRET, body=BODY.replace(b"won", b"los"))),
        "a body with a line end more": (False, delivery(SECRET, body=BODY + b"\n")),
        "six minutes ago": (False, delivery(SECRET, age=360)),
        "six minutes ahead": (False, delivery(SECRET, age=-360)),
        "another secret": (False, delivery(FOREIGN)),
        "two other secrets": (False, delivery(FOREIGN, OLD_SECRET)),
        "another id": (False, (secret, ID[::-1], timestamp, signatures, body)),
        "another timestamp": (False, (secret, id_, str(int(timestamp) - 1), signatures, body)),
        "no timestamp": (False, (secret, id_, "", signatures, body)),
        "a timestamp that is none": (False, (secret, id_, "now", signatures, body)),
        "no signature": (False, (secret, id_, timestamp, "", body)),
        "a signature cut off": (False, (secret, id_, timestamp, signatures[:-1], body)),
        "of another version": (False, (secret, id_, timestamp, "v2" + signatures[2:], body)),
    }


def lines(given: list[Case]) -> str:
    """A case a line, its parts in base64."""
    return "\n".join(
        " ".join(
            b64encode(part if isinstance(part, bytes) else part.encode()).decode() or "-"
            for part in case
        )
        for case in given
    )


PYTHON = """
import sys
for line in sys.stdin:
    parts = [b64decode(part) if part != "-" else b"" for part in line.split()]
    secret, id_, timestamp, signatures = (part.decode() for part in parts[:4])
    headers = {"webhook-id": id_, "webhook-timestamp": timestamp, "webhook-signature": signatures}
    try:
        print("true" if verified(secret, headers, parts[4])["type"] else "?")
    except ValueError:
        print("false")
"""

NODE = """
import { readFileSync } from "node:fs";
for (const line of readFileSync(0, "utf8").split("\\n")) {
  const parts = line.split(" ").map((part) => Buffer.from(part === "-" ? "" : part, "base64"));
  const [secret, id, timestamp, signature] = parts.map(String);
  const headers = {
    "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signature,
  };
  try {
    console.log(verified(secret, headers, parts[4]).type ? "true" : "?");
  } catch {
    console.log("false");
  }
}
"""

JAVA = """
public class Receiver {
    public static void main(String[] arguments) throws Exception {
        var lines = new java.io.BufferedReader(new java.io.InputStreamReader(System.in));
        for (String line; (line = lines.readLine()) != null; ) {
            byte[][] parts = new byte[5][];
            String[] words = line.split(" ");
            for (int at = 0; at < 5; at++) {
                String word = words[at].equals("-") ? "" : words[at];
                parts[at] = java.util.Base64.getDecoder().decode(word);
            }
            try {
                Webhooks.verify(new String(parts[0]), new String(parts[1]), new String(parts[2]),
                        new String(parts[3]), parts[4]);
                System.out.println("true");
            } catch (SecurityException refused) {
                System.out.println("false");
            }
        }
    }
}
"""


def _python(folder: Path) -> list[str]:
    (folder / "receiver.py").write_text(fence("webhooks", "python verify") + PYTHON)
    return [sys.executable, str(folder / "receiver.py")]


def _node(folder: Path) -> list[str]:
    (folder / "receiver.mjs").write_text(fence("webhooks", "js verify") + NODE)
    return ["node", str(folder / "receiver.mjs")]


def _java(folder: Path) -> list[str]:
    for name, code in (("Webhooks", fence("webhooks", "java verify")), ("Receiver", JAVA)):
        (folder / f"{name}.java").write_text(code)
    sources = [str(folder / "Webhooks.java"), str(folder / "Receiver.java")]
    subprocess.run(["javac", "-d", str(folder), *sources], check=True, timeout=120)
    return ["java", "-cp", str(folder), "Receiver"]


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not here")


@pytest.mark.parametrize(
    "receiver",
    [
        pytest.param(_python, id="python"),
        pytest.param(_node, id="node", marks=needs("node")),
        pytest.param(_java, id="java", marks=needs("javac")),
    ],
)
def test_a_receiver_takes_what_we_signed_and_nothing_else(
    receiver: Callable[[Path], list[str]], tmp_path: Path
) -> None:
    command = receiver(tmp_path)
    given = cases()  # signed when the receiver is ready: what is four minutes old stays so
    ran = subprocess.run(
        command,
        input=lines([case for _, case in given.values()]),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    taken = dict(zip(given, map(json.loads, ran.stdout.split()), strict=True))
    assert taken == {name: good for name, (good, _) in given.items()}
