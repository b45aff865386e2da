"""Section `kubeflow` of the settings: images, machines, volumes, secrets, run parameters, schedule and server."""

from __future__ import annotations

import re
from typing import Any

import attrs

from tpu2gpu.errors import UsageError
from tpu2gpu.options import option
from tpu2gpu_pipelines.quantities import to_cpus, to_gigabytes, to_seconds

_SECRETIVE = re.compile(r"passw|secret|token|credential|api_?key|private_?key", re.IGNORECASE)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRETS = "use secrets"


@attrs.frozen(kw_only=True)
class TpuOptions:
    """A slice of TPU chips for one step.

    Where several hosts carry it, as they do `4x8`, the step launches a pod on each of them by a JobSet.

    Attributes:
        type: Generation: `v4`, `v5e`, `v5p`, `v6e`.
        topology: How the chips are laid out, `2x2` or `2x2x1`; their product is the number of chips.
        service_account: As which the pods of several hosts run; they need no rights in the cluster.
    """

    type: str = option("v5e", "generation of the TPU", choices=("v4", "v5e", "v5p", "v6e"))
    topology: str = option("2x2", "how the chips are laid out", metavar="NxN")
    service_account: str = option("tpu2gpu-worker", "as which the pods of several hosts run")


@attrs.frozen(kw_only=True)
class GpuOptions:
    """GPUs for one step.

    Attributes:
        type: Model as the cluster's nodes are labelled with; any where it is empty.
        count: How many.
    """

    type: str = option("", "model of the GPU, as the nodes are labelled")
    count: int = option(1, "how many", minimum=1)


@attrs.frozen(kw_only=True)
class Toleration:
    """A taint that a step's pod tolerates."""

    key: str = option("", "the taint's key")
    operator: str = option("Exists", "how to compare", choices=("Exists", "Equal"))
    value: str = option("", "the taint's value")
    effect: str = option("NoSchedule", "what the taint does", choices=("NoSchedule", "PreferNoSchedule", "NoExecute"))


@attrs.frozen(kw_only=True)
class Volume:
    """A persistent volume claim that steps see as a folder.

    Attributes:
        claim: The claim's name.
        path: Where the folder is.
    """

    claim: str = option("", "the claim's name")
    path: str = option("", "where the folder is")

    def __attrs_post_init__(self) -> None:
        """Check that both are there.

        Raises:
            UsageError: One is missing, or the path is relative.
        """
        if not self.claim or not self.path.startswith("/"):
            raise UsageError("a volume needs a claim and an absolute path")


@attrs.frozen(kw_only=True)
class Secret:
    """A Kubernetes secret, as an environment variable or as a folder of files; its value never enters the pipeline.

    Attributes:
        name: The secret's name.
        key: Its entry, for an environment variable.
        env: The environment variable.
        path: The folder, where it is no variable.
    """

    name: str = option("", "the secret's name")
    key: str = option("", "its entry")
    env: str = option("", "the environment variable")
    path: str = option("", "the folder, where it is no variable")

    @env.validator
    def _check_env(self, attribute: attrs.Attribute[str], value: str) -> None:
        if value and not _VARIABLE.fullmatch(value):
            raise UsageError(f"env '{value}': not a name for an environment variable")

    def __attrs_post_init__(self) -> None:
        """Check that it is one thing or the other.

        Raises:
            UsageError: It is neither a variable nor a folder, or both.
        """
        as_variable, as_folder = bool(self.key and self.env), self.path.startswith("/")
        if not self.name or as_variable == as_folder:
            raise UsageError("a secret needs a name, and either key and env, or an absolute path")


def _texts(instance: Any, attribute: attrs.Attribute[Any], value: dict[str, Any]) -> None:
    _raise(attribute, [f"{name}: {wrong}" for name, text in value.items() if (wrong := _no_text(text))])


def _variables(instance: Any, attribute: attrs.Attribute[Any], value: dict[str, Any]) -> None:
    wrong = []
    for name, text in value.items():
        if not _VARIABLE.fullmatch(name):
            wrong.append(f"{name}: not a name for an environment variable")
        if _SECRETIVE.search(name):
            wrong.append(f"{name}: looks like a secret, and everybody could read it; {_SECRETS}")
        if found := _no_text(text):
            wrong.append(f"{name}: {found}")
    _raise(attribute, wrong)


