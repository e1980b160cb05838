"""Says in one line what is wrong with the environment that runs this; nothing where it is whole."""

import base64
import hashlib
import importlib
import importlib.metadata
import sys


def damage(extra):
    """The first thing that is not as it was installed."""
    from packaging.requirements import Requirement

    installed = {}
    for each in importlib.metadata.distributions():
        installed[each.metadata["Name"].lower().replace("_", "-").replace(".", "-")] = each
    if "devstral-ollama" not in installed:
        return "devstral-ollama is missing"
    for each in installed.values():
        for line in each.requires or ():
            needed = Requirement(line)
            wanted = {"", extra} if each is installed["devstral-ollama"] else {""}
            if needed.marker is None or any(
                needed.marker.evaluate({"extra": one}) for one in wanted
            ):
                name = needed.name.lower().replace("_", "-").replace(".", "-")
                if name not in installed:
                    return name + " is missing"
        if each.files is None:
            return "nothing tells which files there are of " + each.metadata["Name"]
        for file in each.files:
            path = file.locate()
            # What is compiled is made anew where it does not fit its source.
            if not path.is_file():
                if path.suffix != ".pyc":
                    return str(path) + " is missing"
            elif file.hash is not None:
                found = hashlib.new(file.hash.mode, path.read_bytes()).digest()
                if base64.urlsafe_b64encode(found).rstrip(b"=").decode() != file.hash.value:
                    return str(path) + " is not as it was installed"
    return None


try:
    # All that the collection's modules use.
    importlib.import_module("ollama_tools.collection")
    if sys.argv[1]:
        # And all that the gateway is, which is compiled by that: its account cannot write.
        for name in ("app", "serve"):
            importlib.import_module("ollama_tools.gateway." + name)
        importlib.import_module("uvicorn")
    wrong = damage(sys.argv[1])
except Exception as error:
    wrong = type(error).__name__ + ": " + str(error)
if wrong:
    sys.exit(wrong)
