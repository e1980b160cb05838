"""What drift sees of a host that somebody changed by hand, and what site makes of it."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass

import pytest

from tests.fleet.fleet import MODEL, ROOT, Fleet
from tests.testbed.build import NEWEST
from tests.testbed.hosts import Host

UNIT = "/etc/systemd/system/ollama.service"
DROP_IN = f"{UNIT}.d/devstral.conf"
RELEASE = f"/opt/ollama/{NEWEST}"
MODELS = "/usr/share/ollama/.ollama/models"
ORIGINS = f"{UNIT}.d/origins.conf"

pytestmark = pytest.mark.xdist_group("fleet")


@dataclass(frozen=True)
class Edit:
    """What somebody did by hand.

    Attributes:
        name: It, in words.
        host: Where.
        command: It, as root.
        told: What drift says of it, as a regular expression of the whole problem.
    """

    name: str
    host: str
    command: str
    told: str


def altered(*files: str) -> str:
    """What drift says of files of the release."""
    return f"{RELEASE} differs from what was installed: {', '.join(files)}"


def posted(path: str, **body: object) -> str:
    """A command that asks the host's server for something; the hosts have no curl."""
    code = (
        "import urllib.request as u; "
        # To its end: who hangs up earlier may have the server leave it undone.
        f"u.urlopen('http://127.0.0.1:11434/api/{path}', {json.dumps(body).encode()!r}).read()"
    )
    return f"python3 -c {shlex.quote(code)}"


GONE = "devstral:old"
TOOLS = "/opt/devstral-ollama"
RELEASE_FILES = altered(
    "bin/ollama", "lib/ollama/libextra.so", "lib/ollama/libgomp.so.1", "lib/ollama/llama-server"
)
STARTED_BEFORE = "the running server (.+, )*started before the last change of "

