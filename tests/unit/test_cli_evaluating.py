"""What files of captions and canaries may call a picture."""

from __future__ import annotations

import pytest

from cli.evaluating import names_of


@pytest.mark.parametrize(
    ("uri", "names"),
    [
        ("file:///photos/tom%20%231.jpg", {"photos/tom #1.jpg", "tom #1.jpg"}),
        ("s3://bucket/cats/take#2%20.jpg", {"cats/take#2%20.jpg", "take#2%20.jpg"}),
        ("https://example.com/a/b%20c.png?v=1", {"a/b c.png", "b c.png"}),
        ("file:///data/t.tar#x/y%231.jpg", {"x/y#1.jpg", "y#1.jpg"}),
        ("s3://bucket/data/t.parquet#0.12", {"0.12"}),
    ],
)
def test_a_picture_is_named_by_its_address_its_file_name_or_the_end_of_its_path(
    uri: str, names: set[str]
) -> None:
    assert set(names_of(uri)) == {uri, *names}
