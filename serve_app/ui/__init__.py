"""The web page: words, a picture or both in; pictures that mean the same out."""

from serve_app.ui.mount import mount_page
from serve_app.ui.page import SearchCallable, build_page

__all__ = ["SearchCallable", "build_page", "mount_page"]
