"""``ensure_model``: see to it that a server serves a Devstral as it should be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from ollama_tools.devstral.carriers import (
    AUTO,
    EXACT,
    Carrier,
    earlier_jinja_templates,
    go_template,
    jinja_template,
)
from ollama_tools.devstral.catalog import Catalog, Release, TokenizerVersion
from ollama_tools.devstral.catalog_file import load_catalog
from ollama_tools.devstral.context import AGENT_PROMPT, is_auto
from ollama_tools.devstral.header import BY_NAME, rewriting
from ollama_tools.devstral.reference import (
    FileReference,
    QuantReference,
    guess_release,
    parse_reference,
)
from ollama_tools.errors import FileProblem, ModelNotFound, UsageError
from ollama_tools.files import remembered as state
from ollama_tools.model.apply import Outcome, apply
from ollama_tools.model.builds import loaded_name, shown_if_there
from ollama_tools.model.plan import Comparison, Plan, compare, make_plan
from ollama_tools.model.preflight import Preflight, with_trial
from ollama_tools.model.published import Publisher, publisher
from ollama_tools.model.room import (
    Needs,
    Room,
    room_of,
    stated_cards,
    weights_of_file,
    weights_to_come,
)
from ollama_tools.model.steps import Create, Policy
from ollama_tools.model.upload import Download
from ollama_tools.progress import Progress, Silence
from ollama_tools.server.client import InstalledModel, Server, find_model
from ollama_tools.server.llama_server import LlamaServer
from ollama_tools.server.names import own_name
from ollama_tools.server.parameters import require_parameters
from ollama_tools.server.process import find_server_process
from ollama_tools.server.versions import (
    NATIVE_JINJA,
    Version,
    parse_version,
    require_supported,
)
from ollama_tools.settings.environment import TEMPLATE_FILE, parse_kv_type
from ollama_tools.wanted.draft import (
    Offline,
    RegistryAddress,
    candidates,
    choose_release,
    choose_via,
    offline_facts,
)
from ollama_tools.wanted.source import named_source
from ollama_tools.wanted.spec import merge_parameters
from ollama_tools.wanted.vision import is_wanted
from ollama_tools.wanted.wish import Via, Wish, WishOptions

if TYPE_CHECKING:
    from ollama_tools.checks.result import Report
    from ollama_tools.devstral.fit import Weights


def ensure_model(
    reference: str,
    *,
    host: str | None = None,
    timeout: float | None = None,
    api_key: str | None = None,
    check: bool = True,
    prompt_tokens: int = AGENT_PROMPT,
    force: bool = False,
    keep: int | None = None,
    upgrade: bool = False,
    require_gpu: bool | None = None,
    preflight: bool = True,
    progress: Progress | None = None,
    **wish: Unpack[WishOptions],
) -> Outcome:
    """See to it that a server serves a Devstral as it should be; do nothing where it does.

    What serves is never touched in place: a new build gets a name of its own, is checked on the
    live server, and only then the public name is switched to it.

    Args:
        reference: What names the weights: ``"UD-Q4_K_XL"``, ``"2505:Q4_K_M"``,
            ``"hf.co/unsloth/Devstral-Small-2507-GGUF:Q8_0"``, ``"./my-tune.gguf"``, or the name of
            a model on the server.
        host: The server, as the ollama command line reads ``OLLAMA_HOST``; None for that variable.
        timeout: Seconds without a byte or progress after which a wait for the server ends; None for
            ``DEVSTRAL_OLLAMA_TIMEOUT``, or what suits each request.
        api_key: The key that goes with every request; None for ``OLLAMA_API_KEY``.
        check: Whether a new build must pass the smoke checks before the name is switched to it.
        prompt_tokens: Tokens of the long prompt of the checks.
        force: Pull and build again even where nothing differs, and though it cannot fit on the
            server's cards.
        keep: How many builds of the name to keep, the one that serves among them; None for all.
        upgrade: Take what the hub (or the mirror that is named) has now, where what serves is an
            older file of the same name.
        require_gpu: Whether a new build must be wholly on graphics cards to pass; None where one is
            seen on the server's machine.
        preflight: Whether a miniature tries the server before more than 1 GB is brought.
        progress: Hears of each step; None for silence.
        **wish: Everything else that may be said of the model (``name``, ``context``, ``carrier``,
            …): the fields of :class:`ollama_tools.wanted.wish.Wish`.

    Returns:
        What is served now: name, build, digest, weights; what served before, and what changed.

    Raises:
        UsageError: What was asked for cannot be (also a ``ValueError``).
        ServerUnreachable: No server answers (also a ``ConnectionError``).
        ServerTooOld: The server cannot serve Devstral.
        PullFailed: The server cannot bring the bytes.
        HubError: The hub cannot.
        CheckFailed: The new build is not right; the public name is as it was.
    """
    wanted = Wish(reference=reference, **wish)
    policy = Policy(check, prompt_tokens, force, upgrade, keep, require_gpu, preflight)
    progress = progress or Silence()
    with Server(host, timeout=timeout, api_key=api_key, progress=progress) as server:
        return apply(plan_for(server, wanted, policy, progress), server, progress)


def smoke(
    name: str | None = None,
    *,
    host: str | None = None,
    llama_server: str | None = None,
    gateway: str | None = None,
    timeout: float | None = None,
    api_key: str | None = None,
    release: str | None = None,
    prompt_tokens: int = AGENT_PROMPT,
    log: Path | None = None,
    require_gpu: bool | None = None,
    keep_template: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Check a model on a live server: prompt, context, KV cache, tool calls on every surface.

    Args:
        name: The model's name on the server, or a reference of the catalog (``"UD-Q4_K_XL"``); None
            for the one of a llama-server.
        host: The server, as the ollama command line reads ``OLLAMA_HOST``; None for that variable.
        llama_server: URL of a llama-server that is asked instead of an Ollama server.
        gateway: URL of a gateway that is asked instead: whether the model gets what clients send.
        timeout: Seconds without a byte or progress after which a wait for the server ends; None for
            ``DEVSTRAL_OLLAMA_TIMEOUT``, or what suits each request.
        api_key: The key that goes with every request; None for ``OLLAMA_API_KEY``.
        release: The Devstral whose format holds, for names that do not tell.
        prompt_tokens: Tokens of the long prompt.
        log: The server's log file, as evidence of the KV cache type and of where the model is.
        require_gpu: Whether the model must be wholly on graphics cards; None where one is seen on
            the server's machine.
        keep_template: Whether the model's own template is meant, as with ``create``.
        progress: Hears of each check; None for silence.

    Raises:
        UsageError: Nothing tells which Devstral the model is.
        ModelNotFound: The server has no such model.
        ServerUnreachable: No server answers.
    """
    from ollama_tools.checks.gateway_smoke import gateway_address, of_a_gateway, smoke_gateway
    from ollama_tools.checks.llama_smoke import smoke_llama_server
    from ollama_tools.checks.smoke import smoke_server

    catalog = load_catalog()
    if llama_server is not None:
        if host is not None or gateway is not None:
            raise UsageError("llama_server names one server, and there is another", "name one")
        if keep_template:
            raise UsageError(
                "on a llama-server nothing is kept: it has the template it was started with",
                "leave out --keep-template",
            )
        with LlamaServer(
            llama_server, timeout=timeout, api_key=api_key, progress=progress
        ) as other:
            chosen_name, tokenizer = _on_llama_server(other, name, release, catalog)
            return smoke_llama_server(
                other,
                chosen_name,
                tokenizer,
                prompt_tokens=prompt_tokens,
                log=log,
                require_gpu=require_gpu,
                progress=progress,
            )
    if name is None:
        raise UsageError("smoke needs the name of a model", "see: devstral-ollama list")
    if gateway is not None:
        if host is not None:
            raise UsageError("host and gateway name two servers", "name one of them")
        if keep_template or require_gpu is not None or log is not None:
            raise UsageError(
                "what the server itself does is no matter of a gateway",
                "leave out keep_template, require_gpu and log; or ask the server, without gateway",
            )
        address = gateway_address(gateway)
        with (
            of_a_gateway(address),
            Server(address, timeout=timeout, api_key=api_key, progress=progress) as server,
        ):
            name, known = _name_on_server(server, name, catalog)
            chosen = _tokenizer_on_server(server, name, release, known, catalog)
            return smoke_gateway(server, name, chosen, progress=progress)
    with Server(host, timeout=timeout, api_key=api_key, progress=progress) as server:
        name, known = _name_on_server(server, name, catalog)
        return smoke_server(
            server,
            name,
            _tokenizer_on_server(server, name, release, known, catalog),
            prompt_tokens=prompt_tokens,
            log=log,
            require_gpu=require_gpu,
            keeps_template=keep_template,
            progress=progress,
        )


