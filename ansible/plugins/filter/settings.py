"""Filters on the controller: settings, templates and reports, by the package installed there."""

from __future__ import annotations

import functools
from pathlib import Path

from ansible.errors import AnsibleFilterError

try:
    from ollama_tools.collection import (
        DevstralError,
        Target,
        choose_release,
        default_name,
        environment,
        fleet_report,
        fleet_text,
        from_mapping,
        junit,
        load_catalog,
        parse_reference,
        public_name,
        render_settings,
        require_possible,
        require_supported,
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
def template_name(release):
    """The file name of the template for a release."""
    return template_file(str(release)).name


@_answering
def template_text(release):
    """The template for a release."""
    return template_file(str(release)).read_text(encoding="utf-8")


@_answering
def release_of(model):
    """The Devstral whose format holds for what ``devstral_model`` says."""
    catalog = load_catalog()
    found = parse_reference(str(model["reference"]), catalog)
    asked = None if model.get("release") is None else str(model["release"])
    return choose_release(asked, str(found), getattr(found, "release", None), catalog).name


@_answering
def public_name_of(model):
    """The name under which ``devstral_model`` is served; an error where there is no such quant."""
    found = parse_reference(str(model["reference"]), load_catalog())
    return public_name(model.get("name") or default_name(found))


def difference(found):
    """One difference, as the modules give them, in words."""
    return f"{found['field']}: {found['found'] or 'none'} instead of {found['wanted'] or 'none'}"


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
            "difference": difference,
            "drop_in": drop_in,
            "environment": variables,
            "public_name": public_name_of,
            "release": release_of,
            "report": report,
            "report_junit": report_junit,
            "report_text": report_text,
            "template_name": template_name,
            "template_text": template_text,
            "unlike_peers": unlike,
        }
