"""What happens to a fleet, on real hosts; each scenario ends as the next one may begin."""

from __future__ import annotations

import contextlib
import json
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import testinfra

from ollama_tools.lint import cases
from tests.fleet.fleet import MODEL, QUANT, Fleet, overtaking
from tests.testbed.build import NEWEST, OLDEST
from tests.testbed.hosts import Host, Hosts
from tests.testbed.hub import Hub
from tests.testbed.models import changed

UNIT = "ollama.service"
DROP_IN = "/etc/systemd/system/ollama.service.d/devstral.conf"
TOOLS = "/opt/devstral-ollama/bin/devstral-ollama"
REPOSITORY = "unsloth/Devstral-Small-2507-GGUF"

_LAST_BEFORE_BATCHES = "Take the host, so that no other run changes it"

pytestmark = pytest.mark.xdist_group("fleet")


def inside(hosts: Hosts, name: str) -> Any:
    """A host as testinfra sees it, over ssh."""
    return testinfra.get_host(f"ssh://{name}", ssh_config=str(hosts.ssh_config), sudo=True)


def ask(host: Host, path: str, body: dict[str, Any] | None = None) -> Any:
    """What a host's server answers on its loopback address, which is all that it listens to."""
    data = None if body is None else json.dumps(body).encode()
    code = (
        "import urllib.request as u\n"
        f"request = u.Request('http://127.0.0.1:11434{path}', {data!r})\n"
        "print(u.urlopen(request, timeout=60).read().decode())"
    )
    return json.loads(host.run("python3 -", stdin=code).stdout)


def status(host: Host) -> Any:
    """The names on a host with their digests."""
    return {each["name"]: each["digest"] for each in ask(host, "/api/tags")["models"]}


def environment(host: Host) -> dict[str, str]:
    """The environment of the running server."""
    text = host.run("tr '\\0' '\\n' < /proc/$(systemctl show -P MainPID ollama)/environ").stdout
    return dict(line.split("=", 1) for line in text.splitlines())


def starts(host: Host) -> str:
    """What changes with every start of the server."""
    return host.run(f"systemctl show -P InvocationID {UNIT}").stdout.strip()


def verify(hosts: Hosts, name: str, version: str = NEWEST) -> None:
    """That a host is as it should be, seen from inside."""
    host = inside(hosts, name)
    service = host.service("ollama")
    assert service.is_running
    assert service.is_enabled
    unit = host.file("/etc/systemd/system/ollama.service")
    assert (unit.user, unit.mode) == ("root", 0o644)
    drop_in = host.file(DROP_IN)
    assert (drop_in.user, drop_in.mode) == ("root", 0o644)
    assert [each for each in host.socket.get_listening_sockets() if each.endswith(":11434")] == [
        "tcp://127.0.0.1:11434"
    ]
    models = host.file("/usr/share/ollama/.ollama/models")
    assert (models.user, models.mode & 0o077) == ("ollama", models.mode & 0o050)
    process = host.process.get(pid=int(host.check_output(f"systemctl show -P MainPID {UNIT}")))
    assert process.user == "ollama"
    bed = hosts[name]
    assert environment(bed)["OLLAMA_KV_CACHE_TYPE"] == "q8_0"
    assert environment(bed)["OLLAMA_FLASH_ATTENTION"] == "1"
    assert ask(bed, "/api/version") == {"version": version}
    assert MODEL in status(bed)
    assert tool_call(bed) == cases.TOOL


def tool_call(host: Host) -> str:
    """The tool that the model calls, asked on the host itself."""
    answer = ask(
        host,
        "/api/chat",
        {
            "model": MODEL,
            "messages": cases.QUESTION,
            "tools": cases.TOOLS,
            "options": {"num_predict": 512},
            "stream": False,
        },
    )
    name = answer["message"]["tool_calls"][0]["function"]["name"]
    assert isinstance(name, str)
    return name


