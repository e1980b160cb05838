"""About a minute of what ``python -m tests.stress`` does for as long as one likes."""

from __future__ import annotations

import json

from tests.stress.run import stress
from tests.testbed.hub import Hub
from tests.testbed.server import OllamaServer


def test_many_processes_switch_one_name_and_nothing_is_lost(bed: OllamaServer, hub: Hub) -> None:
    found = stress(bed.url, hub.registry, switches=60, processes=4)
    figures = json.dumps(found.as_json(), indent=1, ensure_ascii=False)
    assert found.passed, "\n".join([figures, *found.counts.where.values()])
    done = found.counts.done
    assert done["switch"] + done["switch overtaken"] == 240, figures
    # What no actor did proves nothing.
    for what in ("create", "rollback", "prune", "history", "list", "show", "status"):
        assert done[what], figures