def _parameters(instance: Any, attribute: attrs.Attribute[Any], value: dict[str, Any]) -> None:
    wrong = []
    for name, default in value.items():
        if _SECRETIVE.search(name):
            wrong.append(f"{name}: looks like a secret, and a run shows its parameters; {_SECRETS}")
        if not isinstance(default, str | int | float | None):
            wrong.append(f"{name}: must be text, a number or null, not {type(default).__name__}")
    _raise(attribute, wrong)


def _no_text(value: Any) -> str:
    return "" if isinstance(value, str) else f"must be text, not {type(value).__name__}; put it in quotes"


def _raise(attribute: attrs.Attribute[Any], wrong: list[str]) -> None:
    if wrong:
        raise UsageError(f"{attribute.name}: cannot be used", details=wrong)


@attrs.frozen(kw_only=True)
class StepOptions:
    """Where one step runs, and with what.

    Attributes:
        image: Its container image; the common one when empty.
        cpu: Processors, as Kubernetes writes them: `8` or `500m`.
        memory: Memory, as Kubernetes writes it: `16Gi`.
        tpu: TPU chips.
        gpu: GPUs.
        node_selector: Labels that its node must have, beside those of its accelerator.
        tolerations: Taints that it tolerates, beside those of its accelerator.
        env: Environment variables.
        secrets: Secrets that it sees.
        volumes: Volumes that it sees beside the common ones.
        cache: Whether a former result may serve; never for evaluation and promotion.
        retries: How often it starts again after a failure that may pass, or when its node is taken away.
        retry_within: How long after its first start it may start again: `90s`, `30m`, `12h` or `7d`. It must be longer
            than all tries together.
    """

    image: str = option("", "its container image")
    cpu: str = option("", "processors", metavar="QUANTITY")
    memory: str = option("", "memory", metavar="QUANTITY")
    tpu: TpuOptions | None = None
    gpu: GpuOptions | None = None
    node_selector: dict[str, str] = attrs.field(factory=dict, validator=_texts)
    tolerations: tuple[Toleration, ...] = ()
    env: dict[str, str] = attrs.field(factory=dict, validator=_variables)
    secrets: tuple[Secret, ...] = ()
    volumes: tuple[Volume, ...] = ()
    cache: bool = option(True, "whether a former result may serve")
    retries: int = option(0, "how often it starts again after a failure", minimum=0)
    retry_within: str = option("7d", "how long after its first start it may start again", metavar="DURATION")

    @cpu.validator
    @memory.validator
    @retry_within.validator
    def _check_amount(self, attribute: attrs.Attribute[str], value: str) -> None:
        if value or attribute.name not in ("cpu", "memory"):
            {"cpu": to_cpus, "memory": to_gigabytes, "retry_within": to_seconds}[attribute.name](value)

    def __attrs_post_init__(self) -> None:
        """Check what belongs together.

        Raises:
            UsageError: There are two kinds of accelerators.
        """
        if self.tpu and self.gpu:
            raise UsageError("tpu and gpu: a step has one kind of accelerator")


@attrs.frozen(kw_only=True)
class ScheduleOptions:
    """When the pipeline runs by itself.

    Attributes:
        name: The recurring run's name; the pipeline's when empty.
        cron: Six fields, seconds first: `0 0 2 * * *` is every night at two.
        interval_s: Seconds between two runs, where there is no cron expression.
    """

    name: str = option("", "the recurring run's name")
    cron: str = option("", "six fields, seconds first", metavar="CRON")
    interval_s: int | None = option(None, "seconds between two runs", minimum=60)

    def __attrs_post_init__(self) -> None:
        """Check that there is at most one trigger.

        Raises:
            UsageError: Both are given.
        """
        if self.cron and self.interval_s:
            raise UsageError("cron and interval_s: give one of them")

    @cron.validator
    def _check_cron(self, attribute: attrs.Attribute[str], value: str) -> None:
        if value and not value.startswith("@") and len(value.split()) != 6:
            raise UsageError(f"cron '{value}': must be six fields, seconds first, as in '0 0 2 * * *'")