def test_a_fresh_install_is_promised_done_and_left_alone(fleet: Fleet, settled: list[bool]) -> None:
    fleet.hosts.reset()
    fleet.converge()
    for name in fleet.names:
        verify(fleet.hosts, name)
    settled[0] = True


def test_what_serves_is_checked_after_a_change_and_where_it_was_not_seen_to_pass(
    converged: Fleet,
) -> None:
    def checked(**variables: object) -> set[str]:
        done = converged.play("site", **variables)
        assert done.code == 0, done.output
        assert done.changed() == []
        return {each.host for each in done.tasks if each.task == "Check what serves"}

    assert checked(devstral_smoke_always=True) == set(converged.names)
    # Whatever a start may have changed: it could have lost its GPU.
    converged.hosts["gpu1"].run("systemctl restart ollama")
    # No context holds such a prompt, so only this host's own check can fail.
    converged.of_host["gpu3"] = {"devstral_smoke_prompt_tokens": 60_000}
    failed = converged.play("site", "--limit", "gpu3")
    assert failed.code != 0
    assert "gpu3 serves what it served before: " in failed.failures()["gpu3"]
    converged.of_host.clear()
    assert checked() == {"gpu1", "gpu3"}
    assert checked() == set()
    converged.settled = True


@pytest.mark.long
def test_each_tag_does_its_part_alone(converged: Fleet) -> None:
    host = converged.hosts["gpu1"]

    def played(*tags: str) -> tuple[set[str], list[str]]:
        done = converged.play("site", "--limit", "gpu1", "--tags", ",".join(tags))
        assert done.code == 0, done.output
        begun = max(each.at for each in done.tasks if each.task == _LAST_BEFORE_BATCHES)
        roles = {
            each.task.partition(" : ")[0].removeprefix("devstral.ollama.")
            for each in done.tasks
            if each.at > begun and "Validating arguments" not in each.task
        }
        return roles, [each.rpartition(" : ")[2] for each in done.changed()]

    assert played("tools") == ({"devstral_tools"}, [])
    assert played("check") == ({"Check what serves"}, [])
    host.run("rm /opt/ollama/current")
    installed = ["Switch to the release", "Restart Ollama"]
    assert played("install") == ({"ollama_server"}, installed)
    converged.variables["ollama_server_settings"] = {"keep_alive": "35m"}
    converged.want(context=12288)
    assert played("settings") == ({"ollama_server"}, ["Write the settings", "Restart Ollama"])
    assert environment(host)["OLLAMA_KEEP_ALIVE"] == "35m"
    roles, changed = played("model")
    assert roles == {"devstral_model", "Check what serves", "Note that it passed"}
    assert changed == ["Make the model"]
    assert played("all")[1] == []

    converged.variables |= {"ollama_server_version": "0.34.3"}
    refused = converged.play("site", "--limit", "gpu1", "--tags", "settings")
    words = "Ollama 0.34.4 runs here, and 0.34.3 is asked for: run with --tags install,settings"
    assert refused.failures() == {"gpu1": words}


@pytest.mark.long
def test_a_setting_that_changes_means_one_restart(converged: Fleet) -> None:
    before = {each.name: starts(each) for each in converged.hosts.hosts}
    converged.variables["ollama_server_settings"] = {"keep_alive": "45m", "max_queue": 64}
    # The first alone, so that no more than one is down where a setting does harm.
    converged.variables["devstral_serial"] = [1, 2]
    done = converged.converge()
    begun = max(each.at for each in done.tasks if each.task == _LAST_BEFORE_BATCHES)
    canary, second, third = (
        [each.at for each in done.tasks if each.host == host and each.at > begun]
        for host in converged.names
    )
    assert max(canary) < min(second + third)
    assert min(second) < max(third)
    assert min(third) < max(second)
    for host in converged.hosts.hosts:
        assert environment(host)["OLLAMA_KEEP_ALIVE"] == "45m"
        assert starts(host) != before[host.name]
        log = host.run(f"journalctl -u {UNIT} -o cat --since -10min | grep -c '^Started '").stdout
        assert int(log) >= 1


