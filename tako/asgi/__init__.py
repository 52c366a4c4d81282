"""ASGI 3, both ways: its apps on tako, and tako's routers on other servers.

``AsgiApp(app)`` is a handler for a route, or in place of a router a whole server;
``from_router(router)`` is an app for hypercorn or uvicorn.
"""

from tako.asgi.apps.app import AsgiApp
from tako.asgi.apps.lifespan import LifespanError
from tako.asgi.hosted.from_router import RouterApp, from_router


__all__ = ["AsgiApp", "LifespanError", "RouterApp", "from_router"]
