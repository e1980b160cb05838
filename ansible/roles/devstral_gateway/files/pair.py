"""Says in one line why clients would not take a certificate with its key; nothing where they do."""

import sys

try:
    from ollama_tools.collection import certificate_fault
except ImportError:
    # The tools of before, in check mode.
    sys.exit()
if fault := certificate_fault(*sys.argv[1:]):
    sys.stdout.write(f"{fault}\n")
