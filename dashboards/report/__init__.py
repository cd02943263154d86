"""Reports: self-contained HTML pages about one study (`study`) and about several side by side (`comparison`).

`html` builds elements that escape text, `tables` the tables of networks, the `*_section` modules the parts of
a study's page.
"""

from dashboards.report.comparison import write_comparison
from dashboards.report.study import write_report

__all__ = ["write_comparison", "write_report"]
