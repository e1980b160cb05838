"""The proxy itself: passes on what it gets, but for what it was told to serve wrongly.

Each connection has a thread, and each request a connection of its own to the server behind; what
the client sees of connections (kept alive, closed, reset) is the proxy's doing alone.
"""

from __future__ import annotations

import contextlib
import re
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tests.testbed.faults.kinds import Fault
from tests.testbed.faults.wire import ClosedError, Head, Reader

_PATIENCE = 600.0
_LINGER_SECONDS = 5.0
_PIECE = 64 * 1024


@dataclass(frozen=True)
class When:
    """Which of the requests that fit a rule are served wrongly.

    Attributes:
        first: The first of them, counted from one.
        count: How many from there on; None means all.
    """

    first: int = 1
    count: int | None = None

    def __contains__(self, number: int) -> bool:
        return number >= self.first and (self.count is None or number < self.first + self.count)

    def __str__(self) -> str:
        if self.count is None:
            return "always" if self.first == 1 else f"from no. {self.first} on"
        if self.count == 1:
            return "once" if self.first == 1 else f"no. {self.first}"
        return f"{self.count} times"


ALWAYS = When()
ONCE = When(count=1)


@dataclass
class Rule:
    """Which requests go wrong, and how."""

    fault: Fault
    method: str
    path: str
    when: When
    seen: int = 0

    def fits(self, method: str, target: str) -> bool:
        """Whether a request is one of those; counts it."""
        if not re.fullmatch(self.method, method) or not re.search(self.path, target):
            return False
        self.seen += 1
        return self.seen in self.when


@dataclass(frozen=True)
class Asked:
    """One request as it came in.

    Attributes:
        method: Its method.
        target: Path and query.
        host: What the client called the proxy.
        authorization: Value of that header, or None.
        failed: Whether it was served wrongly.
    """

    method: str
    target: str
    host: str
    authorization: str | None
    failed: bool


