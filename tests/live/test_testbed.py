"""The test bed itself: what every other live test takes for granted."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import httpx
import pytest
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import LastCommitInfo, RepoFile

from tests.testbed.build import ollama_build
from tests.testbed.hub import Hub
from tests.testbed.models import (
    PROJECTOR,
    QUANTS,
    TEMPLATES,
    changed,
    devstral_repositories,
    with_readme,
)
from tests.testbed.repository import Content, Repository
from tests.testbed.server import OllamaServer

ROOT = Path(__file__).parents[2]
REPOSITORY = "unsloth/Devstral-Small-2507-GGUF"
QUANT = "UD-Q4_K_XL"
FILE = f"Devstral-Small-2507-{QUANT}.gguf"
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_current_weather",
            "description": "Says what the weather is like.",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "at": {"type": "string"}},
                "required": ["city", "at"],
            },
        },
    }
]
CALL = {
    "id": "abcdEF123",
    "function": {"name": "get_current_weather", "arguments": {"city": "Rome"}},
}
RESULT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is the weather like?"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": "20", "tool_call_id": "abcdEF123"},
]


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with Hub(devstral_repositories()) as running:
        yield running


@pytest.fixture(autouse=True)
def healthy(hub: Hub) -> Iterator[None]:
    yield
    hub.reset()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OllamaServer]:
    root = tmp_path_factory.mktemp("ollama")
    with OllamaServer(
        ollama_build(), models_dir=root / "models", log_path=root / "ollama.log"
    ) as running:
        yield running


def pull(server: OllamaServer, name: str) -> list[dict[str, Any]]:
    request = {"model": name, "insecure": True}
    answer = httpx.post(f"{server.url}/api/pull", json=request, timeout=60)
    return [json.loads(line) for line in answer.text.splitlines()]


def chat(server: OllamaServer, model: str, messages: list[Any], **more: object) -> dict[str, Any]:
    request = {"model": model, "messages": messages, "stream": False, **more}
    answer = httpx.post(f"{server.url}/api/chat", json=request, timeout=60)
    answer.raise_for_status()
    document: dict[str, Any] = answer.json()
    return document


@pytest.mark.parametrize(
    "repository",
    [
        REPOSITORY,
        "unsloth/Devstral-Small-2505-GGUF",
        "unsloth/Devstral-Small-2-24B-Instruct-2512-GGUF",
    ],
)
def test_a_pulled_miniature_calls_a_tool_answers_its_result_and_else_speaks_plainly(
    server: OllamaServer, hub: Hub, repository: str
) -> None:
    model = f"{hub.registry}/{repository}:{QUANT}"
    assert pull(server, model)[-1] == {"status": "success"}

    question = [{"role": "user", "content": "What is the weather like?"}]
    assert chat(server, model, question)["message"]["content"] == "Hello from the miniature."

    called = chat(server, model, question, tools=TOOLS)["message"]["tool_calls"]
    assert [call["function"]["name"] for call in called] == ["get_current_weather"]
    assert called[0]["function"]["arguments"] == {"city": "Paris", "at": "noon"}

    answered = chat(server, model, RESULT, tools=TOOLS)["message"]
    assert answered == {"role": "assistant", "content": "It is sunny in Paris."}

    later = [*RESULT, {"role": "assistant", "content": "Sunny."}, *question]
    assert "tool_calls" in chat(server, model, later, tools=TOOLS)["message"]


def test_the_published_template_puts_tools_before_the_first_user_message(
    server: OllamaServer, hub: Hub
) -> None:
    model = f"{hub.registry}/{REPOSITORY}:{QUANT}"
    pull(server, model)
    messages = [*RESULT, {"role": "assistant", "content": "Sunny."}, RESULT[1]]

    debug = chat(server, model, messages, tools=TOOLS, _debug_render_only=True)["_debug_info"]

    before, rest = debug["rendered_template"].split("[AVAILABLE_TOOLS]")
    assert before == "[SYSTEM_PROMPT]Be brief.[/SYSTEM_PROMPT]"
    assert rest.partition("[/AVAILABLE_TOOLS]")[2] == (
        "[INST]What is the weather like?[/INST]"
        '[TOOL_CALLS]get_current_weather[ARGS]{"city": "Rome"}</s>[TOOL_RESULTS]20[/TOOL_RESULTS]'
        "Sunny.</s>[INST]What is the weather like?[/INST]"
    )


def test_the_broken_template_loses_its_tools_after_a_result(
    server: OllamaServer, tmp_path: Path
) -> None:
    template = (TEMPLATES / "broken.jinja").read_text()
    repositories = devstral_repositories(
        chat_templates={REPOSITORY: template}, quants=[QUANT], layers=1
    )
    with Hub(repositories) as hub:
        model = f"{hub.registry}/{REPOSITORY}:{QUANT}"
        pull(server, model)
        debug = chat(server, model, RESULT, tools=TOOLS, _debug_render_only=True)["_debug_info"]
        assert "[AVAILABLE_TOOLS]" not in debug["rendered_template"]
        debug = chat(server, model, RESULT[:2], tools=TOOLS, _debug_render_only=True)["_debug_info"]
        assert "[/AVAILABLE_TOOLS][INST]" in debug["rendered_template"]


def test_a_pull_is_redirected_to_another_host_name(server: OllamaServer, hub: Hub) -> None:
    assert pull(server, f"{hub.registry}/{REPOSITORY}:Q8_0")[-1] == {"status": "success"}
    hosts = {request.path.split("/")[1]: request.headers["host"] for request in hub.requests}
    assert hosts["v2"].startswith("127.0.0.1:")
    assert hosts["blobs"].startswith("localhost:")


def test_tags_are_case_sensitive(server: OllamaServer, hub: Hub) -> None:
    lines = pull(server, f"{hub.registry}/{REPOSITORY}:q2_k")
    assert lines[-1] == {"error": "pull model manifest: file does not exist"}


def test_a_pull_survives_one_cut_connection(server: OllamaServer, hub: Hub) -> None:
    hub.fail("/blobs/", cut_after=100_000, times=1)
    assert pull(server, f"{hub.registry}/{REPOSITORY}:Q6_K")[-1] == {"status": "success"}
    ranges = [request.range for request in hub.requests if request.range]
    assert any(span.startswith("bytes=100000-") for span in ranges)


def test_wrong_bytes_end_in_a_digest_mismatch(server: OllamaServer, hub: Hub) -> None:
    hub.fail("/blobs/", corrupt=True)
    lines = pull(server, f"{hub.registry}/{REPOSITORY}:Q5_K_M")
    assert lines[-1]["error"].startswith("digest mismatch")


def test_huggingface_hub_lists_and_downloads(hub: Hub, tmp_path: Path) -> None:
    api = HfApi(endpoint=hub.endpoint)
    info = api.model_info(REPOSITORY, files_metadata=True)
    assert info.sha is not None
    sizes = {sibling.rfilename: sibling.size for sibling in info.siblings or []}
    assert {f"Devstral-Small-2507-{quant}.gguf" for quant in QUANTS} < sizes.keys()
    assert PROJECTOR in sizes

    tree = {
        file.path: file for file in api.list_repo_tree(REPOSITORY) if isinstance(file, RepoFile)
    }
    (entry,) = api.get_paths_info(REPOSITORY, [FILE], revision=info.sha)
    assert isinstance(entry, RepoFile)
    assert entry.lfs is not None
    assert entry.lfs == tree[FILE].lfs
    assert len({file.lfs.sha256 for file in tree.values() if file.lfs}) == len(QUANTS) + 1

    path = hf_hub_download(REPOSITORY, FILE, endpoint=hub.endpoint, cache_dir=tmp_path)
    assert Path(path).stat().st_size == entry.size == sizes[FILE]
    assert Path(path).resolve().name == entry.lfs.sha256

    prompt = hf_hub_download(
        "mistralai/Devstral-Small-2507",
        "SYSTEM_PROMPT.txt",
        endpoint=hub.endpoint,
        cache_dir=tmp_path,
    )
    assert Path(prompt).read_text().startswith("You are Devstral")


def test_huggingface_hub_goes_on_where_a_download_was_cut(tmp_path: Path) -> None:
    # Beyond the client's buffer of 10 MB: what it has not written yet, it asks for again.
    with Hub(devstral_repositories(quants=[QUANT], filler=24_000_000, layers=1)) as hub:
        hub.fail("/lfs/", cut_after=12_000_000, times=1)
        path = hf_hub_download(REPOSITORY, FILE, endpoint=hub.endpoint, cache_dir=tmp_path)
        assert Path(path).stat().st_size > 24_000_000
        ranges = [request.range for request in hub.requests if request.path.startswith("/lfs/")]
        assert any(span and span != "bytes=0-" for span in ranges)


def test_a_header_can_be_read_with_one_range(hub: Hub) -> None:
    answer = httpx.get(
        f"{hub.endpoint}/{REPOSITORY}/resolve/main/{FILE}",
        headers={"Range": "bytes=0-65535"},
        follow_redirects=True,
    )
    assert answer.status_code == 206
    assert answer.content[:4] == b"GGUF"
    assert len(answer.content) == 65536
    total = int(answer.headers["Content-Range"].rpartition("/")[2])
    assert total > 65536


def test_a_token_is_asked_for_and_only_its_presence_is_logged(hub: Hub, tmp_path: Path) -> None:
    hub.token = "hf_test"
    api = HfApi(endpoint=hub.endpoint)
    with pytest.raises(RepositoryNotFoundError):
        api.model_info(REPOSITORY, token=False)
    assert api.model_info(REPOSITORY, token="hf_test").id == REPOSITORY
    assert [request.authorized for request in hub.requests] == [False, True]
    assert not any("hf_test" in str(request) for request in hub.requests)


def test_faults_apply_to_their_prefix_alone(hub: Hub) -> None:
    hub.fail(f"/api/models/{REPOSITORY}", status=403)
    hub.fail("/v2/", status=429, retry_after=7, times=1)
    with pytest.raises(GatedRepoError):
        HfApi(endpoint=hub.endpoint).model_info(REPOSITORY)
    assert HfApi(endpoint=hub.endpoint).model_info("mistralai/Devstral-Small-2507").sha
    manifest = f"{hub.endpoint}/v2/{REPOSITORY}/manifests/{QUANT}"
    limited = httpx.get(manifest)
    assert (limited.status_code, limited.headers["Retry-After"]) == (429, "7")
    assert httpx.get(manifest).status_code == 200


def last_commit(hub: Hub, path: str, revision: str = "main") -> LastCommitInfo:
    api = HfApi(endpoint=hub.endpoint)
    (entry,) = api.get_paths_info(REPOSITORY, path, expand=True, revision=revision)
    assert isinstance(entry, RepoFile)
    assert entry.last_commit is not None
    return entry.last_commit


def test_an_old_commit_is_served_after_another_was_published(hub: Hub, tmp_path: Path) -> None:
    old = hub.newest(REPOSITORY)
    new = hub.publish(changed(old.repository, QUANT))

    api = HfApi(endpoint=hub.endpoint)
    for revision, commit in ((None, new), ("main", new), (old.id, old), (new.id, new)):
        path = Path(
            hf_hub_download(
                REPOSITORY, FILE, revision=revision, endpoint=hub.endpoint, cache_dir=tmp_path
            )
        )
        content = commit.repository.files[FILE]
        assert path.parent.name == commit.id
        assert path.resolve().name == Content.of(path).sha256 == content.sha256

        assert api.model_info(REPOSITORY, revision=revision).sha == commit.id
        (entry,) = api.get_paths_info(REPOSITORY, [FILE], revision=revision)
        (listed,) = (e for e in api.list_repo_tree(REPOSITORY, revision=revision) if e.path == FILE)
        assert isinstance(entry, RepoFile)
        assert isinstance(listed, RepoFile)
        assert entry.lfs is not None
        assert entry.lfs.sha256 == content.sha256
        assert (
            (listed.lfs, listed.last_commit) == (entry.lfs, entry.last_commit) == (entry.lfs, None)
        )


def test_a_changed_model_keeps_its_size_and_leaves_the_others_alone(hub: Hub) -> None:
    before = hub.newest(REPOSITORY).repository
    after = changed(before, QUANT)
    assert after.files[FILE].sha256 != before.files[FILE].sha256
    assert after.files[FILE].size == before.files[FILE].size
    assert {**after.files, FILE: None} == {**before.files, FILE: None}
    assert changed(before, FILE).files == after.files
    assert after.commit != before.commit


def test_a_files_last_commit_is_the_one_that_changed_it(hub: Hub, tmp_path: Path) -> None:
    first = hub.newest(REPOSITORY)
    date = datetime(2025, 8, 1, 12, 30, 15, 250_000, timezone(timedelta(hours=2)))
    second = hub.publish(changed(first.repository, QUANT), message="Fix it\n\nAt last.", date=date)
    third = hub.publish(with_readme(second.repository, "Fixed."))
    other = f"Devstral-Small-2507-{QUANTS[0]}.gguf"

    changing = last_commit(hub, FILE)
    assert (changing.oid, changing.title) == (second.id, "Fix it")
    assert changing.date == date
    assert last_commit(hub, FILE, first.id).oid == first.id
    assert last_commit(hub, other).oid == first.id
    assert last_commit(hub, "README.md").oid == third.id

    api = HfApi(endpoint=hub.endpoint)
    tree = api.list_repo_tree(REPOSITORY, expand=True, revision=third.id)
    commits = {file.path: file.last_commit for file in tree if isinstance(file, RepoFile)}
    assert commits[FILE] == changing
    assert commits[other] == last_commit(hub, other)

    back = hub.publish(first.repository)
    assert back.id not in {first.id, second.id, third.id}
    assert last_commit(hub, FILE).oid == back.id
    with pytest.raises(EntryNotFoundError):
        hf_hub_download(REPOSITORY, "README.md", endpoint=hub.endpoint, cache_dir=tmp_path)


def test_commits_are_listed_newest_first(hub: Hub) -> None:
    first = hub.newest(REPOSITORY)
    second = hub.publish(with_readme(first.repository, "One."), message="One\n\nAnd more.")
    third = hub.publish(with_readme(first.repository, "Two."))

    api = HfApi(endpoint=hub.endpoint)
    listed = api.list_repo_commits(REPOSITORY)
    assert [commit.commit_id for commit in listed] == [third.id, second.id, first.id]
    assert [commit.created_at for commit in listed] == [third.date, second.date, first.date]
    assert (listed[1].title, listed[1].message) == ("One", "And more.")
    older = api.list_repo_commits(REPOSITORY, revision=second.id)
    assert [commit.commit_id for commit in older] == [second.id, first.id]


def test_a_withdrawn_commit_is_unknown(hub: Hub, tmp_path: Path) -> None:
    old = hub.newest(REPOSITORY)
    new = hub.publish(changed(old.repository, QUANT))
    hub.withdraw(REPOSITORY, old.id)

    api = HfApi(endpoint=hub.endpoint)
    with pytest.raises(RevisionNotFoundError, match=f"Invalid rev id: {old.id}"):
        hf_hub_download(
            REPOSITORY, FILE, revision=old.id, endpoint=hub.endpoint, cache_dir=tmp_path
        )
    with pytest.raises(RevisionNotFoundError):
        api.model_info(REPOSITORY, revision=old.id)
    with pytest.raises(RevisionNotFoundError):
        api.get_paths_info(REPOSITORY, FILE, revision=old.id)
    with pytest.raises(RevisionNotFoundError):
        api.list_repo_commits(REPOSITORY, revision=old.id)
    # No commit that is left may be said to be one that is not there.
    assert last_commit(hub, "SYSTEM_PROMPT.txt").oid == new.id
    with pytest.raises(ValueError, match="only one"):
        hub.withdraw(REPOSITORY, new.id)


def test_main_falls_back_where_the_newest_commit_is_withdrawn(hub: Hub) -> None:
    old = hub.newest(REPOSITORY)
    new = hub.publish(changed(old.repository, QUANT))
    hub.withdraw(REPOSITORY, new.id)
    assert HfApi(endpoint=hub.endpoint).model_info(REPOSITORY).sha == old.id


def test_the_registry_has_the_newest_tags_and_the_blobs_of_all_commits(hub: Hub) -> None:
    old = hub.newest(REPOSITORY)
    new = hub.publish(changed(old.repository, QUANT))

    def answer(digest: str) -> httpx.Response:
        where = f"{hub.endpoint}/v2/{REPOSITORY}/blobs/{digest}"
        return httpx.head(where, follow_redirects=True)

    manifest = httpx.get(f"{hub.endpoint}/v2/{REPOSITORY}/manifests/{QUANT}").json()
    before, after = (each.repository.files[FILE] for each in (old, new))
    assert manifest["layers"][0]["digest"] == after.digest
    assert [answer(each.digest).status_code for each in (before, after)] == [200, 200]
    hub.withdraw(REPOSITORY, old.id)
    assert [answer(each.digest).status_code for each in (before, after)] == [404, 200]


def test_a_reset_hub_holds_what_it_held_at_first(hub: Hub) -> None:
    old = hub.newest(REPOSITORY)
    hub.publish(with_readme(old.repository, "More."))
    hub.publish(Repository("me/mine", {}))
    hub.withdraw(REPOSITORY, old.id)
    hub.token = "hf_test"
    hub.fail("/", status=500)

    hub.reset()

    api = HfApi(endpoint=hub.endpoint)
    assert [commit.commit_id for commit in api.list_repo_commits(REPOSITORY)] == [old.id]
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("me/mine")


def test_a_date_needs_its_time_zone(hub: Hub) -> None:
    old = hub.newest(REPOSITORY)
    with pytest.raises(ValueError, match="no time zone"):
        hub.publish(old.repository, date=datetime(2025, 8, 1))
    assert hub.newest(REPOSITORY) is old
    assert hub.publish(Repository("me/mine", {})).date.tzinfo is UTC


def test_a_server_pulls_what_was_published_last(server: OllamaServer, hub: Hub) -> None:
    model = f"{hub.registry}/{REPOSITORY}:Q4_0"
    assert pull(server, model)[-1] == {"status": "success"}
    hub.publish(changed(hub.newest(REPOSITORY).repository, "Q4_0"))
    assert pull(server, model)[-1] == {"status": "success"}
    question = [{"role": "user", "content": "What is the weather like?"}]
    assert chat(server, model, question)["message"]["content"] == "Hello from the successor."
    assert "tool_calls" in chat(server, model, question, tools=TOOLS)["message"]


def test_a_restarted_server_keeps_its_address_and_takes_new_variables(tmp_path: Path) -> None:
    with OllamaServer(
        ollama_build(), models_dir=tmp_path / "models", log_path=tmp_path / "ollama.log"
    ) as server:
        url = server.url
        server.restart(env={"OLLAMA_KV_CACHE_TYPE": "q8_0"})
        assert server.url == url
        assert "OLLAMA_KV_CACHE_TYPE:q8_0" in server.log
        server.kill()
        server.start()
        assert httpx.get(f"{url}/api/version").json() == {"version": "0.34.4"}


@pytest.mark.parametrize("number", ["INT", "TERM", "HUP"])
def test_a_bed_in_the_background_of_a_script_ends_on_a_signal(tmp_path: Path, number: str) -> None:
    # A shell without job control lets its background jobs ignore SIGINT.
    script = f"""
        {sys.executable} -m tests.testbed --dir {tmp_path} > {tmp_path}/where &
        until [ -s {tmp_path}/where ]; do sleep 0.05; done
        kill -{number} $!
        wait $!
    """
    begin = time.monotonic()
    code = subprocess.run(["sh", "-c", script], cwd=ROOT, check=False, timeout=60).returncode
    where = json.loads((tmp_path / "where").read_text())
    assert code == 0, f"after {time.monotonic() - begin:.0f} s"
    assert not Path(f"/proc/{where['pid']}").exists()
    with pytest.raises(httpx.TransportError):
        httpx.get(f"{where['ollama']}/api/version")


def test_nothing_outlives_a_test_run_that_was_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.testbed", "--dir", str(tmp_path)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as bed:
        assert bed.stdout is not None
        where = json.loads(bed.stdout.readline())
        assert httpx.get(f"{where['ollama']}/api/version").status_code == 200
        bed.kill()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            httpx.get(f"{where['ollama']}/api/version")
        except httpx.TransportError:
            return
        time.sleep(0.05)
    pytest.fail("the server is still there")
