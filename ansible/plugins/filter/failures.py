"""What a failed task says."""

from __future__ import annotations


def failure(result, task):
    """What a failed task says; of a loop, what those of its items say that failed.

    Args:
        result: The task's result.
        task: The task's name, for one that says nothing.
    """
    said = [
        str(each["msg"])
        for each in result.get("results", ())
        if isinstance(each, dict) and each.get("failed") and each.get("msg")
    ]
    return "; ".join(said) or result.get("msg") or f"a task failed: {task}"


class FilterModule:
    """The filters of the collection about failures."""

    def filters(self):
        """Their names."""
        return {"failure": failure}
