"""The page about all blocks is what the registry makes of it."""

from pathlib import Path

from search_spaces.block_pages import blocks_page

PAGE = Path(__file__).parents[2] / "docs" / "blocks.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == blocks_page(), "run: nas blocks --page > docs/blocks.md"
