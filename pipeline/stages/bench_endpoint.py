"""A scripted vision model on loopback, in a process of its own: it waits, and answers by a hash of what it was asked.

It speaks the chat protocol of OpenAI as far as the `openai` expert needs it, reads every byte of a request and looks at
no picture: what is left to measure is the client. Its replies are as long as those of a real model, log-probabilities
included. It listens on 127.0.0.1 alone.
"""

import asyncio
import json
import math
import re
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.connection import Connection
from threading import Thread
from typing import Any

from schemas.seeds import uniform

MODEL = "scripted"
N_SCRIPTS = 64  # different answers of each kind
TAIL_BYTES = 4096  # of a request: the prompt and the settings, which follow the picture
TOP = 20
START_S_MAX = 60.0
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_N_TOP = re.compile(rb'"top_logprobs": ?(\d+)')
_SENTENCE = " Yes. The crop shows a small round spot that is denser than what lies around it."


@dataclass
class Served:
    """Where it is; the rest is known when it has ended."""

    url: str
    n_requests: int = 0
    n_together: int = 0  # the most that waited for their answer at one time
    n_bytes: int = 0
    asked_s: float = 0.0  # from the first byte of a request to the last answer
    cpu_s: float = 0.0


@contextmanager
def scripted_endpoint(latency_s: float) -> Iterator[Served]:
    """The endpoint until the end of the block; every answer is begun `latency_s` after the request's last byte."""
    spawn = get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_run, args=(theirs, latency_s), daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(START_S_MAX):
            raise TimeoutError("the scripted endpoint does not start")
        served = Served(f"http://127.0.0.1:{ours.recv()}/v1")
        yield served
        ours.send("end")
        for name, value in ours.recv().items():
            setattr(served, name, value)
    finally:
        ours.close()  # which ends it as well
        process.join(START_S_MAX)


@dataclass
class _Counts:
    n_requests: int = 0
    n_together: int = 0
    n_bytes: int = 0
    n_now: int = 0
    first_s: float | None = None
    last_s: float = 0.0


@dataclass
class _Connection(asyncio.Protocol):
    """HTTP/1.1 of one client: requests with a Content-Length, one after the other."""

    latency_s: float
    scripts: dict[bool, list[bytes]]
    counts: _Counts
    head: bytes = b""
    tail: bytes = b""
    left_bytes: int | None = None  # of the body; None while the head is read
    wire: asyncio.Transport = field(init=False)

    def connection_made(self, transport: Any) -> None:
        self.wire = transport

    def data_received(self, data: bytes) -> None:
        self.counts.n_bytes += len(data)
        if self.counts.first_s is None:
            self.counts.first_s = time.perf_counter()
        if self.left_bytes is None:
            self.head += data
            head, end, data = self.head.partition(b"\r\n\r\n")
            if not end:
                return
            told = _LENGTH.search(head)
            self.left_bytes, self.head, self.tail = int(told[1]) if told else 0, b"", b""
        self.left_bytes -= len(data)
        self.tail = (self.tail + data[-TAIL_BYTES:])[-TAIL_BYTES:]
        if self.left_bytes <= 0:
            self.left_bytes = None
            self.counts.n_requests += 1
            self.counts.n_now += 1
            self.counts.n_together = max(self.counts.n_together, self.counts.n_now)
            asyncio.get_running_loop().call_later(self.latency_s, self.answer, self.tail)

    def answer(self, asked: bytes) -> None:
        self.counts.n_now -= 1
        self.counts.last_s = time.perf_counter()
        told = _N_TOP.search(asked)
        scripts = self.scripts[bool(told and int(told[1]) > 1)]
        self.wire.write(scripts[zlib.crc32(asked) % len(scripts)])


def _run(pipe: Connection, latency_s: float) -> None:
    counts = asyncio.run(_serve(pipe, latency_s))
    told = {"n_requests": counts.n_requests, "n_together": counts.n_together, "n_bytes": counts.n_bytes}
    told |= {"asked_s": counts.last_s - (counts.first_s or counts.last_s), "cpu_s": time.process_time()}
    with suppress(BrokenPipeError):
        pipe.send(told)


async def _serve(pipe: Connection, latency_s: float) -> _Counts:
    loop, over, counts = asyncio.get_running_loop(), asyncio.Event(), _Counts()
    scripts = {is_drill: [_reply(is_drill, n) for n in range(N_SCRIPTS)] for is_drill in (False, True)}

    def wait_for_end() -> None:
        with suppress(EOFError):  # its owner is gone
            pipe.recv()
        loop.call_soon_threadsafe(over.set)

    server = await loop.create_server(lambda: _Connection(latency_s, scripts, counts), "127.0.0.1", 0, backlog=512)
    pipe.send(server.sockets[0].getsockname()[1])
    Thread(target=wait_for_end, daemon=True).start()
    await over.wait()
    server.close()
    return counts


def _reply(is_drill: bool, number: int) -> bytes:
    tokens = list(_drill(number) if is_drill else _scan(number))
    message = {"role": "assistant", "content": "".join(token["token"] for token in tokens)}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": {"content": tokens}}
    usage = {"prompt_tokens": 300, "completion_tokens": len(tokens)}
    body = json.dumps({"object": "chat.completion", "model": MODEL, "choices": [choice], "usage": usage}).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


def _scan(number: int) -> Iterator[dict[str, Any]]:
    """One to four boxes in thousandths."""
    found = []
    for each in range(1 + number % 4):
        x, y = (int(800 * uniform("bench box", number, each, axis)) for axis in (0, 1))
        confidence = round(uniform("bench scan", number, each), 2)
        found.append({"bbox_2d": [x, y, x + 150, y + 150], "label": f"spot {each}", "confidence": confidence})
    text = json.dumps(found)
    return (_token(text[start : start + 3], 0.9, 1) for start in range(0, len(text), 3))


def _drill(number: int) -> Iterator[dict[str, Any]]:
    yes = uniform("bench drill", number)
    first = _token("Yes" if yes >= 0.5 else "No", max(yes, 1 - yes), TOP)
    first["top_logprobs"][:2] = [_one("Yes", yes), _one("No", 1 - yes)]
    yield first
    yield from (_token(f" {word}", 0.8, TOP) for word in _SENTENCE.split()[1:])


def _token(text: str, share: float, n_top: int) -> dict[str, Any]:
    others = [_one(f"other {place}", (1 - share) / n_top) for place in range(1, n_top)]
    return _one(text, share) | {"top_logprobs": [_one(text, share), *others]}


def _one(text: str, share: float) -> dict[str, Any]:
    return {"token": text, "logprob": math.log(max(share, 1e-9)), "bytes": list(text.encode())}
