"""Servers, of HTTP as a rule, that say what a test has them say."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from socketserver import BaseRequestHandler


@contextmanager
def serving(handler: type[BaseRequestHandler], **state: object) -> Iterator[str]:
    """Serve on a free port of this machine and write nothing about it; yields host and port.

    ``state`` becomes attributes of the handler's class, as each request has an instance of its own.
    """
    quiet = type(handler.__name__, (handler,), {"log_message": lambda *_: None, **state})
    with ThreadingHTTPServer(("127.0.0.1", 0), quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
