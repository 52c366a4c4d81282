"""tako's routers on other ASGI servers."""
