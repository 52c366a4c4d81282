"""TLS: certificates, contexts, the hello and the record layer, without I/O."""
