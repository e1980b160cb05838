"""What the Ansible collection uses of this package: its modules and filters import nothing else.

A name here stays as it is within a minor version, since a host's tools and the controller's
collection may differ by a patch.
"""

from __future__ import annotations

from ollama_tools.checks.fleet import fleet_report, fleet_text, unlike_peers
from ollama_tools.checks.junit import junit
from ollama_tools.devstral.catalog_file import load_catalog
from ollama_tools.devstral.contract import understands
from ollama_tools.devstral.reference import parse_reference
from ollama_tools.errors import DevstralError
from ollama_tools.gateway.fleet import gateway_of_host
from ollama_tools.gateway.tls import certificate_fault
from ollama_tools.lint import lint_models
from ollama_tools.model.apply import apply
from ollama_tools.model.builds import rollback
from ollama_tools.model.ensure import plan_for, smoke
from ollama_tools.model.leftovers import remove_model
from ollama_tools.model.listing import list_models
from ollama_tools.model.status import model_status, names_differences, settings_differences
from ollama_tools.model.steps import Policy
from ollama_tools.server.client import Server
from ollama_tools.server.names import public_name, same_name
from ollama_tools.server.process import find_server_process
from ollama_tools.server.versions import require_supported
from ollama_tools.settings.environment import (
    environment,
    from_mapping,
    require_possible,
    template_file,
)
from ollama_tools.settings.targets import Target, render_settings
from ollama_tools.wanted.draft import offline_facts
from ollama_tools.wanted.wish import Wish

__all__ = [
    "DevstralError",
    "Policy",
    "Server",
    "Target",
    "Wish",
    "apply",
    "certificate_fault",
    "environment",
    "find_server_process",
    "fleet_report",
    "fleet_text",
    "from_mapping",
    "gateway_of_host",
    "junit",
    "lint_models",
    "list_models",
    "load_catalog",
    "model_status",
    "names_differences",
    "offline_facts",
    "parse_reference",
    "plan_for",
    "public_name",
    "remove_model",
    "render_settings",
    "require_possible",
    "require_supported",
    "rollback",
    "same_name",
    "settings_differences",
    "smoke",
    "template_file",
    "understands",
    "unlike_peers",
]
