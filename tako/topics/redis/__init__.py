"""Topics over Redis or Valkey; needs the extra ``tako-server[redis]``."""

from tako.topics.redis.engine import RedisEngine


__all__ = ["RedisEngine"]
