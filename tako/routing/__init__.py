"""Routes, middleware and what answers before a handler does."""