@pytest.mark.long
def test_a_kv_type_edited_by_hand_is_found_and_mended(converged: Fleet) -> None:
    host = converged.hosts["gpu2"]
    host.run(f"sed -i s/TYPE=q8_0/TYPE=q4_0/ {DROP_IN}")
    host.run("systemctl daemon-reload && systemctl restart ollama")
    drift = converged.play("drift")
    assert drift.code != 0
    setting = 'Environment="OLLAMA_KV_CACHE_TYPE={}"'
    assert drift.failures() == {
        "gpu2": f"{DROP_IN} has {setting.format('q4_0')} and lacks {setting.format('q8_0')}; "
        "the running server lacks OLLAMA_KV_CACHE_TYPE=q8_0; "
        "OLLAMA_KV_CACHE_TYPE: q4_0 instead of q8_0"
    }
    assert environment(host)["OLLAMA_KV_CACHE_TYPE"] == "q4_0"
    converged.converge("--limit", "gpu2")
    assert environment(host)["OLLAMA_KV_CACHE_TYPE"] == "q8_0"
    assert converged.play("drift").code == 0
    converged.settled = True


@pytest.mark.long
def test_a_parameter_edited_on_the_server_is_found_and_mended(converged: Fleet) -> None:
    host = converged.hosts["gpu3"]
    before = status(host)[MODEL]
    edited = {"model": MODEL, "from": MODEL, "parameters": {"num_ctx": 4096}, "stream": False}
    ask(host, "/api/create", edited)
    drift = converged.play("drift")
    assert set(drift.failures()) == {"gpu3"}
    assert "parameter num_ctx: 4096 instead of 32768" in drift.failures()["gpu3"]
    converged.converge("--limit", "gpu3")
    assert status(host)[MODEL] == before
    converged.settled = True


@contextlib.contextmanager
def asking(host: Host) -> Iterator[list[str]]:
    """A client that never stops asking; what went wrong for it is in the list."""
    failed: list[str] = []
    stop = threading.Event()
    count = 0

    def ask_on() -> None:
        nonlocal count
        while not stop.is_set():
            count += 1
            try:
                if tool_call(host) != cases.TOOL:
                    failed.append("another tool")
            except Exception as error:
                failed.append(repr(error))

    client = threading.Thread(target=ask_on)
    client.start()
    try:
        yield failed
    finally:
        stop.set()
        client.join()
    assert count > 5


@pytest.mark.long
def test_a_new_quant_is_rolled_out_without_a_failed_request(converged: Fleet) -> None:
    host = converged.hosts["gpu1"]
    before = status(host)[MODEL]
    converged.want(reference="Q8_0")
    with asking(host) as failed:
        done = converged.play("site")
    assert done.code == 0, done.output
    assert failed == []
    assert status(host)[MODEL] != before
    back = converged.play("rollback")
    assert back.code == 0, back.output
    assert len(back.changed()) == 3
    for each in converged.hosts.hosts:
        assert status(each)[MODEL] == before
    converged.settled = True


@pytest.mark.long
def test_a_host_whose_smoke_fails_is_put_back_and_the_next_left_alone(converged: Fleet) -> None:
    before = {each.name: status(each)[MODEL] for each in converged.hosts.hosts}
    converged.want(context=16384)
    # No context holds such a prompt, so only this host's own check can fail.
    converged.variables["devstral_serial"] = 1
    converged.of_host["gpu2"] = {"devstral_smoke_prompt_tokens": 60_000}
    done = converged.play("site")
    assert done.code != 0
    assert "put back" in done.failures()["gpu2"]
    assert status(converged.hosts["gpu1"])[MODEL] != before["gpu1"]
    assert status(converged.hosts["gpu2"])[MODEL] == before["gpu2"]
    assert status(converged.hosts["gpu3"]).get(MODEL) == before["gpu3"]
    assert not [each for each in done.tasks if each.host == "gpu3" and each.changed]


