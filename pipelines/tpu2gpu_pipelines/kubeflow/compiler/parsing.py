"""KFP's own parsers over a compiled pipeline: what they do not know is a mistake, and not one to find on a cluster."""

from __future__ import annotations

import importlib
from typing import Any

import yaml

from tpu2gpu.errors import UnsupportedError
from tpu2gpu_pipelines.kubeflow.compiler.specification import Spec

_NEWER = "resourceCpuLimit"  # a field of KFP 2.10; an SDK that lacks it cannot judge a container strictly


def parse_documents(spec: Spec, platform: Spec | None) -> None:
    """Parse both documents with every parser that is installed, and load them as KFP's client would.

    Args:
        spec: The pipeline specification.
        platform: The Kubernetes document.

    Raises:
        UnsupportedError: A parser refuses.
    """
    from google.protobuf import json_format
    from kfp import components
    from kfp.pipeline_spec import pipeline_spec_pb2 as proto

    try:
        json_format.ParseDict(spec, proto.PipelineSpec())
        resources = proto.PipelineDeploymentConfig.PipelineContainerSpec.ResourceSpec.DESCRIPTOR
        knows_all = any(field.json_name == _NEWER for field in resources.fields)
        deployment = proto.PipelineDeploymentConfig()
        json_format.ParseDict(spec["deploymentSpec"], deployment, ignore_unknown_fields=not knows_all)
        if platform:
            json_format.ParseDict(platform, proto.PlatformSpec())
            _parse_configs(platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"])
        components.load_component_from_text(yaml.safe_dump_all([it for it in (spec, platform) if it]))
    except (json_format.ParseError, ValueError, TypeError, KeyError) as error:
        found = " ".join(str(error).split())
        raise UnsupportedError(f"KFP's own parser refuses the pipeline: {found}") from error


def _parse_configs(executors: dict[str, Any]) -> None:
    """Parse these where KFP has a parser that knows tolerations; 2.5 has none."""
    from google.protobuf import json_format

    try:
        proto = importlib.import_module("kfp.kubernetes.kubernetes_executor_config_pb2")
    except ModuleNotFoundError:
        return
    for config in executors.values():
        json_format.ParseDict(config, proto.KubernetesExecutorConfig())
