"""Filters on the controller: settings, templates and reports, by the package installed there."""

from __future__ import annotations

import difflib
import functools
import json
import re
from collections.abc import Mapping
from pathlib import Path

from ansible.errors import AnsibleFilterError
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.devstral.ollama.plugins.module_utils.wish import WISH

try:
    from ollama_tools.collection import (
        DevstralError,
        Target,
        Wish,
        environment,
        fleet_report,
        fleet_text,
        from_mapping,
        gateway_of_host,
        junit,
        load_catalog,
        offline_facts,
        parse_reference,
        public_name,
        render_settings,
        require_possible,
        require_supported,
        same_name,
        template_file,
        unlike_peers,
    )

    MISSING = None
except ImportError as error:
    MISSING = error


def _answering(function):
    """An error of the package becomes one of Ansible, with what to do about it."""

    @functools.wraps(function)
    def answer(*arguments, **options):
        if MISSING is not None:
            raise AnsibleFilterError(
                f"the controller needs devstral-ollama in Ansible's own Python: {MISSING}"
            )
        try:
            return function(*arguments, **options)
        except DevstralError as error:
            raise AnsibleFilterError(str(error)) from error

    return answer


def _settings(given, version):
    settings = from_mapping(given or {})
    require_possible(settings, require_supported(str(version)))
    return settings


@_answering
def drop_in(given, version, templates="/etc/ollama/templates"):
    """A systemd drop-in for settings."""
    settings = _settings(given, version)
    text = render_settings(
        settings, Target.SYSTEMD, version=require_supported(str(version)), templates=Path(templates)
    )
    return text + "\n"


@_answering
def variables(given, version, templates="/etc/ollama/templates"):
    """The environment variables that settings stand for."""
    return environment(_settings(given, version), Path(templates))


@_answering
def gateway(given, keys, server, version, tools="/opt/devstral-ollama"):
    """What a host's gateway is made of: unit, arguments, keys, files, url."""
    for name, value, kind in (("settings", given, Mapping), ("keys", keys, list)):
        if not isinstance(value, kind):
            raise AnsibleFilterError(
                f"devstral_gateway_{name} has to be a {'dict' if kind is Mapping else 'list'}"
            )
    # Ansible's own kinds of text and numbers become plain ones, out of a vault too.
    given, keys = json.loads(json.dumps([given, keys], default=str))
    if not all(isinstance(each, dict) for each in keys):
        raise AnsibleFilterError(
            "devstral_gateway_keys has to be a list as in [{name: alice, sha256: …}]"
        )
    found = gateway_of_host(
        given,
        [{name: str(value) for name, value in each.items()} for each in keys],
        _settings(server, version),
        program=Path(tools) / "bin" / "devstral-ollama",
        keys_file=Path("/etc/devstral-gateway-keys.json"),
    )
    return vars(found) | {"keys_file": "/etc/devstral-gateway-keys.json"}


@_answering
def template_name(release):
    """The file name of the template for a release."""
    return template_file(str(release)).name


@_answering
def template_text(release):
    """The template for a release."""
    return template_file(str(release)).read_text(encoding="utf-8")


def _facts(model):
    """What ``devstral_model`` means, as far as it can be told, and refused, without its host."""
    needed = {"reference": {"type": "str", "required": True}}
    read = ArgumentSpecValidator(WISH | needed).validate(model)
    if read.error_messages:
        raise AnsibleFilterError(f"devstral_model: {'; '.join(read.error_messages)}")
    said = {key: value for key, value in read.validated_parameters.items() if value is not None}
    # A file of a system prompt lies on the host.
    if said.get("system") not in ("", "hub", "bundled"):
        said.pop("system", None)
    catalog = load_catalog()
    return offline_facts(parse_reference(said["reference"], catalog), Wish(**said), catalog)


@_answering
def release_of(model):
    """The Devstral whose format holds for what ``devstral_model`` says."""
    return _facts(model).release.name


@_answering
def public_name_of(model):
    """The name under which ``devstral_model`` is served; an error where that cannot be."""
    return _facts(model).name


def carrier(model, has_gateway):
    """The carrier that is said; else that of a host with a gateway, or nothing.

    Who turns a gateway on wants exact prompts; a template that shall stay is none that it knows.
    """
    keeps = boolean(model.get("keep_template") or False, strict=False)
    own = "exact" if boolean(has_gateway, strict=False) and not keeps else ""
    return model.get("carrier") or own


@_answering
def absent_names(names, model):
    """The names that should be gone; an error where one cannot be a name, or is the model's own."""
    if not isinstance(names, list) or not all(isinstance(each, str) for each in names):
        raise AnsibleFilterError(
            "devstral_model_absent has to be a list of names, as in [devstral:old]"
        )
    wanted = _facts(model).name
    for each in names:
        if same_name(public_name(each), wanted):
            raise AnsibleFilterError(
                f"devstral_model_absent has {each}, which is the name of devstral_model: take it "
                "out, or give the model another name"
            )
    return names


