"""The page at `/`: static files that talk to the server's own endpoints. No build step, nothing from elsewhere."""

from mplus.server.page.static_files import router

__all__ = ["router"]
