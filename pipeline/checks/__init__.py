"""Checks of hosts: ordinary testinfra tests, one module per role, run by pipeline.verify.

Each check takes `host` (testinfra's), and what it needs of `target` (our Host), `site`, `release`, `vhost`, `survey`.
"""
