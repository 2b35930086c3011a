"""Commands that need neither torch nor gRPC."""
