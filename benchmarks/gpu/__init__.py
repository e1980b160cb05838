"""What this package does on a real graphics card: a probe, and the bundle that carries it there.

The modules that travel import the standard library, :mod:`ollama_tools` and the test bed's server
alone; only :mod:`benchmarks.gpu.bundle` stays at home.
"""