class FaultProxy:
    """A proxy on loopback in front of one server; use it as a context manager.

    Args:
        port: The port of the server behind, on 127.0.0.1.

    Attributes:
        port: Its own port; 0 until it listens.
        connections: How many have come so far.
        sent: Bytes that went to clients so far, heads included.
    """

    def __init__(self, port: int) -> None:
        self._behind = port
        self._rules: list[Rule] = []
        self._asked: list[Asked] = []
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._closing = False
        self.port = 0
        self.connections = 0
        self.sent = 0

    def __enter__(self) -> Self:
        self._listen()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._closing = True
        self.refuse()
        self._hang_up()
        self.wait_until_idle()

    @property
    def host(self) -> str:
        """``127.0.0.1:PORT``."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """``http://127.0.0.1:PORT``."""
        return f"http://{self.host}"

    @property
    def asked(self) -> list[Asked]:
        """The requests so far, oldest first; a copy."""
        with self._lock:
            return list(self._asked)

    def fail(
        self, fault: Fault, *, method: str = ".*", path: str = "", when: When = ALWAYS
    ) -> None:
        """Serve requests wrongly from now on; the newest rule that fits one counts.

        Args:
            fault: How.
            method: Regular expression that the whole method fits.
            path: Regular expression that is found in path and query.
            when: Which of them.
        """
        with self._lock:
            self._rules.append(Rule(fault, method, path, when))

    def heal(self) -> None:
        """Serve all rightly again, forget what was asked, and let stalled connections go."""
        with self._lock:
            self._rules.clear()
            self._asked.clear()
        self._hang_up()
        if self._listener is None:
            self._listen()

    def wait_until_idle(self, seconds: float = 10.0) -> None:
        """Wait until no connection is open any more."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with self._lock:
                if not self._open:
                    return
            time.sleep(0.005)

    def refuse(self) -> None:
        """Listen no more: whoever comes is refused, until :meth:`heal`."""
        listener, self._listener = self._listener, None
        if listener is not None:
            # A close alone would leave the thread in accept, and the port in use with it.
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def refuse_for(self, seconds: float | None) -> None:
        """Listen no more for so long; None means until :meth:`heal`."""
        self.refuse()
        if seconds is not None:
            timer = threading.Timer(seconds, self._listen_again)
            timer.daemon = True
            timer.start()

    def rule_for(self, request: Head) -> Fault | None:
        """How a request is served wrongly, if it is; writes it down."""
        method, target = _request_line(request)
        with self._lock:
            fitting = [each for each in reversed(self._rules) if each.fits(method, target)]
            fault = fitting[0].fault if fitting else None
            self._asked.append(
                Asked(
                    method,
                    target,
                    request.get("Host") or "",
                    request.get("Authorization"),
                    fault is not None,
                )
            )
        return fault

    @contextlib.contextmanager
    def connected(self) -> Iterator[socket.socket]:
        """A connection to the server behind."""
        behind = socket.create_connection(("127.0.0.1", self._behind), _PATIENCE)
        with self._lock:
            self._open.add(behind)
        try:
            yield behind
        finally:
            behind.close()
            with self._lock:
                self._open.discard(behind)

    def own_location(self, location: str) -> str:
        """An address of the server behind as one of the proxy, so that no request goes past it."""
        return re.sub(
            rf"^(http://(?:127\.0\.0\.1|localhost)):{self._behind}\b", rf"\1:{self.port}", location
        )

    def _listen(self) -> None:
        listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _listen_again(self) -> None:
        if self._listener is None and not self._closing:
            self._listen()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._talk, args=(client,), daemon=True).start()

    def _talk(self, client: socket.socket) -> None:
        with self._lock:
            self._open.add(client)
        try:
            reader = Reader(client)
            while (request := reader.head()) is not None:
                exchange = _Exchange(self, client, reader, request)
                fault = self.rule_for(request)
                if fault is None:
                    exchange.pass_on()
                else:
                    fault.serve(exchange)
                if not exchange.goes_on:
                    return
        except (OSError, ClosedError, ValueError):
            # Either side went away; the other one has to see the same.
            return
        finally:
            # Idle is who has closed.
            client.close()
            with self._lock:
                self._open.discard(client)

    def _hang_up(self) -> None:
        with self._lock:
            still = list(self._open)
        for each in still:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


class _Exchange:
    """One request; see :class:`tests.testbed.faults.kinds.Exchange`."""

    def __init__(
        self, proxy: FaultProxy, client: socket.socket, reader: Reader, request: Head
    ) -> None:
        self._proxy = proxy
        self._client = client
        self._body = reader.body(request, is_answer=False)
        self.request = request
        self.method, self.target = _request_line(request)
        self._is_early = False
        self.goes_on = (request.get("Connection") or "").lower() != "close"

    def pass_on(self) -> None:
        """Serve it rightly."""
        head, body = self.forward()
        self.send(bytes(head))
        for piece in body:
            self.send(piece)
        if self._is_early:
            self.linger()

    def take_body(self, limit: int | None = None) -> int:
        taken = 0
        while limit is None or taken < limit:
            piece = next(self._body, b"")
            if not piece:
                break
            taken += len(piece)
        return taken

    def forward(self) -> tuple[Head, Iterator[bytes]]:
        answer = self._answer()
        head = next(answer)
        if not isinstance(head, Head):
            raise ClosedError("no head")
        return head, (each for each in answer if isinstance(each, bytes))

    def _answer(self) -> Iterator[Head | bytes]:
        with self._proxy.connected() as behind:
            behind.sendall(bytes(self.request.but(connection="close")))
            for piece in self._body:
                # It may have answered already, as Ollama does for a blob that it has.
                if select.select([behind], [], [], 0)[0]:
                    self._is_early, self.goes_on = True, False
                    break
                behind.sendall(piece)
            reader = Reader(behind)
            head = reader.head()
            if head is None:
                raise ClosedError("no answer")
            has_body = self.method != "HEAD" and head.status not in (204, 304)
            if has_body and head.length is None and not head.is_chunked:
                self.goes_on = False
            location = head.get("Location")
            if location is not None:
                head = head.but(location=self._proxy.own_location(location))
            yield head.but(connection="keep-alive" if self.goes_on else "close")
            if has_body:
                yield from reader.body(head, is_answer=True)

    def send(self, data: bytes) -> None:
        self._client.sendall(data)
        self._proxy.sent += len(data)

    def reset(self) -> None:
        self.goes_on = False
        self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._client.close()

    def close(self) -> None:
        self.goes_on = False

    def linger(self) -> None:
        self.goes_on = False
        self._client.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + _LINGER_SECONDS
        self._client.settimeout(_LINGER_SECONDS)
        while time.monotonic() < deadline and self._client.recv(_PIECE):
            pass

    def hold(self, seconds: float | None = None) -> None:
        self.goes_on = False
        poll = select.poll()
        poll.register(self._client, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
        poll.poll(None if seconds is None else seconds * 1000)

    def refuse(self, seconds: float | None = None) -> None:
        self._proxy.refuse_for(seconds)


def _request_line(request: Head) -> tuple[str, str]:
    method, target, *_ = (*request.start.split(" "), "")
    return method, target
