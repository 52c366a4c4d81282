"""The PROXY protocol: headers, their values, and whose are believed."""