MENDED = [
    Edit(
        "a directive of the unit",
        "gpu1",
        f"sed -i s/NoNewPrivileges=yes/NoNewPrivileges=no/ {UNIT}",
        f"{UNIT} has NoNewPrivileges=no and lacks NoNewPrivileges=yes",
    ),
    Edit(
        "a setting, and no restart",
        "gpu1",
        f"sed -i s/TYPE=q8_0/TYPE=f16/ {DROP_IN}",
        f'{DROP_IN} has Environment="OLLAMA_KV_CACHE_TYPE=f16" '
        'and lacks Environment="OLLAMA_KV_CACHE_TYPE=q8_0"',
    ),
    Edit("the unit, and no restart", "gpu1", "true", f"{STARTED_BEFORE}(.+, )?{UNIT}(, .+)?"),
    Edit(
        "the mode of the models' directory",
        "gpu1",
        f"chmod 0777 {MODELS}",
        f"{MODELS}: mode 0777 instead of 0750",
    ),
    Edit(
        "the owner of the server's directory",
        "gpu1",
        "chown root /usr/share/ollama/.ollama",
        r"/usr/share/ollama/\.ollama: owner 0 instead of \d+",
    ),
    Edit(
        "the owner of a model's file",
        "gpu1",
        f"chown root {MODELS}/blobs/sha256-*",
        rf"{MODELS}/blobs/\S+ and {MODELS}/blobs/\S+ would belong to ollama",
    ),
    Edit(
        "the start at boot",
        "gpu1",
        "systemctl disable ollama",
        "ollama.service is not started at every boot",
    ),
    Edit(
        "the mode of the program that brings up GPUs",
        "gpu1",
        "chmod 0700 /usr/local/sbin/ollama-gpu",
        "/usr/local/sbin/ollama-gpu: mode 0700 instead of 0755",
    ),
    Edit(
        "the binary, longer by a byte",
        "gpu2",
        f"cd {RELEASE}/bin && cp -p ollama new && printf x >>new && mv new ollama",
        RELEASE_FILES,
    ),
    Edit(
        "the running program",
        "gpu2",
        "true",
        "the running server is another program",
    ),
    Edit(
        "a library",
        "gpu2",
        f"cd {RELEASE}/lib/ollama && cp -p libgomp.so.1 new && printf x >>new "
        "&& mv new libgomp.so.1",
        RELEASE_FILES,
    ),
    Edit(
        "the mode of the engine",
        "gpu2",
        f"chmod a-x {RELEASE}/lib/ollama/llama-server",
        RELEASE_FILES,
    ),
    Edit("a library more", "gpu2", f"touch {RELEASE}/lib/ollama/libextra.so", RELEASE_FILES),
    Edit(
        "which release is the current one",
        "gpu2",
        "ln -sfn 0.0.1 /opt/ollama/current",
        f"/opt/ollama/current: src 0.0.1 instead of {NEWEST}",
    ),
    Edit(
        "the mode of the drop-ins' directory",
        "gpu3",
        f"chmod 0777 {UNIT}.d",
        f"{UNIT}.d: mode 0777 instead of 0755",
    ),
    Edit(
        "a drop-in that is gone again, and no restart since",
        "gpu3",
        f"printf '[Service]\\nEnvironment=OLLAMA_ORIGINS=*\\n' >{ORIGINS} "
        "&& systemctl daemon-reload "
        f"&& systemctl restart ollama && rm {ORIGINS} && systemctl daemon-reload && sleep 3",
        "the running server has OLLAMA_ORIGINS set by no file(, .+)?",
    ),
    Edit(
        "a parameter of the model on the server",
        "gpu3",
        posted("create", **{"from": MODEL}, model=MODEL, parameters={"num_ctx": 4096}),
        "parameter num_ctx: 4096 instead of 32768",
    ),
    Edit(
        "a name that should be gone",
        "gpu3",
        posted("copy", source=MODEL, destination=GONE),
        f"{GONE}: {GONE} instead of none",
    ),
    Edit(
        "the marker of the unit",
        "gpu3",
        f"sed -i '/Made by/d' {UNIT}",
        f"{UNIT} lacks # Made by devstral.ollama.ollama_server: changes are overwritten.",
    ),
    Edit(
        "a file of the tools",
        "gpu3",
        f"sed -i 1i# {TOOLS}/lib/python3*/site-packages/ollama_tools/errors.py",
        rf"{TOOLS} is damaged: \S+/ollama_tools/\S+ is not as it was installed",
    ),
    Edit(
        "which tools are used",
        "gpu2",
        f"mkdir {TOOLS}.d/mine && ln -sfn devstral-ollama.d/mine {TOOLS}",
        rf"{TOOLS} is made of something else: mine instead of [0-9a-f]{{16}}-3\.11",
    ),
]  # fmt: skip

REFUSED = [
    Edit(
        "a drop-in of another hand",
        "gpu1",
        f"printf '[Service]\\nEnvironment=OLLAMA_ORIGINS=*\\n' >{ORIGINS}",
        rf"{ORIGINS} of another hand says Environment=OLLAMA_ORIGINS=\* ",
    ),
    Edit(
        "one for a while, with a secret",
        "gpu1",
        "mkdir -p /run/systemd/system/ollama.service.d && "
        "printf '[Service]\\nEnvironment=OLLAMA_API_KEY=hush\\n' "
        ">/run/systemd/system/ollama.service.d/key.conf",
        "/run/systemd/system/ollama.service.d/key.conf of another hand says "
        "Environment=OLLAMA_API_KEY=… ",
    ),
    Edit(
        "the command of another installation",
        "gpu1",
        "ln -sf /bin/true /usr/local/bin/ollama",
        "/usr/local/bin/ollama belongs to another installation; with ollama_server_replace it is "
        "kept as ollama.before-devstral and gives way",
    ),
]


def row(edit: Edit, problem: str | None, site: str) -> str:
    """A line of the table in docs/how-to/fleet.md, which the tests below print."""
    return f"| {edit.name} | `{problem}` | {site} |"


