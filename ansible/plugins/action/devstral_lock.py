"""The action devstral_lock: one run at a time on a host, and no lock that outlives its run."""

from __future__ import annotations

import gc
import getpass
import json
import os
import shlex
import signal
import socket
import stat
import time
import uuid
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from ansible.utils.display import Display

from ansible import context
from ansible.plugins.action import ActionBase

FILE = "/run/devstral-ollama.lock"
"""Gone after a reboot of the host, as every run on it is."""

LEASE = 120
"""Seconds after which a lock is void that nobody renews: its controller is off or cut off."""

_RENEWAL_SECONDS = 20.0
_ANSWER_SECONDS = 30.0
_POLL_SECONDS = 0.2

# The host's own uptime counts, since no two clocks agree. What it prints is the holder, or nothing.
_HOLD = """
set -eu
umask 022
file=$1 seconds=$2 token=$3 dead=$4 holder=$5
exec 9>>"$file.guard"
flock -w 20 9
now=$(cut -d. -f1 /proc/uptime)
until=0 by='' who=''
if [ -e "$file" ]; then
    { read -r until; read -r by; read -r who; } <"$file" || until=0
fi
if [ "$by" != "$token" ] && [ "$by" != "$dead" ] && [ "$until" -gt "$now" ]; then
    printf '%s\\n' "$who"
    exit 0
fi
if [ "$seconds" -eq 0 ]; then
    if [ "$by" = "$token" ]; then rm -f "$file"; fi
    exit 0
fi
printf '%s\\n' "$((now + seconds))" "$token" "$holder" >"$file.new"
mv "$file.new" "$file"
"""


class ActionModule(ActionBase):
    """The action."""

    _requires_connection = True
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp=None, task_vars=None):
        """Take the host for this run, or say who has it."""
        result = super().run(tmp, task_vars)
        result["changed"] = False
        if self._task.check_mode:
            result["msg"] = "check mode takes nothing"
            return result
        main = os.getppid()
        me = _holder(main)
        token = uuid.uuid4().hex
        answer = self._hold(token, me)
        if answer["rc"] == 0 and (other := _read(answer["stdout"])) and _is_dead(other):
            answer = self._hold(token, me, dead=other["token"])
        if answer["rc"] != 0:
            said = (answer["stderr"] or answer["stdout"]).strip()
            return {**result, "failed": True, "msg": f"{FILE} cannot be written: {said}"}
        if answer["stdout"].strip():
            other = _read(answer["stdout"])
            return {**result, "failed": True, "msg": _told(other), "holder": other}
        if not self._keep(token, me, main):
            return {**result, "failed": True, "msg": "nothing could be started to keep the lock"}
        return {**result, "holder": me}

    def _hold(self, token, holder, dead="", seconds=LEASE):
        line = json.dumps({**holder, "token": token})
        said = [FILE, str(seconds), token, dead, line]
        command = " ".join(map(shlex.quote, ["sh", "-c", _HOLD, "devstral-lock", *said]))
        return self._low_level_execute_command(command, sudoable=True)

    def _keep(self, token, holder, main):
        """Renew the lock in a process of its own until the run is over, then give it back."""
        started = _started(main)
        ready, tell = os.pipe()
        if os.fork():
            os.close(tell)
            with os.fdopen(ready, "rb") as told:
                # Before that, what ends this worker would end the other process as well.
                return told.read(1) == b"."
        code = 1
        try:
            os.setsid()
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            # What is told to a run that is over would be waited for for ever.
            display = Display()
            display.verbosity, display._final_q = 0, None
            gc.freeze()
            os.write(tell, b".")
            _close_pipes()
            while _is_running(main, started):
                _wait(_RENEWAL_SECONDS, lambda: not _is_running(main, started))
                if _is_running(main, started):
                    self._try(token, holder, LEASE, main, started)
            end = time.monotonic() + LEASE
            while time.monotonic() < end and not self._try(token, holder, 0):
                time.sleep(1)
            code = 0
        finally:
            os._exit(code)

    def _try(self, token, holder, seconds, main=0, started=""):
        """Tell the host; a connection that hangs is left to itself."""
        pid = os.fork()
        if not pid:
            code = 1
            try:
                os.setsid()
                code = self._hold(token, holder, seconds=seconds)["rc"]
            finally:
                os._exit(code and 1)
        done = [0, 0]

        def over():
            done[:] = os.waitpid(pid, os.WNOHANG)
            return done[0] == pid or (main and not _is_running(main, started))

        _wait(_ANSWER_SECONDS, over)
        if done[0] != pid:
            with suppress(OSError):
                os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return False
        return done[1] == 0


def _close_pipes():
    """By an end of a pipe that is still open the run would take its worker for still at work."""
    for number in [int(each.name) for each in Path("/dev/fd").iterdir()]:
        # The one that the folder was read by is closed again.
        with suppress(OSError):
            if stat.S_ISFIFO(os.fstat(number).st_mode):
                os.close(number)


def _wait(seconds, over):
    end = time.monotonic() + seconds
    while not over() and time.monotonic() < end:
        time.sleep(_POLL_SECONDS)


def _holder(main):
    arguments = context.CLIARGS.get("args") or ()
    return {
        "user": os.environ.get("SUDO_USER") or getpass.getuser(),
        "host": socket.gethostname(),
        "since": datetime.now().astimezone().isoformat(" ", "seconds"),
        "what": Path(arguments[0]).name if arguments else "ansible",
        "pid": main,
        "started": _started(main),
        "machine": _machine(),
    }


def _machine():
    """Where a process has its number: this machine since it was booted, and the container on it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return f"{socket.gethostname()} {uuid.getnode():x}"


def _started(pid):
    """What tells a process from a later one of the same number; empty where nothing does."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    fields = text.rpartition(")")[2].split()
    return "" if fields[0] in "ZX" else fields[19]


def _is_running(pid, started):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return _started(pid) == started


def _is_dead(holder):
    """Whether a run of this machine is over, which has not given its lock back yet."""
    return holder.get("machine") == _machine() and not _is_running(holder["pid"], holder["started"])


def _read(text):
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) and {"pid", "started", "token"} <= set(found) else {}


def _told(holder):
    who = f"{holder.get('user', 'somebody')}@{holder.get('host', 'another machine')}"
    return (
        f"{who} is at work on this host since {holder.get('since', 'a while')} "
        f"({holder.get('what', 'a run')}, process {holder.get('pid', 'unknown')} there); nothing "
        f"was changed: wait for the end of that run, whose lock goes with it, within "
        f"{LEASE} seconds even where its machine went down"
    )