@pytest.mark.long
def test_a_model_made_by_hand_serves_again_where_the_new_ones_smoke_fails(
    converged: Fleet,
) -> None:
    host = converged.hosts["gpu2"]
    edited = {"model": MODEL, "from": MODEL, "parameters": {"num_ctx": 2048}, "stream": False}
    ask(host, "/api/create", edited)
    by_hand = status(host)[MODEL]
    assert list(status(host).values()).count(by_hand) == 1
    # No context holds such a prompt, so only this host's own check can fail.
    converged.of_host["gpu2"] = {"devstral_smoke_prompt_tokens": 60_000}
    done = converged.play("site", "--limit", "gpu2")
    assert done.code != 0
    assert f"gpu2 was put back to {MODEL}-{by_hand[:12]}: " in done.failures()["gpu2"]
    assert status(host)[MODEL] == by_hand


@pytest.mark.long
def test_a_new_name_whose_smoke_fails_has_nothing_to_be_put_back_to(converged: Fleet) -> None:
    host = converged.hosts["gpu2"]
    converged.want(name="devstral:new")
    converged.of_host["gpu2"] = {"devstral_smoke_prompt_tokens": 60_000}
    done = converged.play("site", "--limit", "gpu2")
    assert done.code != 0
    assert "which failed, and served nothing before: " in done.failures()["gpu2"]
    assert "devstral:new" in status(host)
    gone = {"name": "devstral:new", "state": "absent"}
    assert converged.module("gpu2", "devstral_model", **gone)["changed"]
    assert "devstral:new" not in status(host)


@pytest.mark.long
def test_a_host_that_another_run_overtakes_says_so_and_nothing_is_put_back(
    converged: Fleet,
) -> None:
    host = converged.hosts["gpu2"]
    other = next(each for each in status(host) if each.startswith(f"{MODEL}-"))
    converged.want(context=24576)
    packages = host.run("ls -d /opt/devstral-ollama/lib/python3*/site-packages").stdout.strip()
    # The host's Python may have a sitecustomize of its own.
    host.run(f"cat >{packages}/other_run.py", stdin=overtaking(other))
    host.run(f"echo 'import other_run' >{packages}/other_run.pth")
    try:
        done = converged.play("site", "--limit", "gpu2")
    finally:
        host.run(f"rm {packages}/other_run.*")
    assert done.code != 0
    told = "gpu2 was overtaken by another run, whose model is left alone: "
    assert done.failures()["gpu2"].startswith(told)
    assert "Put back what served before" not in [each.task for each in done.tasks]
    assert status(host)[MODEL] == status(host)[other]


@pytest.mark.long
def test_a_host_with_weights_of_another_time_is_told_apart(
    converged: Fleet, fleet_hub: Hub
) -> None:
    late = converged.hosts["gpu3"]
    # Without its builds a host pulls the file anew, and that is another one by now.
    converged.module("gpu3", "devstral_model", name=MODEL, state="absent")
    fleet_hub.publish(changed(fleet_hub.newest(REPOSITORY).repository, QUANT))
    done = converged.play("site", "--limit", "gpu3")
    assert done.code == 0, done.output
    again = converged.play("site", "--check")
    assert again.changed() == [], again.output
    drift = converged.play("drift")
    assert set(drift.failures()) == {"gpu3"}
    assert re.fullmatch(
        "weights: sha256:[0-9a-f]{64} instead of sha256:[0-9a-f]{64} as on gpu1",
        drift.failures()["gpu3"],
    )
    converged.hosts.reset([late])


@pytest.mark.long
def test_a_host_that_reboots_serves_again_by_itself(converged: Fleet) -> None:
    host = converged.hosts["gpu1"]
    host.reboot()
    deadline = time.monotonic() + 30
    while True:
        try:
            assert tool_call(host) == cases.TOOL
            break
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
    converged.settled = True


