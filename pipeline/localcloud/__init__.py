"""The local cloud: one machine that behaves as a small OpenStack, so that all the pipeline does is done for real.

cloud = up(directory, report=print)      a real Keystone, a real Heat, a network for hosts
status(directory), logs(directory, name)
down(directory, report=print)            nothing is left but the caches
"""

from __future__ import annotations

from pipeline.localcloud.cloud import LocalCloud, load
from pipeline.localcloud.image import ensure_image, image_digest
from pipeline.localcloud.lifecycle import down, up
from pipeline.localcloud.status import CloudStatus, HostStatus, ServiceStatus, logs, status

__all__ = [
    "CloudStatus",
    "HostStatus",
    "LocalCloud",
    "ServiceStatus",
    "down",
    "ensure_image",
    "image_digest",
    "load",
    "logs",
    "status",
    "up",
]
