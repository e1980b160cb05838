"""Answers of a model that was asked for the game: sound, with each fault, and hostile."""

from __future__ import annotations

from dataclasses import dataclass

GAME = """\
import random
import sys

import pygame

WIDTH, HEIGHT, GROUND = 320, 480, 60
GAP, SPEED = 150, 3
PALE = [(173, 216, 230), (245, 222, 179), (216, 236, 216)]
DARK = [(40, 20, 60), (90, 20, 20), (20, 50, 30)]


class Game:
    def __init__(self):
        pygame.init()
        self.screen = pygame.display.set_mode((WIDTH, HEIGHT))
        self.clock = pygame.time.Clock()
        self.font = pygame.font.Font(None, 28)
        self.best = 0
        self.begin(PALE[0])

    def begin(self, background):
        self.background = background
        self.shape = random.choice(["square", "circle", "triangle"])
        self.colour = random.choice(DARK)
        self.ground = random.choice([(80, 50, 20), (230, 200, 60)])
        self.y, self.fall, self.score, self.lost = HEIGHT / 2, 0.0, 0, False
        self.pipes = [self.pipe(WIDTH + 80)]

    def pipe(self, x):
        colour = random.choice([(0, 100, 0), (200, 170, 120), (80, 80, 80)])
        return [x, random.randint(80, HEIGHT - GROUND - GAP - 40), colour, False]

    def press(self, key):
        if key in (pygame.K_q, pygame.K_ESCAPE):
            return False
        if key == pygame.K_SPACE:
            if self.lost:
                self.begin(random.choice(PALE))
            else:
                self.fall = min(self.fall, 0) - 5
        return True

    def step(self):
        if self.lost:
            return
        self.fall += 0.4
        self.y += self.fall
        for each in self.pipes:
            each[0] -= SPEED
            if each[0] + 50 < 60 and not each[3]:
                each[3] = True
                self.score += 1
                self.best = max(self.best, self.score)
            if 20 < each[0] + 40 < 130 and not each[1] < self.y < each[1] + GAP:
                self.lost = True
        if self.pipes[-1][0] < WIDTH - random.randint(160, 220):
            self.pipes.append(self.pipe(WIDTH + 20))
        self.pipes = [each for each in self.pipes if each[0] > -60]
        if self.y > HEIGHT - GROUND or self.y < 0:
            self.lost = True

    def draw(self):
        self.screen.fill(self.background)
        for x, top, colour, _ in self.pipes:
            pygame.draw.rect(self.screen, colour, (x, 0, 50, top))
            pygame.draw.rect(self.screen, colour, (x, top + GAP, 50, HEIGHT))
        pygame.draw.rect(self.screen, self.ground, (0, HEIGHT - GROUND, WIDTH, GROUND))
        x, y = 80, int(self.y)
        if self.shape == "square":
            pygame.draw.rect(self.screen, self.colour, (x - 12, y - 12, 24, 24))
        elif self.shape == "circle":
            pygame.draw.circle(self.screen, self.colour, (x, y), 12)
        else:
            corners = [(x, y - 12), (x - 12, y + 12), (x + 12, y + 12)]
            pygame.draw.polygon(self.screen, self.colour, corners)
        text = self.font.render(str(self.score), True, (0, 0, 0))
        self.screen.blit(text, (WIDTH - text.get_width() - 10, 10))
        if self.lost:
            text = self.font.render(f"best: {self.best}", True, (0, 0, 0))
            self.screen.blit(text, text.get_rect(center=(WIDTH // 2, HEIGHT // 2)))
        pygame.display.flip()

    def run(self):
        running = True
        while running:
            for event in pygame.event.get():
                if event.type == pygame.QUIT:
                    running = False
                elif event.type == pygame.KEYDOWN:
                    running = running and self.press(event.key)
            self.step()
            self.draw()
            self.clock.tick(60)
        pygame.quit()
        sys.exit()


if __name__ == "__main__":
    Game().run()
"""


def answer(program: str = GAME, word: str = "python") -> str:
    """An answer as models write them, with a program in a block."""
    return f"Here is the game.\n\n```{word}\n{program}```\n\nHave fun with it!\n"


def _changed(old: str, new: str) -> str:
    assert old in GAME
    return answer(GAME.replace(old, new))


@dataclass(frozen=True)
class Told:
    """An answer, and what has to be said of it.

    Attributes:
        text: The answer.
        fails: The check that fails; empty where none does.
        words: What it says.
    """

    text: str
    fails: str = ""
    words: str = ""


