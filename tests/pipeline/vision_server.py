"""A vision model on loopback that speaks the chat protocol of OpenAI, sees what it is sent, and misbehaves on demand.

It locates the bright rectangle of the drawing, gives two boxes per scan and a yes or no per drill, both from a hash of
what it was asked. `odd`: what happens to prompts that hold some text; what ends in `once` is over after the first time.
"""

import base64
import io
import json
import math
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from PIL import Image

from schemas.seeds import uniform

EXTENTS = {"thousand": (1000, 1000), "unit": (1, 1)}
CONTENTS = {  # what the model writes, by misbehaviour
    "out_of_frame": '[{"bbox_2d": [10, 10, 5000, 20], "label": "spot", "confidence": 0.5}]',
    "nan": '[{"bbox_2d": [NaN, 1, 2, 3], "label": "spot", "confidence": 0.5}]',
    "no_boxes": '{"answer": "nothing to see"}',
    "prose": "I cannot locate anything, sorry.",
    "silent": "",
}
BODIES = {"malformed": '{"choices": [', "another": "[1, 2]", "huge": '{"x": "' + "y" * (10 << 20) + '"}'}
CHUNKS = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n{"said":\r\nd\r\n "bit by bit"\r\n'
RAW = {
    "chunks": CHUNKS + b"1\r\n}\r\n0\r\n\r\n",
    "cut chunks": CHUNKS,
    "gzip": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n{}{}",
}
STATUSES = {
    "429": (429, {"Retry-After": "0"}, "slow down"),
    "broke": (429, {}, "pay first"),
    "500": (500, {}, "boom"),
    "wordy": (500, {}, "b" + "o" * (10 << 20) + "m"),
    "too_long": (400, {}, "This model's maximum context length is 4096 tokens"),
}


@dataclass
class VisionServer:
    """`family`: how it counts. `name`: the model it says it is. `latency_s`: of every answer."""

    family: str = "absolute"
    name: str = "seer"
    odd: dict[str, str] = field(default_factory=dict)
    has_logprobs: bool = True
    latency_s: float = 0.0
    n_together: int = 0  # the most requests in flight at one time
    n_now: int = 0
    dies_after: float = math.inf  # requests; then it has nothing but a 500
    url: str = ""
    requests: list[tuple[dict[str, str], dict]] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def oddity(self, prompt: str) -> str:
        with self.lock:
            if len(self.requests) > self.dies_after:
                return "500"
            for text, how in list(self.odd.items()):
                if text in prompt:
                    if how.endswith(" once"):
                        del self.odd[text]
                    return how.removesuffix(" once")
        return ""

    def flying(self, step: int) -> None:
        with self.lock:
            self.n_now += step
            self.n_together = max(self.n_together, self.n_now)

    def reply(self, body: dict, how: str) -> dict:
        picture, prompt = body["messages"][0]["content"]
        image = Image.open(io.BytesIO(base64.b64decode(picture["image_url"]["url"].partition(",")[2])))
        words, tokens = self.words(prompt["text"], image)
        if how in CONTENTS:
            words, tokens = CONTENTS[how], [(CONTENTS[how], 0.9, ())]
        if how == "nan_logprob":
            tokens = [(tokens[0][0], math.nan, ())]
        content = [_logprob(*token) for token in tokens]
        has_logprobs = self.has_logprobs and how != "no_logprobs" and body.get("logprobs")
        message = {"role": "assistant", "content": words}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        choice["logprobs"] = {"content": content} if has_logprobs else None
        usage = {"prompt_tokens": 100, "completion_tokens": len(tokens)}
        name = "impostor" if how == "renamed" else self.name
        return {"object": "chat.completion", "model": name, "choices": [choice], "usage": usage}

    def words(self, prompt: str, image: Image.Image) -> tuple[str, list[tuple]]:
        if "crop" in prompt:
            yes = uniform("drill", prompt, image.size)
            words = "Yes" if yes >= 0.5 else "No"
            other = [("Yes", 0.75 * yes), (" yes", 0.25 * yes), ("No", 1 - yes)]
            if "probability" in prompt:
                words = json.dumps({"finding": "a spot", "probability": yes})
            return f"{words}. A spot.", [(words, 0.0, other), (". A spot.", 0.9, ())]
        boxes = [self.seen(image)] if "rectangle" in prompt else [self.guess(prompt, image, each) for each in (0, 1)]
        told = [{"bbox_2d": box, "label": f"spot {n}", "confidence": 0.3 + 0.2 * n} for n, box in enumerate(boxes)]
        words = f"```json\n{json.dumps(told)}\n```"
        return words, [(each, 0.8, ()) for each in words]

    def seen(self, image: Image.Image) -> list[float]:
        bright = np.asarray(image.convert("L")) > 128
        ys, xs = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
        return self.counted((xs[0], ys[0], xs[-1] + 1, ys[-1] + 1), image)

    def guess(self, prompt: str, image: Image.Image, number: int) -> list[float]:
        asked = prompt.splitlines()[0]  # the question, and nothing of the coordinates
        x, y = (uniform("scan", asked, number, axis) * 0.4 * image.size[axis] for axis in (0, 1))
        x += number * image.width / 2
        return self.counted((x, y, x + image.width / 10, y + image.height / 2), image)

    def counted(self, box: tuple, image: Image.Image) -> list[float]:
        extent = EXTENTS.get(self.family, image.size)
        return [float(edge) * extent[i % 2] / image.size[i % 2] for i, edge in enumerate(box)]


def _logprob(text: str, share: float, top: list[tuple[str, float]]) -> dict:
    def one(text: str, share: float) -> dict:
        return {"token": text, "logprob": math.log(share) if share else -9999.0, "bytes": list(text.encode())}

    return {**one(text, share), "top_logprobs": [one(*each) for each in top]}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    model: VisionServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.model.requests.append((dict(self.headers), body))
        how = self.model.oddity(body["messages"][0]["content"][1]["text"])
        self.model.flying(+1)
        time.sleep(self.model.latency_s)
        self.model.flying(-1)
        if how == "hang":
            self.model.over.wait(30)
            how = "cut"
        if how == "cut":
            self.close_connection = True
            self.connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{")
        elif how == "drip":
            self.close_connection = True
            with suppress(ConnectionError):
                self.connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{")
                while not self.model.over.wait(0.02):
                    self.connection.sendall(b" ")
        elif how in RAW:
            self.close_connection = True
            self.connection.sendall(RAW[how])
        elif how in STATUSES:
            status, headers, message = STATUSES[how]
            code = "insufficient_quota" if how == "broke" else None
            self.send(status, json.dumps({"error": {"message": message, "code": code}}), headers)
        elif how.startswith("status "):
            headers = {"Location": "http://127.0.0.1:1/"} if how == "status 307" else {}
            key = self.headers.get("Authorization", "")
            self.send(int(how.split()[1]), json.dumps({"error": {"message": f"no: {key}"}}), headers)
        else:
            self.send(200, BODIES.get(how) or json.dumps(self.model.reply(body, how)), {})

    def send(self, status: int, text: str, headers: dict[str, str]) -> None:
        data = text.encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        with suppress(ConnectionError):  # who has read enough hangs up
            self.end_headers()
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no news."""


@contextmanager
def serving(**how: object):
    """A `VisionServer` of these fields, at its `url` until the end."""
    model = VisionServer(**how)
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"model": model}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    model.url = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield model
    finally:
        model.over.set()
        server.shutdown()
        server.server_close()
        thread.join()
