"""Certificates that come by themselves: RFC 8555, 8737 and 9773."""