@attrs.frozen(kw_only=True)
class ServerOptions:
    """Where Kubeflow Pipelines answers, and as whom to speak to it.

    Attributes:
        host: Its address; `KF_PIPELINES_ENDPOINT` or the cluster's own when empty.
        namespace: Of the runs, in a multi-user installation.
        experiment: Which the runs belong to; the pipeline's name when empty.
        dashboard: Address of the dashboard; `KF_PIPELINES_UI_ENDPOINT` when empty, or the host where one answers there.
        token_file: File with a bearer token.
        service_account_token: Use the service account's token that Kubernetes mounts into a pod.
        cookies_file: File with the cookies of a session.
        ca_file: Certificates to trust, beside the usual ones.
        timeout_s: How long a run may take before `submit` stops waiting.
    """

    host: str = option("", "address of Kubeflow Pipelines", metavar="URL")
    namespace: str = option("", "namespace of the runs")
    experiment: str = option("", "experiment that the runs belong to")
    dashboard: str = option("", "address of the dashboard, where it is another than the host", metavar="URL")
    token_file: str = option("", "file with a bearer token", metavar="FILE")
    service_account_token: bool = option(False, "use the service account's token that Kubernetes mounts into a pod")
    cookies_file: str = option("", "file with the cookies of a session", metavar="FILE")
    ca_file: str = option("", "certificates to trust", metavar="FILE")
    timeout_s: float = option(86400.0, "how long to wait for a run's end", minimum=1)

    def __attrs_post_init__(self) -> None:
        """Check that there is one way to authenticate.

        Raises:
            UsageError: There are several.
        """
        ways = {
            "token_file": self.token_file,
            "service_account_token": self.service_account_token,
            "cookies_file": self.cookies_file,
        }
        if len(given := [name for name, value in ways.items() if value]) > 1:
            raise UsageError(f"{' and '.join(given)}: give one of them")


@attrs.frozen(kw_only=True)
class KubeflowOptions:
    """How the pipeline becomes one of Kubeflow's.

    Attributes:
        platform: What runs it: open-source Kubeflow on Kubernetes, Vertex AI, or KFP's own runner on this machine.
        cluster: How its nodes are labelled: as Google's (`gke`), or by NVIDIA's GPU feature discovery (`plain`).
        image: Container image of the steps that name none of their own.
        pipeline_root: Where the steps' outputs go; the installation's own place when empty.
        service_account: As which the steps run.
        image_pull_secrets: Secrets to pull the images with.
        run_as_user: The user that the steps run as; the images' own, 1000, when None.
        run_as_group: The group that the steps run as; the images' own, 1000, when None.
        env: Environment variables of every step.
        volumes: Volumes that every step sees.
        parameters: Run parameters and their defaults. Each feeds every step parameter of its name. Where a default is
            null, the settings' own value is it.
        steps: For component ids where they run.
        schedule: When the pipeline runs by itself.
        server: Where Kubeflow Pipelines answers.
    """

    platform: str = option("kubernetes", "what runs it", choices=("kubernetes", "vertex", "local"))
    cluster: str = option("gke", "how its nodes are labelled", choices=("gke", "plain"))
    image: str = option("", "container image of the steps")
    pipeline_root: str = option("", "where the steps' outputs go", metavar="URI")
    service_account: str = option("", "service account of the steps")
    image_pull_secrets: tuple[str, ...] = option((), "secrets to pull the images with")
    run_as_user: int | None = option(None, "the user that the steps run as", minimum=0)
    run_as_group: int | None = option(None, "the group that the steps run as", minimum=0)
    env: dict[str, str] = attrs.field(factory=dict, validator=_variables)
    volumes: tuple[Volume, ...] = ()
    parameters: dict[str, Any] = attrs.field(factory=dict, validator=_parameters)
    steps: dict[str, StepOptions] = attrs.field(factory=dict)
    schedule: ScheduleOptions = attrs.field(factory=ScheduleOptions)
    server: ServerOptions = attrs.field(factory=ServerOptions)

    def user(self) -> dict[str, int]:
        """Return as whom the steps run, in Kubernetes' terms; nothing where the images say it."""
        said = {"runAsUser": self.run_as_user, "runAsGroup": self.run_as_group}
        return {name: number for name, number in said.items() if number is not None}

    def step(self, name: str) -> StepOptions:
        """Return the options of one step: its own over the common ones."""
        own = self.steps.get(name, StepOptions())
        return attrs.evolve(
            own,
            image=own.image or self.image,
            env={**self.env, **own.env},
            volumes=(*self.volumes, *own.volumes),
        )