def _tokenizer_on_server(
    server: Server, name: str, asked: str | None, known: Release | None, catalog: Catalog
) -> TokenizerVersion:
    """The format of a model: by what a person says, its name, its weights' or a template of ours.

    Raises:
        UsageError: Nothing tells it.
    """
    if asked is None and known is None and guess_release(name, catalog) is None:
        shown = server.show(name)
        known = guess_release(shown.label, catalog)
        for each in TokenizerVersion if known is None else ():
            ours = (jinja_template(each), *earlier_jinja_templates(each), go_template(each))
            if shown.template.rstrip("\n") in ours:
                return each
    return choose_release(asked, name, known, catalog).tokenizer


def preflight(
    reference: str | None = None,
    *,
    host: str | None = None,
    timeout: float | None = None,
    api_key: str | None = None,
    kv_cache_type: str | None = None,
    parallel: int | None = None,
    require_gpu: bool | None = None,
    force: bool = False,
    log: Path | None = None,
    progress: Progress | None = None,
    **wish: Unpack[WishOptions],
) -> Report:
    """Prove by a miniature what a model will need of a server, before it is brought.

    Template and parser, tool calls on every surface, the context in force, the KV cache's type and
    bytes, where it runs, and the memory that will be left. A model that serves is never put out for
    it, unless by ``force``; afterwards the server is as it was.

    Args:
        reference: What names the weights, as for :func:`ensure_model`; None for a release alone.
        host: See :func:`smoke`.
        timeout: See :func:`smoke`.
        api_key: See :func:`smoke`.
        kv_cache_type: The type that the KV cache must have; None for any.
        parallel: How many requests at a time there must be; None for any.
        require_gpu: Whether it must be wholly on graphics cards; None where one is seen.
        force: Whether a model that serves may be put out for it.
        log: The server's log file, as evidence.
        progress: Hears of each step; None for silence.
        **wish: What else may be said of the model, as for :func:`ensure_model`.

    Raises:
        UsageError: What was asked for cannot be.
        ServerUnreachable: No server answers.
    """
    catalog = load_catalog()
    silent = progress or Silence()
    kind = None if kv_cache_type is None else parse_kv_type(kv_cache_type)
    if parallel is not None and parallel < 1:
        raise UsageError(f"{parallel} requests at a time are impossible", "ask for at least 1")
    said = Wish(reference=reference or catalog.default.aliases[0], **wish)
    named = None if reference is None else parse_reference(reference, catalog)
    if named is None:
        release = catalog.default if said.release is None else catalog.release(said.release)
        own = QuantReference(release, release.quants[0])
    offline = offline_facts(named or own, said, catalog)
    with Server(host, timeout=timeout, api_key=api_key, progress=progress) as server:
        version = parse_version(server.version())
        room = room_of(server, version, said.vram, vision=is_wanted(said, offline.release))
        models = server.models_with(offline.name)
        weights = None
        if named is not None:
            source = named_source(named, said)
            weights = weights_to_come(source, offline.release, models, silent, ask=True)
        if is_auto(said.context):
            offline = _with_context(offline, said, server, models, room, weights, silent)
        context = offline.parameters["num_ctx"]
        assert isinstance(context, int)  # noqa: S101 - merge_parameters has seen to it
        via = choose_via(said, offline.via, local=server.is_local)
        trial = Preflight(
            offline.release,
            context,
            room,
            weights,
            carrier=AUTO if said.carrier == Carrier.HUB else said.carrier,
            rewritable=via is Via.UPLOAD,
            kv_type=kind,
            parallel=parallel,
            require_gpu=require_gpu,
            force=force,
            log=log,
        )
        return trial.run(server, silent)