def with_package(value):
    """A value as it is, and the package loaded for the whole run where the run itself asks.

    Each task has a process for each host, forked off the run's own, and would load it for itself.
    """
    return value


def difference(found):
    """One difference, as the modules give them, in words."""
    return f"{found['field']}: {found['found'] or 'none'} instead of {found['wanted'] or 'none'}"


_SECRET = re.compile(
    r"(?i)(\b\w*(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL)\w*=)[^\s\"']+|(://)[^@/\s\"']+(?=@)"
)
_SHOWN_LINES = 4


def without_secrets(text):
    """Words of a file, with what nobody should read in a log left out."""
    return _SECRET.sub(lambda found: f"{found[1] or found[2]}…", str(text))


def changes(known, *prefixes):
    """What tasks in check mode would change or refuse, in words.

    Args:
        known: The variables of a host, with what its tasks have registered.
        *prefixes: What the registered names begin with.
    """
    found = []
    for name in known:
        if str(name).startswith(prefixes) and isinstance(known[name], Mapping):
            found += _changes_of(known[name])
    return list(dict.fromkeys(found))


def _changes_of(result):
    if isinstance(result.get("results"), list):
        for each in result["results"]:
            if isinstance(each, Mapping):
                yield from _changes_of(each)
    elif result.get("failed"):
        yield without_secrets(result.get("msg") or "a task failed")
    elif result.get("changed"):
        shown = result.get("diff") or []
        told = [
            word
            for each in (shown if isinstance(shown, list) else [shown])
            for word in _difference_of(result, each)
        ]
        yield from told or [_otherwise(result)]


def _difference_of(result, shown):
    before, after = shown.get("before"), shown.get("after")
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        path = after.get("path") or before.get("path") or result.get("path") or result.get("dest")
        for key in sorted(set(before) | set(after)):
            if key != "path" and before.get(key) != after.get(key):
                found, wanted = (str(each.get(key, "none")) for each in (before, after))
                yield f"{path}: {key} {found} instead of {wanted}"
        return
    path = next(
        (
            each
            for each in (
                result.get("dest"),
                result.get("path"),
                shown.get("before_header"),
                shown.get("after_header"),
            )
            if each
        ),
        "a file",
    )
    if not before:
        if after:
            yield f"{path} is missing"
        return
    lines = list(difflib.ndiff(str(before).splitlines(), str(after or "").splitlines()))
    has = [each[2:].strip() for each in lines if each[0] == "-" and each[2:].strip()]
    lacks = [each[2:].strip() for each in lines if each[0] == "+" and each[2:].strip()]
    words = [_few(verb, each) for verb, each in (("has", has), ("lacks", lacks)) if each]
    yield f"{path} {' and '.join(words) or 'has other blank lines'}"


def _few(verb, lines):
    more = len(lines) - _SHOWN_LINES
    shown = ", ".join(map(without_secrets, lines[:_SHOWN_LINES]))
    return f"{verb} {shown}" + (f" and {more} more" if more > 0 else "")


def _otherwise(result):
    name = result.get("name") or result.get("path") or result.get("dest") or "the host"
    if "enabled" in result and "state" not in result:
        return f"{name} is not started at every boot"
    if result.get("state") == "started":
        return f"{name} does not run"
    if isinstance(result.get("msg"), str) and result["msg"]:
        return without_secrets(result["msg"])
    return f"{name} is not as it should be"


@_answering
def report(results):
    """The smoke reports of a fleet as one document; a host without one counts as failed."""
    return fleet_report(results).as_json()


@_answering
def report_junit(results):
    """The smoke reports of a fleet as JUnit XML."""
    return junit(fleet_report(results)).decode()


@_answering
def report_text(results):
    """The smoke reports of a fleet as a table."""
    return fleet_text(results)


@_answering
def unlike(seen):
    """By host, in which way it serves another model than hosts of which the same is wanted."""
    return unlike_peers(seen)


class FilterModule:
    """The filters of the collection."""

    def filters(self):
        """Their names."""
        return {
            "absent_names": absent_names,
            "carrier": carrier,
            "changes": changes,
            "difference": difference,
            "drop_in": drop_in,
            "environment": variables,
            "gateway": gateway,
            "public_name": public_name_of,
            "release": release_of,
            "report": report,
            "report_junit": report_junit,
            "report_text": report_text,
            "template_name": template_name,
            "template_text": template_text,
            "unlike_peers": unlike,
            "with_package": with_package,
            "without_secrets": without_secrets,
        }
