"""Pages of the dashboard, one file each: its address, its title, its facts and figures, its callbacks.

To add one, put a file here with a class of `Page` under `@pages.add`. It is then served, has a tab, and its
controls are restored from its address; nothing else names it.
"""

from dashboards.pages.base import Page, Place, address, pages

__all__ = ["Page", "Place", "address", "pages"]