def test_the_page_has_every_edit_with_the_words_that_drift_has_for_it() -> None:
    lines = (ROOT / "docs" / "how-to" / "fleet.md").read_text(encoding="utf-8").splitlines()
    edits = [(each, "mended") for each in MENDED] + [(each, "refused") for each in REFUSED]
    found = [
        each
        for each in lines
        if each.startswith("| ") and each.endswith((" mended |", " refused |"))
    ]
    assert len(found) == len(edits) >= 15
    for line, (edit, site) in zip(found, edits, strict=True):
        problem = line.split(" | ")[1].strip("`")
        assert line == row(edit, problem, site)
        assert re.fullmatch(edit.told.rstrip(), problem.rstrip()), line


def do(fleet: Fleet, edits: list[Edit]) -> None:
    """What the edits say, in their order."""
    for each in edits:
        fleet.hosts[each.host].run(each.command)


def problems(message: str) -> list[str]:
    """The single problems of a host's message."""
    return message.split("; ")


def test_every_edit_by_hand_is_found_and_mended(converged: Fleet) -> None:
    fleet = converged
    fleet.variables["devstral_model_absent"] = [GONE]
    do(fleet, MENDED)
    before = {each.name: state(each) for each in fleet.hosts.hosts}
    drift = fleet.play("drift")
    assert drift.code != 0
    told = {host: problems(message) for host, message in drift.failures().items()}
    found = {
        each.name: next((one for one in told[each.host] if re.fullmatch(each.told, one)), None)
        for each in MENDED
    }
    for each in MENDED:
        print(row(each, found[each.name], "mended"))
    assert None not in found.values(), told
    assert {each.name: state(each) for each in fleet.hosts.hosts} == before
    done = fleet.play("site")
    assert done.code == 0, done.output
    again = fleet.play("drift")
    assert again.code == 0, again.output
    assert again.changed() == []
    service = fleet.hosts["gpu1"].run("systemctl show ollama -P NoNewPrivileges -P UnitFileState")
    assert service.stdout.split() == ["yes", "enabled"]
    fleet.settled = True


def test_what_site_must_not_mend_is_found_and_refused(converged: Fleet) -> None:
    fleet, only = converged, ("--limit", "gpu1")
    do(fleet, REFUSED)
    host = fleet.hosts["gpu1"]
    before = state(host)
    drift = fleet.play("drift", *only)
    for each in REFUSED:
        found = re.search(each.told, drift.failures()["gpu1"])
        assert found, (each.name, drift.failures())
        print(row(each, found[0].rstrip(), "refused"))
    assert "hush" not in drift.output
    first = fleet.play("site", *only)
    assert re.search(REFUSED[0].told, first.failures()["gpu1"])
    assert "remove it, or name the file in ollama_server_drop_ins" in first.failures()["gpu1"]
    named = [ORIGINS, "/run/systemd/system/ollama.service.d/key.conf"]
    second = fleet.play("site", *only, ollama_server_drop_ins=named)
    assert second.failures() == {"gpu1": REFUSED[-1].told}
    assert [*first.changed(), *second.changed()] == []
    assert state(host) == before
    host.run(f"rm {' '.join(named)}; ln -sf /opt/ollama/current/bin/ollama /usr/local/bin/ollama")
    # Nobody knows what the server was started with meanwhile, so site restarts it.
    last = fleet.play("drift", *only)
    assert last.failures() == {
        "gpu1": f"the running server started before the last change of {UNIT}.d"
    }


def state(host: Host) -> str:
    """What a host's server is, to see that nobody touched it."""
    return host.run(
        "cd /; find etc/systemd opt/ollama usr/local usr/share/ollama ! -type d "
        "-printf '%p %i %m %u %T@ %l\\n' | sort; systemctl show ollama -P InvocationID "
        "-P UnitFileState"
    ).stdout
