"""Memory of an index run does not grow with its rows: 20,000 small pictures take no more than 5,000."""

from __future__ import annotations

import pytest

from benchmarks import scale

FEW, MANY = 5_000, 20_000
BYTES_PER_ROW = 6_000
"""More than the store keeps of a row in memory (its vector alone has 2,048), and less than the picture as pixels
(3,072), its bytes, its payload and its task held anywhere as well."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scale")
    found = {}
    for rows in (FEW, MANY):
        scale.make_corpus(folder / f"pictures-{rows}", rows)
        found[rows] = scale.index(folder / f"pictures-{rows}", folder / f"store-{rows}")
    return found
