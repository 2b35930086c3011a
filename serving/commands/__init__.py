"""Commands that need gRPC."""
