"""Asks a server for its health over gRPC; the exit status is 0 where it serves, else 1 with one line that says why.

    python healthcheck.py [HOST:PORT]

The address defaults to LEDGATE_ADDRESS, else to localhost:50051.
"""

import os
import sys

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

TIMEOUT_S = 3.0


def main() -> int:
    """Asks once for the health of the whole server."""
    address = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("LEDGATE_ADDRESS", "localhost:50051")
    try:
        # Never through a proxy: what is asked is in the same container.
        with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
            reply = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
    except grpc.RpcError as error:
        print(f"{address}: expected SERVING, found {error.code().name}: {error.details()}", file=sys.stderr)
        return 1
    if reply.status != health_pb2.HealthCheckResponse.SERVING:
        name = health_pb2.HealthCheckResponse.ServingStatus.Name(reply.status)
        print(f"{address}: expected SERVING, found {name}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
