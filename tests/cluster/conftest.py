"""Two nodes of Ray in processes of this machine."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from typing import Any

import pytest

# Before Ray is imported, by whichever test: it reads them once.
os.environ |= {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": secrets.token_hex(16),
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_enable_metrics_collection": "0",
    "RAY_gcs_server_port_wait_time_s": "120",
    "RAY_agent_register_timeout_ms": "120000",
}


@pytest.fixture(scope="session")
def two_nodes() -> Iterator[Any]:
    """A cluster to which runs connect by `--ray`; closed to all who do not have its token."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 1, "object_store_memory": 80_000_000}
    cluster = Cluster(initialize_head=True, head_node_args=small | {"include_dashboard": False})
    try:
        # No such card is there, but Ray takes it for one.
        cluster.add_node(**small, num_gpus=1)
        yield cluster
    finally:
        cluster.shutdown()