def smoke_task(
    name: str,
    task: str,
    *,
    host: str | None = None,
    timeout: float | None = None,
    api_key: str | None = None,
    prompt_file: Path | None = None,
    folder: Path | None = None,
    progress: Progress | None = None,
) -> tuple[Report, Path]:
    """Let a model write a program, and try the program; see :mod:`ollama_tools.checks.tasks`.

    Args:
        name: The model's name on the server, or a reference of the catalog.
        task: Which program.
        host: See :func:`smoke`.
        timeout: See :func:`smoke`.
        api_key: See :func:`smoke`.
        prompt_file: What the model is asked instead of the task's own prompt.
        folder: Where it is kept what came of it; None for a folder of this user's cache, which the
            next run of the same model and task takes over.
        progress: Hears of the steps; None for silence.

    Returns:
        The report, and the folder.

    Raises:
        UsageError: There is no such task, or programs cannot be tried here.
        FileProblem: A file or folder cannot be used.
        ModelNotFound: The server has no such model.
        ServerUnreachable: No server answers.
    """
    from ollama_tools.checks.tasks import require_player, run_task, task_prompt

    prompt = task_prompt(task, prompt_file)
    require_player()
    with Server(host, timeout=timeout, api_key=api_key, progress=progress) as server:
        name, _ = _name_on_server(server, name, load_catalog())
        place = folder or state.task_folder(task, name)
        return run_task(server, name, prompt, place, progress or Silence()), place


