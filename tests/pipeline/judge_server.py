"""A chat endpoint on loopback that says what a test tells it to, and keeps what it was asked."""

import json
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def said(content):
    """A successful chat completion."""
    return 200, {}, json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]})


@contextmanager
def serving(*replies):
    """(url, requests): each POST gets the next (status, headers, body), the last one for ever.

    A request is (path, headers, parsed body).
    """
    requests, waiting = [], list(replies)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            requests.append((self.path, dict(self.headers), body))
            status, headers, text = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            data = text if isinstance(text, bytes) else text.encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(ConnectionError):  # who has read enough hangs up
                self.wfile.write(data)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", requests
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
