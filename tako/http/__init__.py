"""RFC 9110: requests, responses, fields and forms, alike on either wire."""
