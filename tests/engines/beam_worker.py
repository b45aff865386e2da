"""A Beam worker that a Flink task manager starts (environment_type=PROCESS): tells it where to get its work from."""

import sys

import grpc
from apache_beam.portability.api import beam_provision_api_pb2, beam_provision_api_pb2_grpc
from apache_beam.runners.worker.sdk_worker import SdkHarness

given = dict(word[2:].split("=", 1) for word in sys.argv[1:] if word.startswith("--"))
with grpc.insecure_channel(given["provision_endpoint"]) as channel:
    stub = beam_provision_api_pb2_grpc.ProvisionServiceStub(channel)
    request = beam_provision_api_pb2.GetProvisionInfoRequest()
    info = stub.GetProvisionInfo(request, metadata=[("worker_id", given["id"])]).info
control = given.get("control_endpoint") or info.control_endpoint.url
SdkHarness(control, worker_id=given["id"]).run()
