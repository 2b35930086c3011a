"""Asks a server for its health over gRPC; the exit status is 0 where it serves, else 1 with one line that says why.

    python healthcheck.py [HOST:PORT]

The address defaults to LEDGATE_ADDRESS, else to localhost:50051. A server that speaks TLS is asked over TLS where
LEDGATE_HEALTH_CA names the roots to trust, and LEDGATE_HEALTH_CERT and LEDGATE_HEALTH_KEY, if it wants one, the
certificate to show; its own has to be made out to the host of the address.
"""

import os
import sys
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

TIMEOUT_S = 3.0


def main() -> int:
    """Asks once for the health of the whole server."""
    address = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("LEDGATE_ADDRESS", "localhost:50051")
    try:
        with _channel(address) as channel:
            reply = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
    except grpc.RpcError as error:
        print(f"{address}: expected SERVING, found {error.code().name}: {error.details()}", file=sys.stderr)
        return 1
    except OSError as error:  # a certificate that is not there
        print(f"{error.filename}: expected a file to read, found: {error.strerror}", file=sys.stderr)
        return 1
    if reply.status != health_pb2.HealthCheckResponse.SERVING:
        name = health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status)
        print(f"{address}: expected SERVING, found {name}", file=sys.stderr)
        return 1
    return 0


def _channel(address: str) -> grpc.Channel:
    """A connection, over TLS where there are roots to trust."""
    options = [("grpc.enable_http_proxy", 0)]  # what is asked is in the same container
    roots, key, cert = (_read(f"LEDGATE_HEALTH_{name}") for name in ("CA", "KEY", "CERT"))
    if roots is None:
        return grpc.insecure_channel(address, options=options)
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(roots, key, cert), options=options)


def _read(variable: str) -> bytes | None:
    """The file that a variable names."""
    path = os.environ.get(variable)
    return None if path is None else Path(path).read_bytes()


if __name__ == "__main__":
    sys.exit(main())
