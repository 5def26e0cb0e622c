"""The tools that bench.ssh measures, one script each, as their users would write it. Each does one WORK and ends.

They run in an environment of their own (requirements.lock), so they import nothing of the pipeline; `ours` does.
"""
