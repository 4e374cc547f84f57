"""One browser for all tests of pages."""

from tests.browser import browser

__all__ = ["browser"]