def _on_llama_server(
    server: LlamaServer, name: str | None, release: str | None, catalog: Catalog
) -> tuple[str, TokenizerVersion]:
    """The name of a model of a llama-server, its only one where none is said, and its format."""
    served = server.models()
    known_names = ", ".join(each for names in served for each in names)
    if name is None and len(served) != 1:
        raise UsageError(f"{server.url} serves {len(served)} models", f"name one of {known_names}")
    chosen = served[0][0] if name is None else name
    if not any(chosen in names for names in served):
        # Who serves one model answers for it under any name.
        raise ModelNotFound(f"{server.url} has no model {chosen!r}", f"it serves {known_names}")
    known = guess_release(chosen, catalog)
    if release is None and known is None:
        known = guess_release(str(server.props(chosen).get("model_path") or ""), catalog)
    return chosen, choose_release(release, chosen, known, catalog).tokenizer


def _name_on_server(server: Server, name: str, catalog: Catalog) -> tuple[str, Release | None]:
    """The name of a model on the server, from that name or from a reference."""
    server.version()
    if find_model(server.models_with(name), name) is not None:
        return name, None
    try:
        reference = parse_reference(name, catalog)
    except UsageError as error:
        raise ModelNotFound(f"the server has no model {name!r}", error.fix) from error
    if isinstance(reference, QuantReference):
        return f"{reference.release.slug}:{reference.quant.name}", reference.release
    raise ModelNotFound(f"the server has no model {name!r}", "see: devstral-ollama list")


