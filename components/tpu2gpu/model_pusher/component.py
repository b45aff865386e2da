"""The ModelPusher component."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from tfx.types.channel import BaseChannel

from tpu2gpu.errors import PromotionRefusedError
from tpu2gpu.model_pusher.interface import MODEL_PUSHER
from tpu2gpu.model_pusher.options import PushOptions
from tpu2gpu.storage.promotion.promoting import check_signed, promote_model
from tpu2gpu.storage.promotion.verdicts import EvaluationVerdict, check_verdict
from tpu2gpu.storage.publishing import read_manifest
from tpu2gpu.tfx.artifacts import model_source
from tpu2gpu.tfx.component_base import StepComponent
from tpu2gpu.tfx.step import Step


class ModelPusher(StepComponent):
    """Promotes a model that both blessings bless, and that is the very one that they were given to.

    Outputs: `pushed_model` (with `pushed`, `pushed_destination` and `pushed_version`, as TFX's stock Pusher has them).
    A model that is not blessed is not promoted; the step ends well, and says why in its log and on the artifact.

    Args:
        model: The serving folder.
        model_blessing: The verdict on its outputs.
        infra_blessing: The verdict on its latency.
        promotion_uri: The promotion folder, which servers poll.
        options: How to promote.
    """

    FUNCTION = promote_model
    INTERFACE = MODEL_PUSHER

    def __init__(
        self,
        model: BaseChannel,
        model_blessing: BaseChannel,
        infra_blessing: BaseChannel,
        promotion_uri: str,
        options: PushOptions | None = None,
    ) -> None:
        super().__init__(
            options,
            model=model,
            model_blessing=model_blessing,
            infra_blessing=infra_blessing,
            promotion_uri=promotion_uri,
        )

    @classmethod
    def run(cls, step: Step) -> None:
        """Promote the model, or publish why it is not.

        Raises:
            Tpu2GpuError: The promotion folder cannot take it.
        """
        source, options = Path(model_source(step.input("model"))), cls.options(step)
        pushed, log = step.output("pushed_model"), logging.getLogger("tpu2gpu")
        verdict = verdict_of(step.input("model_blessing"), step.input("infra_blessing"))
        try:
            check_verdict(verdict, read_manifest(source), require_level=options.require_level)
            check_signed(source, options.require_signature)
        except PromotionRefusedError as error:
            reason = "; ".join(error.details)
            log.warning("not promoted: %s", reason)
            pushed.set_int_custom_property("pushed", 0)
            pushed.set_string_custom_property("reason", reason)
            return
        result = promote_model(
            source,
            step.properties["promotion_uri"],
            verdict,
            name=options.name,
            require_level=options.require_level,
            keep=options.keep,
            grace_s=options.grace_s,
            settle_s=options.settle_s,
            sign=options.sign,
            require_signature=options.require_signature,
            run_name=step.run_name,
        )
        said = "promoted" if result.changed else "is served already"
        log.info("%s version %d %s: %s", result.promotion.model, result.promotion.version, said, result.folder)
        pushed.set_int_custom_property("pushed", 1)
        pushed.set_string_custom_property("pushed_destination", str(result.folder))
        pushed.set_string_custom_property("pushed_version", str(result.promotion.version))


def verdict_of(model_blessing: Any, infra_blessing: Any) -> EvaluationVerdict:
    """Return the verdict that two blessings carry; one on two models is on neither."""
    texts = [
        {
            name: blessing.get_string_custom_property(name)
            for name in ("candidate_digest", "verified_level", "hardware_fingerprint", "reference_digest", "reasons")
        }
        for blessing in (model_blessing, infra_blessing)
    ]
    digests = {text["candidate_digest"] for text in texts}
    first = texts[0]
    return EvaluationVerdict(
        model_blessed=_is_blessed(model_blessing),
        infra_blessed=_is_blessed(infra_blessing),
        digest=digests.pop() if len(digests) == 1 else "",
        level=first["verified_level"] or "unverified",
        hardware=first["hardware_fingerprint"],
        reference_digest=first["reference_digest"],
        reasons=tuple(first["reasons"].splitlines()),
    )


def _is_blessed(blessing: Any) -> bool:
    return int(blessing.get_int_custom_property("blessed") or blessing.get_float_custom_property("blessed") or 0) == 1
