"""README shows the example that is a file, and the example's space is sound."""

from __future__ import annotations

import re
import runpy

from search_spaces.language.space import Space
from tests.docs.pages import ROOT


def test_the_example_is_the_file_and_its_space_is_sound() -> None:
    match = re.search(r"<!-- (\S+) -->\n```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert match
    assert (ROOT / match[1]).read_text() == match[2]
    space = runpy.run_path(str(ROOT / match[1]))["space"]
    assert isinstance(space, Space)
    assert space.size() > 1000
