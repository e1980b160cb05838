"""Plays a pygame program without a screen, in the sandbox: frames, keys, a clock that never waits.

Time is the program's own: a frame takes as long as its clock says, and nobody waits for it. Chance
begins alike in every run, so that two runs differ by the keys that were pressed, and by nothing
else.
"""

from __future__ import annotations

import base64
import builtins
import heapq
import json
import os
import random
import sys
import time
import traceback
import types
import zlib
from collections.abc import Callable, Iterator
from typing import Any

_FRAME_MS = 1000 / 60
_START = 1_700_000_000.0
_HOLD = 3
"""Frames for which a key stays down."""

pygame: Any = None


def prepare() -> None:
    """Load what a program is sure to want, while files can be read."""
    global pygame  # noqa: PLW0603 - imported in the worker alone
    import pygame as loaded

    # A game may import them late, and their fonts and codecs lie about in files.
    import pygame.freetype
    import pygame.gfxdraw
    import pygame.math
    import pygame.mixer
    import pygame.sprite

    pygame = loaded


class _Over(BaseException):
    """The program went on after it was told to end."""


class _Player:
    """What the program finds in the place of the screen, the keyboard and the clock.

    Args:
        asked: ``frames`` to play, ``keys`` by the frame in which each is pressed, ``pictures``, the
            frames that are kept, ``quit``, the key that ends it, ``patience`` in frames after that.
        report: Takes what was seen.
    """

    def __init__(self, asked: dict[str, Any], report: Callable[[dict[str, Any]], None]) -> None:
        self.asked = asked
        self.report = report
        self.turn = 0
        self.shown = 0
        self.pictures: list[int] = []
        self.milliseconds = 0.0
        self.down: dict[int, int] = {}
        self.timers: list[tuple[float, int, float, int]] = []
        self._polled = False
        self._ticked = False
        self._numbers = iter(range(10**9))
        self.flip = pygame.display.flip
        self.poll = pygame.event.poll

    # Frames

    def show(self, *_: Any, **__: Any) -> None:
        """Stands for ``pygame.display.flip`` and ``update``."""
        self.flip()
        surface = pygame.display.get_surface()
        if surface is not None:
            self.shown += 1
            data = pygame.image.tobytes(surface, "RGB")
            self.pictures.append(zlib.crc32(data))
            if self.shown in self.asked["pictures"]:
                self._keep(surface, data)
        self._next()

    def _keep(self, surface: Any, data: bytes) -> None:
        width, height = surface.get_size()
        colours = len({data[i : i + 3] for i in range(0, len(data), 3)})
        png = _png(width, height, data)
        picture = base64.b64encode(png).decode()
        self.report({"picture": picture, "colours": colours, "frame": self.shown})

    def _next(self) -> None:
        """A turn of the program's loop is over."""
        if not self._ticked:
            self.advance(_FRAME_MS)
        self._polled = self._ticked = False
        self.turn += 1
        if self.turn % 30 == 0:
            self.report({"turns": self.turn})
        for key, until in list(self.down.items()):
            if self.turn >= until:
                del self.down[key]
                self._post(pygame.KEYUP, key)
        pressed = self.asked["keys"].get(str(self.turn))
        if self.turn == self.asked["frames"]:
            pressed = self.asked["quit"]
        if pressed is not None:
            key = getattr(pygame, pressed)
            self.down[key] = self.turn + _HOLD
            self._post(pygame.KEYDOWN, key)
        if self.turn > self.asked["frames"] + self.asked["patience"]:
            raise _Over

    def _post(self, kind: int, key: int) -> None:
        letter = " " if key == pygame.K_SPACE else pygame.key.name(key)
        pygame.event.post(pygame.event.Event(kind, key=key, mod=0, unicode=letter, scancode=0))

    # Keys

    def polled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """An event function; a loop that looks again without showing anything goes on, too."""

        def look(*arguments: Any, **named: Any) -> Any:
            if self._polled:
                self._next()
            self._polled = True
            return function(*arguments, **named)

        return look

    def wait(self, *_: Any, **__: Any) -> Any:
        """Stands for ``pygame.event.wait``."""
        while (event := self.poll()).type == pygame.NOEVENT:
            self._next()
        return event

    def pressed(self) -> Any:
        """Stands for ``pygame.key.get_pressed``."""
        return _Keys(self.down)

    # Time

    def advance(self, milliseconds: float) -> None:
        """Let time pass, and due timers post their events."""
        self.milliseconds += max(0.0, milliseconds)
        while self.timers and self.timers[0][0] <= self.milliseconds:
            due, kind, every, left = heapq.heappop(self.timers)
            pygame.event.post(pygame.event.Event(kind))
            if every > 0 and left != 1:
                heapq.heappush(self.timers, (due + every, kind, every, max(0, left - 1)))

    def set_timer(self, event: Any, millis: int, loops: int = 0) -> None:
        """Stands for ``pygame.time.set_timer``."""
        kind = event if isinstance(event, int) else event.type
        self.timers = [each for each in self.timers if each[1] != kind]
        heapq.heapify(self.timers)
        if millis > 0:
            every = float(max(1, millis))
            heapq.heappush(self.timers, (self.milliseconds + every, kind, every, loops))

    def pause(self, milliseconds: float) -> int:
        """Stands for ``pygame.time.wait`` and ``delay``."""
        self.advance(milliseconds)
        return int(milliseconds)

    def rest(self, seconds: Any, /) -> None:
        """Stands for ``time.sleep``."""
        self.advance(float(seconds) * 1000)

    def seconds(self) -> float:
        """Stands for ``time.time`` and its like."""
        # Whoever waits for it without a frame in between must not wait for ever.
        self.milliseconds += 0.01
        return _START + self.milliseconds / 1000

    def clock(self) -> type:
        """Stands for ``pygame.time.Clock``."""
        player = self

        class Clock:
            def __init__(self) -> None:
                self._last = self._took = player.milliseconds

            def tick(self, framerate: float = 0) -> int:
                player.advance(1000 / framerate if framerate else _FRAME_MS)
                player._ticked = True
                self._took, self._last = player.milliseconds - self._last, player.milliseconds
                return round(self._took)

            tick_busy_loop = tick

            def get_time(self) -> int:
                return round(self._took)

            get_rawtime = get_time

            def get_fps(self) -> float:
                return 1000 / self._took if self._took else 0.0

        return Clock

    def install(self) -> None:
        """Put all of it in place."""
        pygame.display.flip = pygame.display.update = self.show
        for name in ("get", "poll"):
            setattr(pygame.event, name, self.polled(getattr(pygame.event, name)))
        pygame.event.wait = self.wait
        pygame.key.get_pressed = self.pressed
        pygame.time.Clock = self.clock()
        pygame.time.get_ticks = lambda: int(self.milliseconds)
        pygame.time.wait = pygame.time.delay = self.pause
        pygame.time.set_timer = self.set_timer
        time.sleep = self.rest
        time.time = time.monotonic = time.perf_counter = self.seconds
        _begin_alike()