def measured_name(server: Server, name: str | None) -> str:
    """The name of the model that is meant: the one that is said, loaded, or the only one there.

    Args:
        server: The server.
        name: Its name there, or a reference of the catalog; None where nothing is said.

    Raises:
        UsageError: Nothing is said, and there are several.
        ModelNotFound: The server has no such model.
        ServerUnreachable: No server answers.
    """
    if name is not None:
        return _name_on_server(server, name, load_catalog())[0]
    server.version()
    models = server.models()
    loaded = {loaded_name(models, each) for each in server.running()} - {None}
    there = {each.name for each in models if own_name(each.name) is None}
    for names in (loaded, there):
        if len(names) == 1:
            return str(*names)
    if not there:
        raise ModelNotFound(f"{server.url} has no model", "see: devstral-ollama create --help")
    raise UsageError(
        f"{server.url} has {len(there)} models, and none is named", "see: devstral-ollama list"
    )


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a wish means for one server, beside what is there.

    Attributes:
        compared: What the server has, beside what is wanted.
        version: The server's version.
        via: How the bytes would come.
        registry: Where the server would pull from.
        publisher: Who says what is published.
        room: What the server has for it; None where nobody had to look yet.
        weights: What is to come, as far as memory goes; None where nothing tells its size.
    """

    compared: Comparison
    version: Version
    via: Via
    registry: RegistryAddress
    publisher: Publisher
    room: Room | None
    weights: Weights | None


def compare_with(
    server: Server, wish: Wish, policy: Policy, progress: Progress, *, doubtful: bool = False
) -> Wanted:
    """Compare what a server has with what is wished.

    Args:
        server: The server.
        wish: What is wished.
        policy: How the wish is to be met.
        progress: Hears of long steps.
        doubtful: Whether a layer of what serves may be gone, so that the server has to look.

    Raises:
        UsageError: What was asked for cannot be.
        ServerError: The server does not answer, or cannot serve Devstral.
    """
    catalog = load_catalog()
    reference = parse_reference(wish.reference, catalog)
    if isinstance(reference, FileReference) and not reference.path.exists():
        # Before anything is asked of its name, which would help nobody.
        raise FileProblem(f"there is no file {str(reference)!r}", "check the path")
    offline = offline_facts(reference, wish, catalog)
    if offline.told is not None and offline.told.by != BY_NAME:
        progress.step(f"{reference} is {offline.release.name}, by {offline.told.by}")
    named = named_source(reference, wish)
    version = require_supported(server.version())
    require_parameters(offline.parameters, version)
    models = server.models_with(offline.name)
    keeps, jinja = bool(wish.keep_template), None
    if wish.carrier in (AUTO, EXACT, Carrier.GGUF) and version >= NATIVE_JINJA and not keeps:
        jinja = jinja_template(offline.release.tokenizer)
    sent = rewriting(jinja, keeps_template=keeps)
    source = named.found(server, models, progress, sent)
    if wish.carrier == Carrier.SERVER:
        _require_dedicated(server, offline.release)
    stated_cards(wish.vram, vision=is_wanted(wish, offline.release))
    automatic, room = is_auto(wish.context), None
    weights = weights_to_come(source, offline.release, models, progress, ask=automatic)
    if automatic:
        room = room_of(server, version, wish.vram, vision=is_wanted(wish, offline.release))
        offline = _with_context(offline, wish, server, models, room, weights, progress)
    via = choose_via(wish, offline.via, local=server.is_local)
    wanted = candidates(source, offline, wish, version, via)
    asked = publisher(via, offline.registry, progress)
    compared = compare(server, models, wanted, policy, asked, progress, version, doubtful=doubtful)
    return Wanted(compared, version, via, offline.registry, asked, room, weights)


def _with_context(
    offline: Offline,
    wish: Wish,
    server: Server,
    models: Sequence[InstalledModel],
    room: Room,
    weights: Weights | None,
    progress: Progress,
) -> Offline:
    """The same with the context that fits, where that is what is wished."""
    current = find_model(list(models), offline.name)
    shown = shown_if_there(server, current.name) if current else None
    release = offline.release
    context, why = room.context(
        weights, release.architecture.context, shown.context if shown else None
    )
    progress.step(f"a context of {context} for {offline.name}: {why}")
    return replace(offline, parameters=merge_parameters(release, context, wish.parameters))


def plan_for(
    server: Server, wish: Wish, policy: Policy, progress: Progress, *, doubtful: bool = False
) -> Plan:
    """The steps from what a server has to what is wished; see :func:`compare_with`.

    Raises:
        UsageError: What was asked for cannot be.
        ServerError: The server does not answer, or cannot serve Devstral.
        HubError: The hub has to say which file it has, and does not.
    """
    wanted = compare_with(server, wish, policy, progress, doubtful=doubtful)
    plan = make_plan(
        wanted.compared,
        server,
        wanted.version,
        policy,
        via=wanted.via,
        registry=wanted.registry,
        publisher=wanted.publisher,
        progress=progress,
    )
    if any(isinstance(each, Create) for each in plan.steps):
        # A server's log is read for it, which takes longer than all else where nothing is to do.
        sees = is_wanted(wish, wanted.compared.candidates[0].release)
        room = wanted.room or room_of(server, wanted.version, wish.vram, vision=sees)
        plan = _weighed(plan, wanted.weights, room, progress)
        if policy.preflight:
            plan = with_trial(plan, _trial(wish, wanted, room, policy))
    # What was tried once need not be tried again.
    again = replace(policy, preflight=False)
    return replace(plan, again=partial(plan_for, server, wish, again, progress, doubtful=True))


def _trial(wish: Wish, wanted: Wanted, room: Room, policy: Policy) -> Preflight:
    spec = wanted.compared.candidates[0]
    return Preflight(
        spec.release,
        spec.context,
        room,
        wanted.weights,
        # A template of the hub's comes with its file.
        carrier=AUTO if wish.carrier == Carrier.HUB else wish.carrier,
        rewritable=spec.source.passes_here(wanted.via),
        require_gpu=policy.require_gpu,
    )


def _weighed(plan: Plan, weights: Weights | None, room: Room, progress: Progress) -> Plan:
    """The plan with what its build will take.

    Raises:
        UsageError: It cannot be on the server's cards.
    """
    spec = plan.compared.candidates[0]
    for each in plan.steps:
        if weights is None and isinstance(each, Download) and each.bytes:
            weights = weights_of_file(spec.release, each.source.tag, each.bytes)
    if weights is None:
        return plan
    needs = Needs(room, room.estimate(weights, spec.context))
    if not plan.policy.force:
        needs.require(plan.name, wanted=plan.policy.require_gpu, progress=progress)
    return replace(plan, needs=needs)


def _require_dedicated(server: Server, release: Release) -> None:
    """Refuse, before anything is fetched, a server that shows that it has no template of its own.

    Raises:
        UsageError: Its process is seen, and its environment names none.
    """
    process = find_server_process(server.url)
    if process is not None and TEMPLATE_FILE not in process.environment:
        raise UsageError(
            f"the server at {server.url} runs without {TEMPLATE_FILE}, so it has no template",
            f"start it with devstral-ollama serve --dedicated-to {release.aliases[0]}, or use "
            "--carrier auto",
        )