@pytest.mark.long
def test_a_host_that_is_cut_off_is_reported_and_the_others_finish(converged: Fleet) -> None:
    converged.want(context=20480)
    lost = converged.hosts["gpu2"]
    lost.cut_off()
    try:
        done = converged.play("site")
        drift = converged.play("drift")
    finally:
        lost.restore()
    assert done.code != 0
    assert "was not reached" in done.failures()["gpu2"]
    for name in ("gpu1", "gpu3"):
        shown = ask(converged.hosts[name], "/api/show", {"model": MODEL})
        assert "20480" in shown["parameters"]
    assert set(drift.failures()) == {"gpu2"}


@pytest.mark.long
def test_a_wrong_checksum_installs_nothing(fleet: Fleet) -> None:
    host = fleet.hosts["gpu1"]
    host.reset()
    fleet.variables["ollama_server_sha256"] = "0" * 64
    done = fleet.play("site", "--limit", "gpu1")
    assert done.code != 0
    assert "checksum" in done.failures()["gpu1"].lower()
    assert host.run("ls /opt/ollama /usr/local/bin/ollama", check=False).returncode != 0
    assert host.run(f"systemctl cat {UNIT}", check=False).returncode != 0


@pytest.mark.long
def test_a_full_disk_leaves_the_old_model_serving(converged: Fleet, fleet_hub: Hub) -> None:
    host = converged.hosts["gpu3"]
    before = status(host)
    converged.want(reference="Q6_K")
    with host.full_disk(leave_bytes=64 * 1024):
        done = converged.play("site", "--limit", "gpu3")
        assert done.code != 0
        assert "disk" in done.failures()["gpu3"] or "free" in done.failures()["gpu3"]
        assert status(host)[MODEL] == before[MODEL]
    assert tool_call(host) == cases.TOOL


@pytest.mark.long
def test_one_smoke_report_over_all_hosts(converged: Fleet, tmp_path: Any) -> None:
    done = converged.play("smoke", devstral_report_directory=str(tmp_path))
    assert done.code == 0, done.output
    report = json.loads((tmp_path / "smoke.json").read_text())
    assert report["passed"]
    assert {each["id"].partition(":")[0] for each in report["checks"]} == set(converged.names)
    assert (tmp_path / "smoke.xml").read_text().startswith("<?xml")
    assert (tmp_path / "smoke.txt").read_text().count("passed") == 3


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"devstral_model": {"reference": "UD-Q9_Z"}}, "is no quant"),
        ({"ollama_server_settings": {"kv_cache_type": "q9_9"}}, "no type of a KV cache"),
        (
            {"ollama_server_settings": {"kv_cache_type": "q5_1"}, "ollama_server_version": OLDEST},
            "silently use f16",
        ),
        ({"ollama_server_settings": {"flash_attention": False}}, "needs flash attention"),
        ({"ollama_server_settings": {"nosuch": 1}}, "no setting"),
        ({"ollama_server_sha256": None}, "sha256"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_touched(
    fleet: Fleet, variables: dict[str, Any], words: str
) -> None:
    fleet.variables |= variables
    for key in [key for key, value in variables.items() if value is None]:
        del fleet.variables[key]
    done = fleet.play("site")
    assert done.code != 0
    assert any(words in each for each in done.failures().values()), done.output
    assert done.changed() == []
    assert not {each.task for each in done.tasks} & {"See who can be reached", "Make the model"}


@pytest.mark.parametrize("playbook", ["site", "drift", "smoke", "rollback"])
def test_a_run_that_asks_for_no_host_is_an_error(fleet: Fleet, playbook: str) -> None:
    done = fleet.play(playbook, devstral_hosts="nobody")
    assert done.code != 0
    assert set(done.failures().values()) == {"the inventory has no host in the group nobody"}
    # A limit is more than the group, so its hosts may be others than those that are asked for.
    done = fleet.play(playbook, "--limit", "gpu1", devstral_hosts="ollama:!gpu1")
    assert done.code != 0
    message = "no host in the group ollama:!gpu1 is left by --limit gpu1"
    assert done.failures() == {"gpu1": message}
    assert {each.task for each in done.tasks} == {"See that there is a host to work on"}