ANSWERS = {
    "a sound game": Told(answer()),
    "a game that waits in its own loop once it is lost": Told(
        _changed(
            "        pygame.display.flip()\n",
            "        pygame.display.flip()\n"
            "        while self.lost:\n"
            "            for event in pygame.event.get():\n"
            "                if event.type == pygame.KEYDOWN:\n"
            "                    if event.key == pygame.K_q:\n"
            "                        pygame.quit()\n"
            "                        sys.exit()\n"
            "                    self.press(event.key)\n"
            "            self.clock.tick(30)\n",
        )
    ),
    "no code": Told("I would use pygame for that.", "one-block", "no Python blocks"),
    "two programs": Told(answer() + answer(), "one-block", "2 Python blocks"),
    "an answer that is cut off": Told(
        answer().partition("def draw")[0], "one-block", "a code block is not closed"
    ),
    "a syntax error": Told(_changed("def step(self):", "def step(self)"), "parses", "line 43"),
    "another library": Told(answer("import turtle\nturtle.done()\n"), "pygame", "turtle"),
    "an error in a late frame": Told(
        _changed(
            "        self.fall += 0.4\n", "        self.fall += 0.4 if self.y < 300 else None\n"
        ),
        "runs nobody",
        "TypeError",
    ),
    "a program that ends at once": Told(
        _changed("        running = True\n", "        running = False\n"),
        "runs nobody",
        "it ended by itself",
    ),
    "a game that does not hear the space bar": Told(
        _changed("if key == pygame.K_SPACE:", "if key == pygame.K_UP:"), "space", "are the same"
    ),
    "a game that q does not end": Told(
        _changed("(pygame.K_q, pygame.K_ESCAPE)", "(pygame.K_ESCAPE,)"),
        "quits nobody",
        "q was pressed",
    ),
    "a window that stays empty": Told(
        _changed(
            "        pygame.display.flip()\n",
            "        self.screen.fill((0, 0, 0))\n        pygame.display.flip()\n",
        ),
        "picture",
        "1 colours",
    ),
}

_FRAMES = """
import pygame
pygame.init()
pygame.display.set_mode((100, 100))
while True:
    pygame.event.get()
    pygame.display.flip()
"""

HOSTILE = {
    "a socket": (
        "import socket; socket.create_connection(('127.0.0.1', {port}))",
        "PermissionError",
    ),
    "a socket of the machine": ("import socket; socket.socket(socket.AF_UNIX)", "PermissionError"),
    "a socket by ctypes": (
        "import ctypes, os; l = ctypes.CDLL(None, use_errno=True); "
        "assert l.socket(2, 1, 0) < 0; raise OSError(ctypes.get_errno(), 'no socket')",
        "PermissionError",
    ),
    "a file of another's": ("open({outside!r}, 'w').write('mine')", "PermissionError"),
    "a file read elsewhere": ("open({outside!r}).read()", "PermissionError"),
    "a file emptied by reading it": (
        "import os; os.open({outside!r}, os.O_RDONLY | os.O_TRUNC)",
        "PermissionError",
    ),
    "a file removed": ("import os; os.remove({outside!r})", "PermissionError"),
    "a file's mode": ("import os; os.chmod({outside!r}, 0o777)", "PermissionError"),
    "another program": ("import subprocess; subprocess.run(['id'])", "PermissionError"),
    "a fork bomb": ("import os\nwhile True: os.fork()", "PermissionError"),
    "processes by multiprocessing": (
        "import multiprocessing as m\nfor i in range(99): m.Process(target=print).start()",
        "PermissionError",
    ),
    "another process ended": ("import os; os.kill({parent}, 9)", "PermissionError"),
    "higher limits": (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
        "PermissionError|ValueError",
    ),
    "all memory": ("x = []\nwhile True: x.append(bytearray(1 << 26))", "MemoryError"),
    "threads without end": (
        "import threading, time\n"
        "while True: threading.Thread(target=threading.Event().wait).start()",
        "RuntimeError|MemoryError",
    ),
    "words without end": ("while True: print('x' * 100000)", "MiB of text"),
    "a long file": ("open('x', 'wb').write(bytes(1 << 26))", "OSError|signal 25"),
    "files without end": (
        "i = 0\nwhile True:\n    i += 1\n    open(f'x{{i}}', 'wb').write(bytes(1 << 12))",
        "files",
    ),
    "no end": ("while True: pass", "signal 24|signal 9|had not ended"),
    "an end by a crash": ("import ctypes; ctypes.string_at(0)", "signal 11"),
    "the way out of the player": ("import os; os._exit(0)", "it broke"),
    "a closed report": ("import os; os.closerange(0, 64); os._exit(3)", "it broke"),
    "a report without end": (
        "import os\n"
        "for fd in range(3, 64):\n"
        "    try:\n"
        "        while True: os.write(fd, b'x' * 65536)\n"
        "    except OSError: pass",
        "reports without an end",
    ),
    "a mount": (
        "import ctypes; l = ctypes.CDLL(None, use_errno=True); "
        "l.mount(b'x', b'/', b'tmpfs', 0, None); raise OSError(ctypes.get_errno(), 'no mount')",
        "PermissionError",
    ),
}
"""Programs that mean harm, with what is said of them; in braces what the test fills in."""


def hostile(program: str) -> str:
    """An answer whose program does harm, and would play on if it could."""
    return answer(f"import pygame\n{program}\n{_FRAMES}")