class _Keys:
    """What is pressed, asked for by key as of pygame's own."""

    def __init__(self, down: dict[int, int]) -> None:
        self._down = down

    def __getitem__(self, key: int) -> bool:
        return key in self._down

    def __len__(self) -> int:
        return 512

    def __iter__(self) -> Iterator[bool]:
        return (self[key] for key in range(512))


def _begin_alike() -> None:
    """Let chance begin alike, however a program asks for it."""
    chance = random.Random(3407)  # noqa: S311 - it shall be known
    os.urandom = chance.randbytes
    plain = random.seed

    def seed(a: Any = None, version: int = 2) -> None:
        plain(3407 if a is None else a, version)

    random.seed = seed
    random.seed()


def _png(width: int, height: int, data: bytes) -> bytes:
    """Pixels as a PNG."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content).to_bytes(4, "big")
        return len(content).to_bytes(4, "big") + kind + content + check

    row = width * 3
    rows = b"".join(b"\0" + data[i : i + row] for i in range(0, row * height, row))
    size = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", size + b"\x08\x02\0\0\0")
        + chunk(b"IDAT", zlib.compress(rows, 6))
        + chunk(b"IEND", b"")
    )


def run(asked: dict[str, Any], report: int) -> None:
    """Play a program.

    Args:
        asked: Its ``source``, and what :class:`_Player` is to know.
        report: Takes a line of JSON for each thing that was seen; the last is how it ended.
    """

    def tell(what: dict[str, Any]) -> None:
        line = f"{json.dumps(what)}\n".encode()
        while line:
            line = line[os.write(report, line) :]

    player = _Player(asked, tell)
    player.install()
    how: dict[str, Any] = {"how": "returned", "error": "", "line": None}
    module = types.ModuleType("__main__")
    module.__file__ = "game.py"
    module.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = module
    sys.argv = ["game.py"]
    try:
        exec(compile(asked["source"], "game.py", "exec"), module.__dict__)  # noqa: S102 - what it is for
    except SystemExit:
        how["how"] = "exited"
    except _Over:
        how["how"] = "went on"
    except BaseException as error:
        places = [
            each.lineno
            for each in traceback.extract_tb(error.__traceback__)
            if each.filename == "game.py"
        ]
        how |= {"how": "raised", "error": _words(error), "line": places[-1] if places else None}
    tell(
        {
            **how,
            "turns": player.turn,
            "shown": player.shown,
            "pictures": player.pictures[:2000],
        }
    )
    # Threads that it left, or what it has put behind the end, must not keep it.
    os._exit(0)


def _words(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"[:300]
    except Exception:
        return type(error).__name__
