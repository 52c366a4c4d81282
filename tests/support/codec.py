"""What tests ask a ``Codec`` that the library does not."""

from tako.ws.codec import Codec


def held(codec: Codec) -> int:
    """Return how many bytes are held that are in no message yet."""
    message, rest = codec._message, len(codec._rest)
    return rest if message is None else rest + message.held
