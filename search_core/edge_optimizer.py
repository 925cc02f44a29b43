"""`python -m search_core.edge_optimizer PATH [links]`: builds the indexes of a shard that nobody else has open.

A process of its own, since `optimize` holds the GIL for as long as it runs.
"""

from __future__ import annotations

import ctypes
import signal
import sys

import qdrant_edge as edge

from search_core.edge_config import optimize

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Optimizes the shard at the path."""
    if sys.platform == "linux":  # never outlive the process that asked
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    shard = edge.EdgeShard.load(sys.argv[1])
    optimize(shard, links=sys.argv[2:] == ["links"])
    shard.close()


if __name__ == "__main__":
    main()
